"""One of several Ray clusters as a fabric: a connector process answers for it, started anew when it ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import scheduler
from common.clock import SYSTEM_CLOCK, Clock
from common.errors import ComputilityError, Unavailable
from common.settings import Settings, child_environment
from common.telemetry import get_logger
from scheduler.adapters.ray import connector
from scheduler.adapters.ray.frames import frame, read_frame
from scheduler.adapters.ray.threads import in_ray_thread
from scheduler.ports import DeviceSample, GangOrder, GangRecord, LogChunk, NodeObservation
from scheduler.sessions import SessionAnswer, SessionAsk

QUESTION_SECONDS = 30.0
RESTART_SECONDS = 2.0
RESTART_MOST_SECONDS = 60.0
CLOSE_SECONDS = 5.0
_log = get_logger(__name__)


class ClusterLink:
    """Implements ``scheduler.ports.Fabric``. ``cluster`` names it, ``address`` is that of its Ray."""

    def __init__(self, settings: Settings, cluster: str, address: str, clock: Clock = SYSTEM_CLOCK) -> None:
        ray = settings.ray.model_copy(update={"address": address, "clusters": {}})
        self._settings = settings.model_copy(update={"ray": ray})
        self._cluster = cluster
        self._clock = clock
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._failures = 0
        self._not_before_seconds = 0.0
        self._starting = asyncio.Lock()
        self._epoch = 0

    async def lead(self, epoch: int) -> None:
        """See ``ports.Fabric.lead``."""
        self._epoch = epoch
        self._tell_epoch()

    def _tell_epoch(self) -> None:
        """To the connector, before anything that is asked from now on; its answer is awaited by nobody."""
        if self._writer is not None and self._epoch:
            self._writer.write(frame((next(self._numbers), "lead", (self._epoch,))))

    async def _ask(self, method: str, *arguments: object) -> Any:
        async with self._starting:
            await self._ensure_process()
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._open[number] = future
        try:
            if self._writer is None:
                raise Unavailable(f"{self._title} has just ended")
            self._writer.write(frame((number, method, arguments)))
            return await asyncio.wait_for(future, QUESTION_SECONDS)
        except (TimeoutError, ConnectionError) as error:
            raise Unavailable(f"{self._title} does not answer {method}: {error}") from error
        finally:
            self._open.pop(number, None)

    @property
    def _title(self) -> str:
        return f"the connector of the Ray cluster {self._cluster or self._settings.ray.address}"

    async def _ensure_process(self) -> None:
        if self._writer is not None:
            return
        now = self._clock.monotonic_seconds()
        if now < self._not_before_seconds:
            raise Unavailable(f"{self._title} has ended and starts again soon")
        delay = min(RESTART_MOST_SECONDS, RESTART_SECONDS * 2.0**self._failures)
        self._failures, self._not_before_seconds = self._failures + 1, now + delay
        ours, theirs = socket.socketpair()
        with theirs:
            process = await in_ray_thread(self._spawn, theirs.fileno())
        ours.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader, process))
        self._tell_epoch()
        _log.info("connector started", cluster=self._cluster, pid=process.pid)

    def _spawn(self, channel: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", connector.__name__, self._cluster, str(channel)],
            pass_fds=[channel],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        env = child_environment(self._settings)
        if self._cluster:  # `up` sets it for its own Ray, which is on loopback
            env.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
        root = str(Path(scheduler.__file__).parent.parent)
        env["PYTHONPATH"] = os.pathsep.join(part for part in (root, env.get("PYTHONPATH", "")) if part)
        return env

    async def _read(self, reader: asyncio.StreamReader, process: subprocess.Popen[bytes]) -> None:
        """Hand out answers until the connector ends."""
        try:
            while True:
                self._take(await read_frame(reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            _log.warning("connector ended", cluster=self._cluster)
        finally:
            self._hang_up()
            await in_ray_thread(_end, process)

    def _take(self, answer: Any) -> None:
        number, worked, value = answer
        self._failures = 0
        future = self._open.get(number)
        if future is None or future.done():
            return
        if worked:
            future.set_result(value)
        else:
            future.set_exception(value)

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._open.values():
            if not future.done():
                future.set_exception(Unavailable(f"{self._title} has ended"))

    async def nodes(self) -> Sequence[NodeObservation]:
        """See ``ports.Fabric.nodes``."""
        nodes: Sequence[NodeObservation] = await self._ask("nodes")
        return nodes

    async def news(self, seconds: float) -> None:
        """See ``ports.Fabric.news``."""
        await self._ask("news", min(seconds, QUESTION_SECONDS / 2))

    async def ensure_gang(self, node: str, order: GangOrder) -> GangRecord:
        """See ``ports.Fabric.ensure_gang``."""
        record: GangRecord = await self._ask("ensure_gang", node, order)
        return record

    async def stop_gang(self, node: str, uid: str, attempt: int, grace_seconds: float) -> None:
        """See ``ports.Fabric.stop_gang``."""
        await self._ask("stop_gang", node, uid, attempt, grace_seconds)

    async def forget_gang(self, node: str, uid: str, attempt: int) -> None:
        """See ``ports.Fabric.forget_gang``."""
        await self._ask("forget_gang", node, uid, attempt)

    async def mark_metered(self, node: str, uid: str, attempt: int, spans: Mapping[int, int]) -> None:
        """See ``ports.Fabric.mark_metered``."""
        await self._ask("mark_metered", node, uid, attempt, dict(spans))

    async def read_log(
        self, node: str, uid: str, attempt: int, rank: int, offset_bytes: int, limit_bytes: int
    ) -> LogChunk:
        """See ``ports.Fabric.read_log``."""
        chunk: LogChunk = await self._ask("read_log", node, uid, attempt, rank, offset_bytes, limit_bytes)
        return chunk

    async def session(self, node: str, uid: str, attempt: int, rank: int, ask: SessionAsk) -> SessionAnswer:
        """See ``ports.Fabric.session``."""
        answer: SessionAnswer = await self._ask("session", node, uid, attempt, rank, ask)
        return answer

    async def series(self, node: str) -> Mapping[str, Sequence[DeviceSample]]:
        """See ``ports.Fabric.series``."""
        series: Mapping[str, Sequence[DeviceSample]] = await self._ask("series", node)
        return series

    async def dismiss_agents(self) -> None:
        """See ``ports.Fabric.dismiss_agents``."""
        try:
            await self._ask("dismiss_agents")
        except ComputilityError as error:
            _log.warning("agents not ended", cluster=self._cluster, error=error.message)

    async def close(self) -> None:
        """See ``ports.Fabric.close``."""
        reading, self._not_before_seconds = self._reading, float("inf")
        self._hang_up()
        if reading is not None:
            await asyncio.wait({reading}, timeout=CLOSE_SECONDS)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """A connector ends by itself when it is hung up; a stuck one is killed."""
    try:
        process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
