"""The connections of one listener: how many there are, from where, and which have to go."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter as CounterMetric
from prometheus_client import Gauge

from common.settings.listener import ListenerSettings

TICK_SECONDS = 1.0
SPARE_FILES = 256
"""File descriptors that connections leave to all else."""

CONNECTIONS = Gauge("computility_listener_connections", "Open connections of clients")
REFUSED = CounterMetric(
    "computility_listener_refused", "Requests and connections that the listener ended", ("reason",)
)


class Checked(Protocol):
    """A connection that is looked at once a second."""

    def check(self, now_seconds: float) -> None:
        """End the connection where its client took too long."""
        ...


@dataclass(frozen=True)
class _Visitor:
    address: str
    counted: bool


class Door:
    """Lets connections in, within the listener's limits, and looks after them while they are there."""

    def __init__(self, limits: ListenerSettings) -> None:
        self.limits = limits
        self._most = min(limits.max_connections, _usable_files())
        self._visitors: dict[Checked, _Visitor] = {}
        self._by_address: Counter[str] = Counter()
        self._ticking = False

    def admit(self, connection: Checked, address: str) -> bool:
        """Whether there is room for one more from ``address``; if so it is looked after until ``leave``."""
        counted = not _is_local(address)
        most = self.limits.max_connections_per_address
        if len(self._visitors) >= self._most or (counted and self._by_address[address] >= most):
            return False
        self._visitors[connection] = _Visitor(address, counted)
        self._by_address[address] += counted
        CONNECTIONS.inc()
        self._tick_later()
        return True

    def leave(self, connection: Checked) -> None:
        """The connection has ended. Nothing happens where it was not admitted."""
        visitor = self._visitors.pop(connection, None)
        if visitor is None:
            return
        CONNECTIONS.dec()
        if visitor.counted:
            self._by_address[visitor.address] -= 1
            if not self._by_address[visitor.address]:
                del self._by_address[visitor.address]

    def _tick_later(self) -> None:
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        now = asyncio.get_running_loop().time()
        for connection in list(self._visitors):
            connection.check(now)
        if self._visitors:
            self._tick_later()


def _usable_files() -> int:
    """How many files the process may open beside its own; the soft limit is raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(SPARE_FILES, hard - SPARE_FILES) if hard != resource.RLIM_INFINITY else 1 << 20


def _is_local(address: str) -> bool:
    """Whether it is of this machine: a proxy there stands for many clients."""
    try:
        return ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return True
