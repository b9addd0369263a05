"""A dry run of new price books over past usage: the difference for each tenant. Nothing is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from billing.core.events import UsageEvent
from billing.core.rating import PriceBook
from billing.core.trial import Trial
from billing.store import Ledger, UsageFilter
from billing.store.past import Posted, past_usage
from common.errors import InvalidInput

MOST_EVENTS = 500_000
"""That one dry run rates."""


async def dry_run(
    ledger: Ledger,
    standing: Sequence[PriceBook],
    proposed: Sequence[PriceBook],
    from_ms: int,
    to_ms: int,
    tenant: str | None = None,
) -> Mapping[str, Any]:
    """What usage of the span would have cost with ``proposed`` books, by tenant; only of tenants that these
    are for, and of ``tenant`` alone where it is given.

    Raises ``InvalidInput`` for a span that ends before it begins or has more than ``MOST_EVENTS`` events.
    """
    if to_ms <= from_ms:
        raise InvalidInput("to: must be after from", param="to")
    trial = Trial(standing, proposed)
    among = _among(trial.audiences, tenant)
    await _check_size(ledger, from_ms, to_ms, among)
    async for page in past_usage(ledger.database, from_ms, to_ms, among):
        await asyncio.to_thread(_add, trial, page)
    return trial.to_dict()


def _among(audiences: Collection[str | None], tenant: str | None) -> set[str] | None:
    """The tenants whose usage is rated; None = all."""
    wanted = None if None in audiences else {name for name in audiences if name is not None}
    if tenant is None:
        return wanted
    return {tenant} if wanted is None or tenant in wanted else set()


async def _check_size(ledger: Ledger, from_ms: int, to_ms: int, among: set[str] | None) -> None:
    held = {} if among is None else {"tenant": sorted(among)}
    if among is not None and not among:
        return
    [total] = await ledger.usage((), UsageFilter(from_ms=from_ms, to_ms=to_ms, among=held))
    if total.events > MOST_EVENTS:
        raise InvalidInput(
            f"from: {total.events} events are more than {MOST_EVENTS}; ask for a shorter time or one tenant",
            param="from",
        )


def _add(trial: Trial, page: Sequence[Posted]) -> None:
    for document, microcredits in page:
        trial.add(UsageEvent.from_dict(json.loads(document)), microcredits)
