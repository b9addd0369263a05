"""The control process: ``python -m control.main``. The one place where its parts are put together.

It ends with 0 after SIGTERM or SIGINT (gangs run on), with 6 when Ray is lost or another control process
leads in its place (so that whoever watches over it starts it again) and with 7 when it cannot start here,
e.g. because its port is taken.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import uvicorn

from billing.rejected import rejected_usage
from billing.store import Ledger
from common.clock import SYSTEM_CLOCK
from common.db import Database
from common.errors import ComputilityError, SetupError, Unavailable, mapping_of
from common.http_server.door import Door
from common.http_server.tls_gate import guarded_by_tls
from common.leadership.elector import Elector
from common.private import make_file
from common.settings import Settings, load_settings
from common.store.batch_lines import SqlBatchLines
from common.store.port import Limits
from common.store.samples import SqlSampleLog
from common.store.sql import SqlStore
from common.store.sql.lease import Fence, SqlLease
from common.telemetry import configure_logging, get_logger
from common.tls import LOOK_SECONDS, ServerTls, require_guarded
from control.api.app import build_app
from control.context import ControlContext
from control.drain import Drain
from control.leader import Leader
from control.loops import Loops
from control.peers import candidate_of
from control.reconciling.loop import Reconciler
from control.sole_user import take_file
from finetune.adapters.blobs import LocalBlobs
from finetune.api.service import FineTuneService
from finetune.files.dataset import DatasetChecks
from inference.adapters.engine import VllmEngines
from inference.autoscaling.autoscaler import Autoscaler
from inference.autoscaling.board import DemandBoard
from inference.canary.judging import CanaryJudge
from inference.replica_loads import ReplicaLoads
from scheduler.adapters.ray.clusters import fabric_for
from scheduler.ports import Fabric
from scheduler.serving_need import ServingNeed

CONNECT_SECONDS = 60.0
CONNECT_PAUSE_SECONDS = 1.0
TICK_SECONDS = 1.0
PROBE_SECONDS = 10.0
UNASKED_SECONDS = 15.0
RAY_LOST_SECONDS = 20.0
REQUESTS_SECONDS = 1
LOOPS_SECONDS = 1.5
CLOSE_SECONDS = 1.5
RAY_LOST = Unavailable("Ray was lost; a new control process has to join it again")
LEASE_LOST = Unavailable("another control process leads; this one has to start anew to follow it")

_log = get_logger("control")


@dataclass
class _Parts:
    """What has to be closed at the end."""

    database: Database
    leases: Database
    store: SqlStore
    fabric: Fabric
    engines: VllmEngines
    context: ControlContext
    elector: Elector
    leader: Leader
    sole: IO[str] | None

    async def lead(self) -> None:
        """Return when this process has led, and leads no more. Raises ``ComputilityError`` where it cannot
        begin."""
        await self.elector.elected.wait()
        await self.leader.begin(self.elector.lease.epoch)
        await self.elector.lost.wait()

    async def give_up(self) -> None:
        """Let another one lead at once, where this process ends out of order and all else ends with it: else
        the one that starts in its place, which may fare no better, would lead again and again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.elector.resign()

    async def close(self) -> None:
        await self.elector.resign()
        await self.fabric.close()
        await self.engines.close()
        await self.store.close()
        await self.database.close()
        await self.leases.close()
        if self.sole is not None:
            self.sole.close()


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again when it has ended. Is told that it is to end, for
    which uvicorn looks ten times a second."""

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(config)
        self._ending = ending

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Return once the server is to end. Each tick renews the header ``Date``."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._ending.wait()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ``SetupError`` that names the port and says how to choose another."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise SetupError(
            f"control cannot listen on {host}:{port} ({error.strerror}); choose another port with "
            "COMPUTILITY_CONTROL__PORT or `computility up --control-port PORT`"
        ) from error
    bound.set_inheritable(True)
    return bound


async def build(settings: Settings) -> _Parts:
    """All parts, joined: the store is migrated, Ray is reached. Raises ``ComputilityError``."""
    clock = SYSTEM_CLOCK
    tempfile.gettempdir()  # found by writing to it, and then known: not to be looked for on a full disk
    database = Database(settings.store_url)
    sole = _take_file(database)
    await database.migrate()
    fence = Fence()
    # Connections of its own: who waits for one that writes hold may lose the lease meanwhile.
    leases = database if database.is_sqlite else Database(settings.store_url)
    elector = Elector(
        SqlLease(leases),
        fence,
        candidate_of(settings.control),
        settings.control.lease_seconds,
        is_sole=sole is not None,
    )
    if sole is None:  # else no other process can write, and the fence would cost each write a question
        database.fence = fence
    store = SqlStore(database, clock, Limits(history_bytes=settings.store.history_bytes))
    ledger = Ledger(database, store, clock)
    fabric = fabric_for(settings, clock)
    await _connect(fabric)
    engines, loops = VllmEngines(settings.internal_token), Loops(clock=clock)
    rules = settings.scheduler.policy.load_tides
    loads = ReplicaLoads(store, engines)
    need = ServingNeed(loads, SqlSampleLog(database), rules, clock)
    autoscaler = Autoscaler(store, loads, DemandBoard(clock), clock)
    canaries = CanaryJudge(store, clock)
    grace_seconds, rejected = settings.scheduler.stop_grace_seconds, rejected_usage(settings)
    checks = DatasetChecks(settings.tuning)
    blobs = LocalBlobs(settings.folder("files"))
    context = ControlContext(
        store=store,
        ledger=ledger,
        settings=settings,
        clock=clock,
        fabric=fabric,
        tuning=FineTuneService(store, blobs, settings, clock, checks),
        drain=Drain(loops, fabric, ledger, rejected, clock, grace_seconds),
        need=need,
        autoscaler=autoscaler,
        canaries=canaries,
        elector=elector,
        reconciler=Reconciler(store, engines, ledger, clock),
        loops=loops,
    )
    lines = SqlBatchLines(database)
    leader = Leader(context, fabric, engines, blobs, checks, need, autoscaler, canaries, lines)
    return _Parts(database, leases, store, fabric, engines, context, elector, leader, sole)


def _take_file(database: Database) -> IO[str] | None:
    """An SQLite file is this process's alone. Raises ``SetupError`` where it is another's."""
    if not database.is_sqlite or not database.url.database:
        return None
    if database.url.database.startswith("file:"):
        raise SetupError(
            "COMPUTILITY_STORE__URL names an SQLite file as a URI, which cannot be locked; write its path: "
            "sqlite+aiosqlite:////path/to/file"
        )
    sole = take_file(Path(database.url.database))
    make_file(Path(database.url.database))  # its companions get the same rights
    return sole


async def _connect(fabric: Fabric) -> None:
    """Wait until Ray answers."""
    deadline = SYSTEM_CLOCK.monotonic_seconds() + CONNECT_SECONDS
    while True:
        try:
            await fabric.nodes()
            return
        except Unavailable as error:
            if SYSTEM_CLOCK.monotonic_seconds() >= deadline:
                raise
            _log.info("waiting for Ray", error=error.message)
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)


async def _until_lost(fabric: Fabric, leader: Leader) -> None:
    """Return when Ray has not answered for a while: neither the scheduler nor, where that did not ask, us."""
    answered = SYSTEM_CLOCK.monotonic_seconds()
    while SYSTEM_CLOCK.monotonic_seconds() - answered < RAY_LOST_SECONDS:
        await asyncio.sleep(PROBE_SECONDS)
        if leader.scheduler is not None:
            answered = max(answered, leader.scheduler.answered_seconds)
        if SYSTEM_CLOCK.monotonic_seconds() - answered < UNASKED_SECONDS:
            continue
        try:
            await fabric.nodes()
            answered = SYSTEM_CLOCK.monotonic_seconds()
        except Unavailable as error:
            _log.warning("Ray does not answer", error=error.message)


async def serve(settings: Settings, bound: list[socket.socket]) -> None:
    """Serve until a signal comes. Raises ``Unavailable`` when Ray or the lease is lost meanwhile."""
    tls = ServerTls(settings.control)

    async def look() -> None:
        tls.look()

    parts = await build(settings)
    config = uvicorn.Config(
        build_app(parts.context),
        http=guarded_by_tls(Door(settings.control), tls.context),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=REQUESTS_SECONDS,
        lifespan="off",
        callback_notify=look,
        timeout_notify=LOOK_SECONDS,
    )
    server = _Server(config, parts.context.ending)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _ask_to_end, server, parts.context)
    await parts.elector.step()  # who has nobody to wait for leads before anybody asks
    _log.info("control listens", url=settings.control_url)
    serving = asyncio.create_task(server.serve(sockets=bound))
    lost = asyncio.create_task(_until_lost(parts.fabric, parts.leader))
    leading, electing = asyncio.create_task(parts.lead()), asyncio.create_task(parts.elector.run())
    await asyncio.wait({serving, lost, leading}, return_when=asyncio.FIRST_COMPLETED)
    why = RAY_LOST if lost.done() else LEASE_LOST if leading.done() else None
    _end(server, parts.context)
    await parts.context.loops.stop(LOOPS_SECONDS if why is None else 0)
    await serving
    for task in (lost, electing):
        task.cancel()
    if why is not None:
        await parts.give_up()
        raise _reason(leading) or why
    leading.cancel()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await parts.close()


def _reason(leading: asyncio.Task[None]) -> BaseException | None:
    """Why it could not lead, where that ended it."""
    return leading.exception() if leading.done() and not leading.cancelled() else None


def _ask_to_end(server: uvicorn.Server, context: ControlContext) -> None:
    _log.info("control ends; gangs run on")
    _end(server, context)


def _end(server: uvicorn.Server, context: ControlContext) -> None:
    server.should_exit = True
    context.ending.set()


def main() -> int:
    """The exit code, where the process did not come to serve."""
    try:
        settings = load_settings()
        configure_logging(settings, "control")
        require_guarded(settings.control, "control")
        bound = [listen(host, settings.control.port) for host in settings.control.hosts]
    except ComputilityError as error:
        return _report(error)
    asyncio.run(_run(settings, bound))
    return 0


async def _run(settings: Settings, bound: list[socket.socket]) -> None:
    try:
        await serve(settings, bound)
    except ComputilityError as error:
        _exit(_report(error))
    except Exception:  # noqa: BLE001 - the process's boundary: threads of Ray would keep a broken one alive
        _log.exception("control ends: something is wrong that it does not know")
        _exit(1)
    _exit(0)


def _report(error: ComputilityError) -> int:
    sys.stderr.write(f"error: {error}\n")
    return mapping_of(error).exit_code


def _exit(code: int) -> None:
    """End at once: threads that wait for a Ray that is gone would hold up an ordered end."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
