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

from common.clock import Clock
from common.durable import put_in_place
from common.errors import NotFound, Unauthenticated
from common.settings import Settings
from common.telemetry import get_logger
from common.wire import Route, RouteKey, RoutingTable
from inference.gateway.control_link.addresses import ControlAddresses
from inference.gateway.control_link.table import RouteIndex

WAIT_SECONDS = 20
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
RENEWALS_PER_SECOND, MOST_RENEWALS = 1.0, 10.0
"""How often control is asked for the sake of a request that names what is not known here, and how often in a
row: unknown keys cost nobody more than that."""
RENEWAL_SECONDS = 2.0
"""The longest that such a request waits for control."""
_log = get_logger("gateway.routes")


class UnusableTable(Exception):
    """A table that this gateway cannot read: broken, or with what it does not know, as a time zone."""


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
        self._writing = asyncio.Lock()
        self._renewing = asyncio.Lock()
        self._renewals, self._left, self._left_seconds = 0, MOST_RENEWALS, clock.monotonic_seconds()

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
            index = _index_of(self._file.read_bytes())
            age_seconds = self._clock.now_ms() / 1000 - self._file.stat().st_mtime
        except FileNotFoundError:
            return
        except (OSError, UnusableTable) as error:
            _log.warning("kept routing table is not usable", file=str(self._file), error=str(error))
            return
        self._confirmed_seconds = self._clock.monotonic_seconds() - max(0.0, age_seconds)
        self.index = index
        self._forget_what_is_too_old()

    def _forget_what_is_too_old(self) -> None:
        """Keys that were revoked since must not work for ever because control is away."""
        age_seconds = self.age_seconds
        if self.known and age_seconds is not None and age_seconds > self._max_age_seconds:
            _log.error("the routing table is too old to be used", age_seconds=round(age_seconds))
            self.index = RouteIndex(RoutingTable(version=""))
            self._changed()

    async def key_of(self, authorization: bytes) -> RouteKey:
        """The bearer key, also one that was made a moment ago. Raises as ``RouteIndex.key_of`` does."""
        index = self.index
        try:
            return index.key_of(authorization, self._clock)
        except Unauthenticated:
            if not index.misses(authorization):
                raise
            return (await self.renewed()).key_of(authorization, self._clock)

    async def key_with(self, digest: str) -> RouteKey:
        """The key of this digest, also one that was made a moment ago. Raises as ``RouteIndex.in_force``
        does."""
        try:
            return self.index.in_force(digest, self._clock.now_ms())
        except Unauthenticated:
            return (await self.renewed()).in_force(digest, self._clock.now_ms())

    async def find(self, digest: str, model: str) -> tuple[RouteKey, Route]:
        """What ``model`` means to the holder of the key, also one that was made a moment ago. Raises as
        ``RouteIndex.in_force`` and ``RouteIndex.find`` do."""
        try:
            return self._found(self.index, digest, model)
        except NotFound:
            return self._found(await self.renewed(), digest, model)

    def _found(self, index: RouteIndex, digest: str, model: str) -> tuple[RouteKey, Route]:
        key = index.in_force(digest, self._clock.now_ms())
        return key, index.find(key.principal, model)

    async def renewed(self) -> RouteIndex:
        """The table as control has it now, asked for once for all who wait; the one at hand where control
        does not answer, or was asked often lately."""
        before = self._renewals
        async with self._renewing:
            if self._renewals == before and self._may_renew():
                self._renewals += 1
                url = self._control.url
                try:
                    async with asyncio.timeout(RENEWAL_SECONDS):
                        await self.poll(0.0)
                except TimeoutError:  # one that hangs takes connections and says nothing
                    self._control.pass_over(url)
                except (aiohttp.ClientError, OSError, UnusableTable):
                    pass
        return self.index

    def _may_renew(self) -> bool:
        now = self._clock.monotonic_seconds()
        earned = RENEWALS_PER_SECOND * (now - self._left_seconds)
        self._left, self._left_seconds = min(MOST_RENEWALS, self._left + earned), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    async def follow(self) -> None:
        """Poll until cancelled; while control is away, the last table stays in force."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self.poll(WAIT_SECONDS)
                pause = _FIRST_PAUSE_SECONDS
            except (aiohttp.ClientError, OSError, UnusableTable) as error:
                _log.warning("no routing table from control", error=str(error) or type(error).__name__)
                self._forget_what_is_too_old()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def poll(self, wait_seconds: float) -> bool:
        """Ask once; True when a new table came. Raises aiohttp's errors when control fails, ``UnusableTable``
        for a table that cannot be used: the one at hand ages then, as where control is away."""
        asked_with = self.index
        query = {"since": asked_with.version, "wait_seconds": str(wait_seconds)}
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
        if self.index is not asked_with:
            return False  # a newer one may have come meanwhile: whoever asks again is told
        self.index = _index_of(content)
        self._confirmed_seconds = self._clock.monotonic_seconds()
        self._changed()
        async with self._writing:
            await asyncio.to_thread(_write_atomically, self._file, content)
        _log.info("routing table", version=self.index.version, routes=len(self.index.routes))
        return True


def _index_of(content: bytes) -> RouteIndex:
    try:
        return RouteIndex(RoutingTable.model_validate_json(content))
    except Exception as error:  # a table that cannot be used must not end who asks for the next one
        raise UnusableTable(f"{type(error).__name__}: {error}") from error


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
