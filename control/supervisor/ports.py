"""Which ports are free, and who holds one that is not."""

from __future__ import annotations

import errno
import socket

import psutil

from common.errors import SetupError


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now; ``SetupError`` when the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise SetupError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return True


def holder(port: int) -> str:
    """The process that listens on ``port`` as ``name (pid n)``; empty when it cannot be seen."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):
        return ""
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return ""


def require_free(host: str, port: int, process: str, option: str, setting: str) -> None:
    """Raise ``SetupError`` that says which port is in use, by whom, and how to choose another."""
    if is_free(host, port):
        return
    who = holder(port)
    raise SetupError(
        f"port {port} on {host}, wanted by the {process}, is in use{f' by {who}' if who else ''}; "
        f"choose another with {option} PORT or {setting}=PORT",
        code="port_in_use",
        param=option,
    )


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """``count`` different ports that nothing listens on at the moment of the call."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
