"""The agent of one node: says what devices and gangs it has, starts and stops gangs. Runs as a Ray actor,
knows no Ray."""

from __future__ import annotations

import asyncio
import platform
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import httpx
import psutil

from common.bounded_log import BoundedLog
from common.clock import SYSTEM_CLOCK
from common.errors import Conflict, NotFound, Unavailable
from common.labels import SANDBOX_LABEL
from common.log_times import LogTimes, covering
from common.resources.pool import LOAD, Device
from common.settings import Settings, child_environment
from common.settings.services import SandboxMode
from common.telemetry import get_logger
from scheduler.adapters.devices.accelerators import Found
from scheduler.adapters.devices.cpu import usable_cores
from scheduler.adapters.devices.probe import probe_devices
from scheduler.adapters.ray import launcher
from scheduler.adapters.ray.drivers import driver_versions
from scheduler.adapters.ray.environment import Surroundings
from scheduler.adapters.ray.epoch import Epoch
from scheduler.adapters.ray.history import DeviceHistory
from scheduler.adapters.ray.inherited import inherited
from scheduler.adapters.ray.inventory import Inventory
from scheduler.adapters.ray.log_cleaner import WORKLOADS, LogCleaner
from scheduler.adapters.ray.ports import free_port
from scheduler.adapters.ray.process import PROBE_TIMEOUT_SECONDS, RankFiles, RankProcess
from scheduler.adapters.ray.sandbox import why_not
from scheduler.adapters.ray.versions import Versions
from scheduler.ports import DeviceSample, GangOrder, GangRecord, HostPort, LogChunk, RankOrder
from scheduler.sessions import SessionAnswer, SessionAsk

WATCH_SECONDS = 0.1
PROBE_CACHE_SECONDS = 2.0
SWEEP_SECONDS = 600.0
_log = get_logger(__name__)
UID = re.compile("[a-z0-9-]{1,100}")
ABANDONED = "abandoned"
"""Code of the error of an agent that another installation has left behind."""
ABANDONED_SECONDS = 60.0
"""An agent that its installation has not asked for so long, and that runs nothing, may be replaced."""


@dataclass(frozen=True)
class AgentOptions:
    """Fixed when the agent is made."""

    node: str
    address: str
    home: str
    instance: str
    cpu_device: Literal["auto", "always", "never"] = "auto"
    device_file: str = ""
    grace_seconds: float = 10.0
    log_days: float = 14.0
    log_bytes: int = 0
    process_log_bytes: int = 0
    gang_environment: tuple[str, ...] = ()
    sandbox_mode: SandboxMode = "auto"


@dataclass(frozen=True)
class AgentReport:
    """What the agent answers when asked how things are."""

    node: str
    devices: tuple[Device, ...]
    probe_faults: Mapping[str, str]
    cpu_cores: int
    memory_bytes: int
    gangs: tuple[GangRecord, ...]
    labels: Mapping[str, str]
    cached: tuple[str, ...]
    drivers: Mapping[str, str]
    memory_available_bytes: int
    version: str = ""


class _Gang:
    """The ranks of one gang on this node."""

    def __init__(self, order: GangOrder, master: HostPort | None, ranks: list[RankProcess]) -> None:
        self.order = order
        self.master = master
        self.ranks = ranks
        self.stopping = False
        self.metered: dict[int, int] = {}

    @property
    def alive(self) -> bool:
        return any(rank.alive for rank in self.ranks)

    @property
    def state(self) -> object:
        """How it is, but for marks of device time."""
        return self.order.uid, self.order.attempt, self.stopping, tuple(rank.record for rank in self.ranks)

    def record(self) -> GangRecord:
        records = (rank.record for rank in self.ranks)
        return GangRecord(
            uid=self.order.uid,
            attempt=self.order.attempt,
            digest=self.order.digest,
            billing=self.order.billing,
            ranks=tuple(replace(r, metered_spans=self.metered.get(r.rank, 0)) for r in records),
            master=self.master,
            stopping=self.stopping,
        )


