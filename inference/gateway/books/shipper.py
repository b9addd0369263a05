"""Brings spooled usage events to control, at least once each; the ledger posts each once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import SetupError, Unavailable
from common.settings import Settings
from common.telemetry import get_logger
from inference.gateway.books.aside import read_rejected, set_aside, signature, take_out
from inference.gateway.books.recovery import is_left, recover
from inference.gateway.books.spool import Spool, read_segment
from inference.gateway.control_link.addresses import ControlAddresses

BATCH_EVENTS = 500
TICK_SECONDS = 0.3
_LONGEST_PAUSE_SECONDS = 10.0
_REJECTED = frozenset({400, 413, 422})
_log = get_logger("gateway.shipper")

_Refused = list[tuple[dict[str, Any], str]]
"""Events that control does not take, with its reasons."""


class Shipper:
    """Ships this gateway's segments, and those that gateways on other ports left when they died."""

    def __init__(
        self, settings: Settings, session: aiohttp.ClientSession, spool: Spool, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._control = ControlAddresses(settings)
        self._headers = {"Authorization": f"Bearer {settings.internal_token}"}
        self._session = session
        self._spool = spool
        self._tried: dict[Path, tuple[int, int] | None] = {}
        self._clock = clock
        self.posted_before = float("-inf")
        """In monotonic seconds: what was spooled before is posted, or set aside."""

    async def run(self) -> None:
        """Ship until cancelled, with growing pauses while control does not take anything."""
        pause = TICK_SECONDS
        while True:
            try:
                await self.step()
                await self.adopt()
                await self.retry(self._spool.folder)
                pause = TICK_SECONDS
            except (aiohttp.ClientError, OSError, Unavailable) as error:
                _log.warning("usage events wait for control", error=str(error) or type(error).__name__)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - the loop's boundary: what is spooled must not wait for ever
                _log.exception("usage events could not be shipped")
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def step(self) -> None:
        """Ship all there is. Left-overs go first, so that nothing is sealed while control is away."""
        began = self._clock.monotonic_seconds()
        for path in self._spool.sealed():
            await self._ship(path)
        await self._spool.seal()
        for path in self._spool.sealed():
            await self._ship(path)
        self.posted_before = began

    async def adopt(self) -> None:
        """Ship what lies in spool folders that no living gateway holds, and what their journals tell."""
        for folder in sorted(self._spool.folder.parent.iterdir()):
            if folder == self._spool.folder or not folder.is_dir():
                continue
            if not is_left(folder) and not self._has_changed(folder):
                continue
            try:
                left = Spool(folder)
            except SetupError:
                continue  # its gateway lives
            try:
                await recover(left)
                await left.seal()
                for path in left.sealed():
                    await self._ship(path)
                await self.retry(folder)
            finally:
                await left.close()

    async def retry(self, folder: Path) -> None:
        """Post again what was set aside, once after a start and after each change of the file."""
        if not self._has_changed(folder):
            return
        found = signature(folder)  # before it is read: what changes meanwhile is seen the next time
        lines = await asyncio.to_thread(read_rejected, folder)
        whole = {line.event.id: (line.text, line.event.to_dict()) for line in lines if line.event is not None}
        events = [event for _, event in whole.values()]
        refused: set[str] = set()
        for start in range(0, len(events), BATCH_EVENTS):
            refused.update(event["id"] for event, _ in await self._post(events[start : start + BATCH_EVENTS]))
        posted = {text for id_, (text, _) in whole.items() if id_ not in refused}
        if posted:
            await asyncio.to_thread(take_out, folder, posted)
            _log.info("usage that was set aside is posted", folder=str(folder), events=len(posted))
        self._tried[folder] = found

    def _has_changed(self, folder: Path) -> bool:
        return signature(folder) != self._tried.get(folder)

    async def _ship(self, path: Path) -> None:
        segment = await asyncio.to_thread(read_segment, path)
        if segment.unreadable:
            await set_aside(path.parent, segment.unreadable)
        for start in range(0, len(segment.events), BATCH_EVENTS):
            await set_aside(path.parent, await self._post(segment.events[start : start + BATCH_EVENTS]))
        path.unlink()

    async def _post(self, events: list[dict[str, Any]]) -> _Refused:
        """Post a batch. Returns what control refuses, however it says so.

        It names single events beside those that it takes; where it refuses the batch as a whole, that is
        halved until the bad event stands alone.
        """
        timeout = aiohttp.ClientTimeout(total=30)
        with self._control.asking("/internal/v1/usage-events") as url:
            async with self._session.post(
                url, json={"events": events}, headers=self._headers, timeout=timeout
            ) as response:
                if response.status not in _REJECTED:
                    response.raise_for_status()
                    refused = (await response.json()).get("rejected", ())
                    return [(events[one["index"]], one["message"]) for one in refused]
                reason = (await response.text())[:500]
        if len(events) == 1:
            return [(events[0], reason)]
        middle = len(events) // 2
        return [*await self._post(events[:middle]), *await self._post(events[middle:])]
