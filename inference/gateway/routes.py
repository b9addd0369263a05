"""Keeps the routing table: followed from control by long poll, and on file for when control is down.

Without control it stays in force for a while, so that requests are served on; but not for ever, because a key
that was revoked meanwhile would work for as long.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from common.clock import Clock
from common.durable import put_in_place
from common.settings import Settings
from common.telemetry import get_logger
from common.wire import RoutingTable
from inference.gateway.addresses import ControlAddresses
from inference.gateway.table import RouteIndex

WAIT_SECONDS = 20
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
_log = get_logger("gateway.routes")


class RouteFollower:
    """``index`` is always the newest table known; empty until one was ever seen."""

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        clock: Clock,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.index = RouteIndex(RoutingTable(version=""))
        self._confirmed_seconds: float | None = None
        self._max_age_seconds = settings.gateway.routes_max_age_seconds
        self._control = ControlAddresses(settings)
        self._headers = {"Authorization": f"Bearer {settings.internal_token}"}
        self._file = settings.folder("spool") / "routes.json"
        self._session = session
        self._clock = clock
        self._changed = changed

    @property
    def known(self) -> bool:
        return self.index.version != ""

    @property
    def age_seconds(self) -> float | None:
        """Since control last confirmed the table, to this gateway or an earlier one; None = never."""
        if self._confirmed_seconds is None:
            return None
        return self._clock.monotonic_seconds() - self._confirmed_seconds

    def load(self) -> None:
        """Take up the table that an earlier run kept, if it is there, whole and not too old."""
        try:
            table = RoutingTable.model_validate_json(self._file.read_bytes())
            age_seconds = self._clock.now_ms() / 1000 - self._file.stat().st_mtime
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            _log.warning("kept routing table is not usable", file=str(self._file), error=str(error))
            return
        self._confirmed_seconds = self._clock.monotonic_seconds() - max(0.0, age_seconds)
        self.index = RouteIndex(table)
        self._forget_what_is_too_old()

    def _forget_what_is_too_old(self) -> None:
        """Keys that were revoked since must not work for ever because control is away."""
        age_seconds = self.age_seconds
        if self.known and age_seconds is not None and age_seconds > self._max_age_seconds:
            _log.error("the routing table is too old to be used", age_seconds=round(age_seconds))
            self.index = RouteIndex(RoutingTable(version=""))
            self._changed()

    async def follow(self) -> None:
        """Poll until cancelled; while control is away, the last table stays in force."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self.poll(WAIT_SECONDS)
                pause = _FIRST_PAUSE_SECONDS
            except (aiohttp.ClientError, OSError, ValidationError) as error:
                _log.warning("no routing table from control", error=str(error) or type(error).__name__)
                self._forget_what_is_too_old()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def poll(self, wait_seconds: float) -> bool:
        """Ask once; True when a new table came. Raises aiohttp's errors when control fails."""
        query = {"since": self.index.version, "wait_seconds": str(wait_seconds)}
        timeout = aiohttp.ClientTimeout(total=wait_seconds + 15)
        with self._control.asking("/internal/v1/routes") as url:
            async with self._session.get(
                url, params=query, headers=self._headers, timeout=timeout
            ) as response:
                if response.status == 304:
                    self._confirmed_seconds = self._clock.monotonic_seconds()
                    await asyncio.to_thread(_touch, self._file)
                    return False
                response.raise_for_status()
                content = await response.read()
        self.index = RouteIndex(RoutingTable.model_validate_json(content))
        self._confirmed_seconds = self._clock.monotonic_seconds()
        self._changed()
        await asyncio.to_thread(_write_atomically, self._file, content)
        _log.info("routing table", version=self.index.version, routes=len(self.index.routes))
        return True


def _touch(path: Path) -> None:
    """The time of the file is when control last confirmed what is in it."""
    with suppress(OSError):
        os.utime(path)


def _write_atomically(path: Path, content: bytes) -> None:
    """Replace the file as a whole, readable by the owner only: it holds key digests."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    put_in_place(draft, path)
