"""How one request came to the model that is asked: through a Route, or by the name of an external model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from common.data_class import DataClass
from common.errors import ComputilityError
from inference.core.one_door.telling import Way


class AnswerFailed(ComputilityError):
    """An answer did not pass the checks of a cascade. ``content``: it, as the client may have it; it is
    billed."""

    def __init__(self, why: str, content: bytes) -> None:
        super().__init__(f"the answer failed a check: {why}", code="answer_failed")
        self.why, self.content = why, content


@dataclass
class Passage:
    """``model``: what the client calls it. ``data_class``, ``regions``: what binds its data. ``waits``: no
    other candidate is left, so that an engine is waited for. ``check`` says what is wrong with an answer in
    one piece, empty for nothing; None where none is looked at."""

    model: str
    way: Way
    data_class: DataClass
    regions: frozenset[str] | None
    waits: bool = True
    check: Callable[[bytes], str] | None = None
    limit: asyncio.Timeout | None = None
    provider: str = ""
    """Of an external model."""
    labels: dict[str, str] = field(default_factory=dict)
    """What the usage event is told at its end."""

    @property
    def is_timed(self) -> bool:
        """Whether the next candidate is asked if the answer does not begin in time: until it does, the client
        is sent nothing."""
        return self.limit is not None and self.limit.when() is not None

    def began(self) -> None:
        """The answer has begun: its deadline is kept."""
        if self.limit is not None:
            self.limit.reschedule(None)

    def labels_at_first(self) -> dict[str, str]:
        """What the usage event is told from its beginning: usage of others is estimated until they tell."""
        outside = {"provider": self.provider, "usage": "estimated"} if self.provider else {}
        return {**self.way.names(), **outside}

    def labels_at_the_end(self) -> dict[str, str]:
        """What the usage event is told when it is known."""
        return {**self.labels, "route_tried": self.way.tried_in_words()}

    def look_at(self, content: bytes) -> AnswerFailed | None:
        """What is wrong with the answer; None where nothing is, or nobody looks."""
        if self.check is None:
            return None
        why = self.check(content)
        if not why:
            return None
        self.labels["route_check"] = why
        return AnswerFailed(why, content)