class Agent:
    """All methods run on one event loop; nothing here is shared with other threads."""

    def __init__(self, options: AgentOptions) -> None:
        self._options = options
        self._gangs: dict[tuple[str, int], _Gang] = {}
        self._found = Found()
        self._devices: tuple[Device, ...] = ()
        self._history = DeviceHistory()
        self._drivers = driver_versions()
        self._inventory = Inventory(Path(options.home))
        self._found_at = -PROBE_CACHE_SECONDS
        self._probing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cleaner = LogCleaner(Path(options.home) / "logs", options.log_days, options.log_bytes)
        self._swept_at = -SWEEP_SECONDS
        self._inherited = True
        self._asked_at = SYSTEM_CLOCK.monotonic_seconds()
        self._versions = Versions()
        settings = Settings(home=Path(options.home), instance=options.instance)
        self._no_sandbox = why_not()
        self._base = inherited(child_environment(settings), options.gang_environment)
        self._epoch = Epoch(self._run_folder / "epoch")

    async def led_by(self, epoch: int, method: str, *arguments: object) -> object:
        """What ``method`` answers, for who leads under this epoch. Raises ``Unavailable`` where a later one
        is known."""
        self._epoch.require(epoch)
        return await getattr(self, method)(*arguments)

    async def node(self, instance: str) -> str:
        """The name that this node was given. Raises ``Conflict`` when another installation asks than the one
        that the agent works for."""
        self._require_own(instance)
        return self._options.node

    async def observe(self, instance: str) -> AgentReport:
        """Devices (at most two seconds old) and gangs. Raises ``Conflict`` as ``node`` does."""
        self._require_own(instance)
        self._asked_at = SYSTEM_CLOCK.monotonic_seconds()
        await self._look_at_devices()
        if SYSTEM_CLOCK.monotonic_seconds() - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = SYSTEM_CLOCK.monotonic_seconds()
            self._keep(asyncio.create_task(self._sweep_logs()))
        memory = psutil.virtual_memory()
        self._note()
        return AgentReport(
            node=self._options.node,
            devices=self._devices,
            probe_faults=self._found.faults,
            cpu_cores=usable_cores(),
            memory_bytes=memory.total,
            gangs=tuple(gang.record() for gang in self._gangs.values()),
            labels=self._labels(),
            cached=self._inventory.names(SYSTEM_CLOCK.monotonic_seconds()),
            drivers=self._drivers,
            memory_available_bytes=memory.available,
            version=self._versions.now,
        )

    async def changed(self, instance: str, version: str, seconds: float) -> str:
        """The version of what ``observe`` tells: as soon as it is not the one given, after so many seconds at
        the latest. Devices are looked at meanwhile, as for ``observe``. Raises ``Conflict`` as ``node``
        does."""
        self._require_own(instance)
        self._asked_at = SYSTEM_CLOCK.monotonic_seconds()
        until = self._asked_at + seconds
        while True:
            await self._look_at_devices()
            self._note()
            left_seconds = until - SYSTEM_CLOCK.monotonic_seconds()
            if self._versions.now != version or left_seconds <= 0:
                return self._versions.now
            await self._versions.moves(min(left_seconds, PROBE_CACHE_SECONDS))

    def _note(self) -> None:
        """How all is now, but for load, is what is told."""
        devices = [device.model_dump(exclude=set(LOAD)) for device in self._devices]
        cached = self._inventory.names(SYSTEM_CLOCK.monotonic_seconds())
        gangs = [gang.state for gang in self._gangs.values()]
        self._versions.note((devices, dict(self._found.faults), gangs, cached))

    async def _look_at_devices(self) -> None:
        async with self._probing:
            if SYSTEM_CLOCK.monotonic_seconds() - self._found_at >= PROBE_CACHE_SECONDS:
                await self._probe()

    def _labels(self) -> dict[str, str]:
        return {
            "computility.io/host": socket.gethostname(),
            "computility.io/arch": platform.machine(),
            SANDBOX_LABEL: "missing" if self._no_sandbox else "works",
        }

    def _require_own(self, instance: str) -> None:
        options = self._options
        if instance == options.instance:
            return
        silence = SYSTEM_CLOCK.monotonic_seconds() - self._asked_at
        idle = not any(gang.alive for gang in self._gangs.values())
        raise Conflict(
            f"the Ray node {options.node} works for another installation of Computility, with the home "
            f"{options.home}: give each a Ray cluster of its own, or stop that one with `computility down`",
            code=ABANDONED if idle and silence >= ABANDONED_SECONDS else "other_installation",
        )

    async def _probe(self) -> None:
        options = self._options
        arguments = (options.node, options.cpu_device, options.device_file)
        self._found = await asyncio.to_thread(probe_devices, *arguments)
        now = self._found_at = SYSTEM_CLOCK.monotonic_seconds()
        found, failed = self._found.devices, self._found.faults
        self._devices = self._history.observe(found, failed, now, SYSTEM_CLOCK.now_ms())

    async def _sweep_logs(self) -> None:
        """Beside all else: a slow disk must not make the node look silent."""
        now_ms = SYSTEM_CLOCK.now_ms()
        orders = [gang.order for gang in self._gangs.values()]
        live = {self._files(order, rank).log for order in orders for rank in order.ranks}
        await asyncio.to_thread(self._cleaner.sweep, live, now_ms)
        self._cleaner.remove_empty_folders(now_ms)

    async def series(self) -> dict[str, tuple[DeviceSample, ...]]:
        """See ``ports.Fabric.series``."""
        return self._history.series()

    async def ensure_gang(self, order: GangOrder) -> GangRecord:
        """See ``ports.Fabric.ensure_gang``."""
        known = self._gangs.get((order.uid, order.attempt))
        if known is not None:
            return known.record()
        for (uid, attempt), gang in self._gangs.items():
            if uid == order.uid and gang.alive and attempt != order.beside:
                raise Conflict(f"attempt {attempt} of {uid} is still alive on {self._options.node}")
        self._refuse_while_inherited()
        gang = self._start(order)
        self._gangs[(order.uid, order.attempt)] = gang
        self._note()
        self._keep(asyncio.create_task(self._watch(gang)))
        return gang.record()

    def _start(self, order: GangOrder) -> _Gang:
        taken = {p for gang in self._gangs.values() for r in gang.ranks for p in r.record.ports.values()}
        master = order.master
        if master is None and (order.world_size > 1 or order.always_ranked):
            master = HostPort(self._options.address, free_port(taken))
            taken.add(master.port)
        ranks = []
        for local_rank, rank in enumerate(order.ranks):
            ports: dict[str, int] = {}
            for name in rank.ports:
                ports[name] = free_port(taken)
                taken.add(ports[name])
            around = Surroundings(
                python=sys.executable,
                home=self._options.home,
                instance=self._options.instance,
                address=self._options.address,
                world_size=order.world_size,
                local_rank=local_rank,
                ports=ports,
                master=master,
                base=self._base,
                engine_key=order.engine_key,
                always_ranked=order.always_ranked,
                sandbox_mode=self._options.sandbox_mode,
                sandbox_hindrance=self._no_sandbox,
            )
            files = self._files(order, rank)
            ranks.append(RankProcess(rank, around, files, self._options.grace_seconds, SYSTEM_CLOCK))
        return _Gang(order, master, ranks)

    def _files(self, order: GangOrder, rank: RankOrder) -> RankFiles:
        log = self._log(order.uid, order.attempt, rank.rank)
        exit_code = self._run_folder / f"{order.uid}-{order.attempt}-{rank.rank}.exit"
        return RankFiles(log, exit_code, self._options.process_log_bytes)

    @property
    def _run_folder(self) -> Path:
        return Path(self._options.home) / "run" / "ranks" / self._options.node

    def _log(self, uid: str, attempt: int, rank: int) -> Path:
        """By uid: names may be another's one day, and two of them may read the same."""
        return Path(self._options.home) / "logs" / WORKLOADS / uid / f"{attempt}-{rank}.log"

    def _refuse_while_inherited(self) -> None:
        """Start nothing while launchers of an agent that died are still stopping: they hold devices and
        ports."""
        if not self._inherited:
            return
        mine = {rank.record.pid for gang in self._gangs.values() for rank in gang.ranks}
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = process.info["cmdline"] or []
            ours = launcher.__file__ in words and any(w.startswith(f"{self._run_folder}/") for w in words)
            if ours and process.info["pid"] not in mine:
                raise Unavailable(f"{self._options.node} still stops what an earlier agent ran")
        self._inherited = False

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, gang: _Gang) -> None:
        """Until every process has ended: notice exits and readiness. A probe that breaks ends no watch."""
        told = ""
        async with httpx.AsyncClient(trust_env=False, timeout=PROBE_TIMEOUT_SECONDS) as client:
            while gang.alive:
                before = gang.state
                for rank in gang.ranks:
                    rank.poll()
                probes = (rank.probe(client) for rank in gang.ranks)
                outcomes = await asyncio.gather(*probes, return_exceptions=True)
                broken = next((one for one in outcomes if isinstance(one, Exception)), None)
                if broken is not None and repr(broken) != told:
                    told = repr(broken)
                    _log.warning("rank not probed", uid=gang.order.uid, error=told)
                if gang.state != before:
                    self._note()
                await _bound_logs(gang)
                await asyncio.sleep(WATCH_SECONDS)
        await _bound_logs(gang)

    async def stop_gang(self, uid: str, attempt: int, grace_seconds: float) -> None:
        """See ``ports.Fabric.stop_gang``."""
        gang = self._gangs.get((uid, attempt))
        if gang is not None:
            gang.stopping = True
            for rank in gang.ranks:
                rank.stop(grace_seconds)
            self._note()

    async def forget_gang(self, uid: str, attempt: int) -> None:
        """See ``ports.Fabric.forget_gang``."""
        gang = self._gangs.get((uid, attempt))
        if gang is not None and gang.alive:
            raise Conflict(f"attempt {attempt} of {uid} is alive on {self._options.node}; stop it first")
        self._gangs.pop((uid, attempt), None)
        self._note()

    async def mark_metered(self, uid: str, attempt: int, spans: Mapping[int, int]) -> None:
        """See ``ports.Fabric.mark_metered``."""
        gang = self._gangs.get((uid, attempt))
        if gang is not None:
            gang.metered.update(spans)

    async def read_log(
        self, uid: str, attempt: int, rank: int, offset_bytes: int, limit_bytes: int
    ) -> LogChunk:
        """See ``ports.Fabric.read_log``."""
        if not UID.fullmatch(uid):
            raise NotFound(f"there is no workload {uid!r}")
        log = BoundedLog(self._log(uid, attempt, rank))
        try:
            data, after, size = log.read(offset_bytes, limit_bytes)
        except FileNotFoundError as error:
            where = f"attempt {attempt}, rank {rank} of {uid} on {self._options.node}"
            raise NotFound(f"there is no log of {where}") from error
        marks = LogTimes(log.path).marks()
        return LogChunk(
            data, after, size, covering(marks, after - len(data), after) if limit_bytes else marks
        )

    async def session(self, uid: str, attempt: int, rank: int, ask: SessionAsk) -> SessionAnswer:
        """See ``ports.Fabric.session``."""
        gang = self._gangs.get((uid, attempt))
        found = next((one for one in gang.ranks if one.record.rank == rank), None) if gang else None
        if found is None or found.session is None:
            raise NotFound(f"attempt {attempt}, rank {rank} of {uid} has no session")
        return await found.session.answer(ask)


async def _bound_logs(gang: _Gang) -> None:
    for rank in gang.ranks:
        await rank.keep_log()
