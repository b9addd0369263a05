"""``python -m operators.main``: the operator's process, as its settings say.

Ends with 0 after SIGTERM, and with 6 when another one has taken the lease, or may have taken it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from common.clock import SYSTEM_CLOCK
from common.errors import ComputilityError, SetupError, mapping_of
from common.ids import new_id
from common.leadership.elector import Elector
from common.leadership.rules import Candidate
from common.settings import Settings, load_settings
from common.telemetry import configure_logging, get_logger
from common.tls import trust_of
from operators.control.link import ControlLink
from operators.control.view import ControlView
from operators.health import serve_health
from operators.kube.client import Kube
from operators.kube.cluster import Cluster
from operators.kube.handlers import login
from operators.kube.lease import KubeLease
from operators.operator import WATCHED, Operator
from operators.parts import Parts
from operators.webhook import Webhook, serve_webhook

LOST = 6
HELD_PART = 0.7
"""Of the lease's time: who has not renewed it for so long writes nothing any more. What is left is for
requests that are on their way, and for clocks that go differently."""
_log = get_logger("operator.main")


class Fence:
    """Neither side knows epochs: whoever leads looks at its own clock before each write."""

    epoch = 0
    lost: Callable[[], None] = staticmethod(lambda: None)


def key_of_settings(settings: Settings) -> str:
    """The operator's key for control. Raises ``SetupError`` where there is none."""
    if not settings.operator.key_file:
        return settings.operator.key
    try:
        return Path(settings.operator.key_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SetupError(f"operator.key_file: {error}", param="operator.key_file") from error


async def serve(settings: Settings) -> int:
    """Serve until told to end; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        running = _Running(settings)
        stack.push_async_callback(running.close)
        health = await serve_health(
            settings.operator.health_host, settings.operator.health_port, running.state
        )
        stack.push_async_callback(health.cleanup)
        if settings.operator.webhook_folder:
            webhook = Webhook(running.kube, running.link, settings, SYSTEM_CLOCK)
            stack.push_async_callback((await serve_webhook(webhook, settings)).cleanup)
        return await running.run(stop)


def _link_of(settings: Settings, may_write: Callable[[], bool]) -> ControlLink:
    return ControlLink(
        settings.control_urls,
        lambda: key_of_settings(settings),
        verify=trust_of(settings, settings.control_urls[0]),
        may_write=may_write,
    )


class _Running:
    """The parts, and who leads. ``kube`` and ``link`` are for what every process does (the lease, the
    webhook); the parts have theirs, which write only while this process leads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.kube, self.link = Kube(login), _link_of(settings, lambda: True)
        kube, link = Kube(login, self.may_write), _link_of(settings, self.may_write)
        self._parts = Parts(Cluster(), kube, link, ControlView(link, WATCHED), SYSTEM_CLOCK)
        self.operator = Operator(self._parts, settings)
        self._elector: Elector | None = None
        if settings.operator.lease_namespace:
            self._elector = self._elector_of()

    def may_write(self) -> bool:
        """Whether nobody else can lead now."""
        return self._elector is None or self._elector.may_write

    async def close(self) -> None:
        """Release the connections."""
        for held in (self.kube, self.link, self._parts.kube, self._parts.link):
            await held.close()

    def _elector_of(self) -> Elector:
        wanted = self._settings.operator
        kept = KubeLease(
            self.kube, wanted.lease_namespace, wanted.lease_name, wanted.lease_seconds, SYSTEM_CLOCK
        )
        place = f"{wanted.health_host}:{wanted.health_port}"
        me = Candidate(place, new_id("run"), f"http://{place}")
        held = wanted.lease_seconds * HELD_PART
        return Elector(kept, Fence(), me, wanted.lease_seconds, hold_seconds=held)

    def state(self) -> tuple[bool, dict[str, Any]]:
        """Whether this process does what it should now."""
        leads = self._elector is None or self._elector.leads
        view = self._parts.view
        told = {
            "role": "leader" if leads else "standby",
            "control": view.trouble if leads else "",
            "waiting": len(self.operator.queue),
        }
        return not leads or view.synced.is_set(), told

    async def run(self, stop: asyncio.Event) -> int:
        """Lead when elected, until told to end."""
        if self._elector is None:
            await self.operator.run(stop)
            return 0
        election = asyncio.create_task(self._elector.run())
        try:
            await _first(self._elector.elected, stop)
            if stop.is_set():
                return 0
            ended = asyncio.Event()
            guard = asyncio.create_task(_set_after(self._elector.lost, ended, stop))
            await self.operator.run(ended)
            guard.cancel()
            return LOST if self._elector.lost.is_set() else 0
        finally:
            await self._elector.resign()
            election.cancel()


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _set_after(lost: asyncio.Event, ended: asyncio.Event, stop: asyncio.Event) -> None:
    await _first(lost, stop)
    ended.set()


def main() -> int:
    """The exit code."""
    try:
        settings = load_settings()
        configure_logging(settings, "operator")
        logging.getLogger("kopf").setLevel(logging.WARNING)
        if not key_of_settings(settings):
            raise SetupError("operator.key: the operator needs the key of a platform-admin for control")
        return asyncio.run(serve(settings))
    except ExceptionGroup as group:
        _log.error("the operator ends", errors=[repr(error) for error in group.exceptions])
        return mapping_of(group.exceptions[0]).exit_code
    except ComputilityError as error:
        sys.stderr.write(f"error: {error}\n")
        return mapping_of(error).exit_code


if __name__ == "__main__":
    sys.exit(main())
