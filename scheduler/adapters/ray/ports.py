"""Ports for the ranks of a gang.

A rank listens on its port long after the port was chosen: an engine loads for a minute first. A port from the
range that the system draws from for connections may be another program's by then, so ports are drawn from
outside of that range.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Collection
from pathlib import Path

from common.errors import Unavailable

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_RANGE = (32768, 60999)
_FIRST_PORT, _LAST_PORT = 20_000, 65_535
"""Below the first one are Ray's workers and most servers."""


def system_range(file: Path = _RANGE_FILE) -> tuple[int, int]:
    """First and last port of those that the system gives to whoever names none; Linux's usual ones where
    it does not tell."""
    try:
        first, last = map(int, file.read_text().split())
    except (OSError, ValueError):
        return _USUAL_RANGE
    return first, last


def candidates(first: int, last: int) -> list[int]:
    """The ports outside of the system's range; all of them where it leaves none."""
    outside = [
        *range(_FIRST_PORT, min(first, _LAST_PORT + 1)),
        *range(max(last + 1, _FIRST_PORT), _LAST_PORT + 1),
    ]
    return outside or list(range(_FIRST_PORT, _LAST_PORT + 1))


def can_listen(port: int) -> bool:
    """Whether a server could listen on ``port`` of all addresses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_port(
    taken: Collection[int],
    ports: Collection[int] | None = None,
    is_free: Callable[[int], bool] = can_listen,
) -> int:
    """A port that nothing listens on and that is not ``taken``: any of ``ports`` (as by default: of
    ``candidates``), each as likely as the others.

    Raises ``Unavailable`` where there is none.
    """
    left = list(candidates(*system_range()) if ports is None else ports)
    random.shuffle(left)
    for port in left:
        if port not in taken and is_free(port):
            return port
    raise Unavailable(f"none of {len(left)} ports of this node is free", code="no_free_port")
