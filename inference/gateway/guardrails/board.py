"""What guards have found, by guard: told to control from time to time, never with a text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp

from common.settings import Settings
from common.telemetry import get_logger
from common.wire import MAX_GUARD_HITS, GuardHits, GuardReport
from inference.gateway import metrics
from inference.gateway.control_link.addresses import ControlAddresses
from inference.guardrails.walking import Hit

TELL_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_PATH_CHARACTERS = 200
_JSON = {"Content-Type": "application/json"}
_Key = tuple[str, str, str, str]
_log = get_logger("gateway.guardrails")


class HitBoard:
    """Sums of the last seconds, and for each the request that was the last. In memory: a gateway that is
    killed has told all but these."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._control = ControlAddresses(settings)
        self._headers = _JSON | {"Authorization": f"Bearer {settings.internal_token}"}
        self._session = session
        self._sums: dict[_Key, GuardHits] = {}

    def told(self, direction: str, request_id: str, hits: Iterable[Hit]) -> None:
        """Count what was found in a request, or in its answer."""
        for hit in hits:
            rule = hit.rule
            metrics.GUARD_HITS.labels(rule.detector.name, rule.action, direction).inc(hit.count)
            key = (rule.guardrail, rule.guard, rule.action, direction)
            known = self._sums.get(key)
            if known is None and len(self._sums) >= MAX_GUARD_HITS:
                continue
            self._sums[key] = GuardHits(
                guardrail=rule.guardrail,
                guard=rule.guard,
                action=rule.action,
                direction=direction,
                count=hit.count + (known.count if known is not None else 0),
                request_id=request_id,
                path=hit.path[:_PATH_CHARACTERS],
            )

    async def run(self) -> None:
        """Tell until cancelled. What control did not hear is told with the next."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if not self._sums:
                continue
            try:
                await self.tell()
            except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad report must not end it
                _log.warning("control does not hear of guards", error=str(error) or type(error).__name__)

    async def tell(self) -> None:
        """Tell once. Raises aiohttp's errors."""
        told = dict(self._sums)
        report = GuardReport(hits=tuple(told.values()))
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        with self._control.asking("/internal/v1/guard-hits") as url:
            async with self._session.post(
                url, data=report.model_dump_json(), headers=self._headers, timeout=timeout
            ) as response:
                response.raise_for_status()
        for key, was in told.items():
            now = self._sums[key]
            if now is was:
                del self._sums[key]
            else:
                self._sums[key] = now.model_copy(update={"count": now.count - was.count})
