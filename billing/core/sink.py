"""Where parts of control bring the usage that they have observed themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from billing.core.events import UsageEvent
from common.errors import InvalidInput


class Posted(Protocol):
    """What became of events."""

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why those that can be neither rated nor written are not posted, by id."""
        ...


class UsageSink(Protocol):
    """Takes usage events; the same id twice counts once."""

    async def post(self, events: Sequence[UsageEvent]) -> Posted: ...


async def post_all(sink: UsageSink, events: Sequence[UsageEvent]) -> None:
    """Return when all are posted. Raises ``InvalidInput`` where one cannot be: then the others are, and they
    may be posted again."""
    reasons = (await sink.post(events)).reasons
    if reasons:
        raise InvalidInput(next(iter(reasons.values())))
