"""Tells control what this gateway has learned, for people who ask. Control forgets it after a while."""

from __future__ import annotations

import asyncio

import aiohttp

from common.ids import new_id
from common.settings import Settings
from common.telemetry import get_logger
from inference.gateway.control_link.addresses import ControlAddresses
from inference.gateway.learning.thresholds import Thresholds

TELL_SECONDS = 15.0
_ANSWER_SECONDS = 5.0
_log = get_logger("gateway.learning")


class ThresholdTeller:
    """Nothing is told where nothing is learned."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, thresholds: Thresholds) -> None:
        self._control = ControlAddresses(settings)
        self._headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {settings.internal_token}",
        }
        self._session, self._thresholds = session, thresholds
        self._gateway = ""

    async def run(self) -> None:
        """Tell until cancelled. Where control is away, it is told when it is back."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            try:
                await self.tell()
            except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad report must not end it
                _log.warning("control does not hear what was learned", error=type(error).__name__)

    async def tell(self) -> None:
        """Tell once. Raises aiohttp's errors."""
        self._gateway = self._gateway or new_id("gw")
        report = self._thresholds.report(self._gateway)
        if not report.thresholds:
            return
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        with self._control.asking("/internal/v1/thresholds") as url:
            async with self._session.post(
                url, data=report.model_dump_json(), headers=self._headers, timeout=timeout
            ) as response:
                response.raise_for_status()
