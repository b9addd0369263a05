"""One question that stays open at each agent: whether something is other than it last told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError

OPEN_SECONDS = 20.0
"""So long a question stays open at an agent, which then says that nothing is new. That of a control process
that was killed ends with it."""
ANSWER_SECONDS = 5.0
UNTOLD_SECONDS = 2.0
"""How long nobody waits at most where agents of an earlier version know no such question."""


class Watch:
    """The question at one agent. ``version``: of what it told last."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._task: asyncio.Task[None] | None = None
        self.version = ""

    def open(self, instance: str, tell: Callable[[], None]) -> bool:
        """Ask, unless it is asked already. ``tell`` is called when something is new, or when the agent does
        not answer. Returns whether it knows the question."""
        if not hasattr(self._agent, "changed"):
            return False
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask(instance, tell))
        return True

    async def _ask(self, instance: str, tell: Callable[[], None]) -> None:
        with suppress(RayError, TimeoutError):  # whoever looks at the node then finds out
            told = self.version
            while told == self.version:
                question = self._agent.changed.remote(instance, self.version, OPEN_SECONDS)
                told = await asyncio.wait_for(question, OPEN_SECONDS + ANSWER_SECONDS)
        tell()

    def drop(self) -> None:
        """Nobody waits for the answer any more."""
        if self._task is not None:
            self._task.cancel()
