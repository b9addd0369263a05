"""What this gateway has counted of the sides of each trial of a canary, and the telling of it.

Control sums up what all gateways tell. Told is all that was counted of a trial, again and again: so control
may be away, or begin anew, and nothing is missed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import aiohttp

from common.ids import new_id
from common.settings import Settings
from common.telemetry import get_logger
from common.wire import MAX_TRIALS, RouteCanary, SideCounts, TrialCounts, TrialReport
from inference.core.canary.judge import step_of
from inference.core.canary.split import SIDES, Side
from inference.gateway.control_link.addresses import ControlAddresses

TELL_SECONDS = 1.0
REPEAT_SECONDS = 10.0
"""Where nothing new was counted."""
_ANSWER_SECONDS = 5.0
_JSON = {"Content-Type": "application/json"}
_log = get_logger("gateway.tallies")


@dataclass
class _Tally:
    requests: int = 0
    failed: int = 0
    first_tokens: Counter[int] = field(default_factory=Counter)

    @property
    def counts(self) -> SideCounts:
        return SideCounts(requests=self.requests, failed=self.failed, first_tokens=dict(self.first_tokens))


class Tallies:
    """In memory; a gateway that is killed has told all but the last second."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._control = ControlAddresses(settings)
        self._headers = _JSON | {"Authorization": f"Bearer {settings.internal_token}"}
        self._session = session
        self._gateway = ""
        self._tallies: dict[tuple[str, str], dict[Side, _Tally]] = {}
        self._is_news = False

    def keep_only(self, canaries: Iterable[RouteCanary]) -> None:
        """Forget trials that no route names any more."""
        named = {(one.endpoint, one.trial) for one in canaries}
        self._tallies = {key: tally for key, tally in self._tallies.items() if key in named}

    def count(self, canary: RouteCanary, side: Side, *, failed: bool, ttft_ms: float | None) -> None:
        """A request of a side was answered, or failed there. ``ttft_ms``: until a stream's first token came,
        or its client left without one; None where there is no such time."""
        key = (canary.endpoint, canary.trial)
        tally = self._tallies.setdefault(key, {one: _Tally() for one in SIDES})[side]
        tally.requests += 1
        tally.failed += failed
        if ttft_ms is not None:
            tally.first_tokens[step_of(ttft_ms)] += 1
        self._is_news = True

    def reports(self) -> list[TrialReport]:
        """All that there is to tell, in parts that control takes."""
        self._gateway = self._gateway or new_id("gw")
        trials = [
            TrialCounts(
                endpoint=endpoint, trial=trial, canary=tally["canary"].counts, stable=tally["stable"].counts
            )
            for (endpoint, trial), tally in self._tallies.items()
        ]
        return [
            TrialReport(gateway=self._gateway, trials=tuple(trials[at : at + MAX_TRIALS]))
            for at in range(0, len(trials), MAX_TRIALS)
        ]

    async def run(self) -> None:
        """Tell until cancelled. Where control is away, all is told when it is back."""
        clock = asyncio.get_running_loop().time
        told_seconds = clock()
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if not self._tallies or not (self._is_news or clock() - told_seconds >= REPEAT_SECONDS):
                continue
            self._is_news, told_seconds = False, clock()
            try:
                await self.tell()
            except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad report must not end it
                _log.warning("control does not hear of canaries", error=str(error) or type(error).__name__)
                self._is_news = True

    async def tell(self) -> None:
        """Tell once. Raises aiohttp's errors."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        for report in self.reports():
            content = report.model_dump_json()
            with self._control.asking("/internal/v1/trials") as url:
                async with self._session.post(
                    url, data=content, headers=self._headers, timeout=timeout
                ) as response:
                    response.raise_for_status()
