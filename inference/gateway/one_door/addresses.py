"""Connections to external models: only to addresses of the Internet, unless the platform says otherwise.

The address that was looked at is the one that is connected to, so that a name which means something else a
moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from socket import SOCK_STREAM

from inference.gateway.engines.client import EngineClient, Place
from inference.gateway.engines.connection import Connection

_TRANSLATED = IPv6Network("64:ff9b::/96")
_UNICAST = IPv6Network("2000::/3")
"""All that was ever given out of the Internet's addresses; site-local ones, for one, lie elsewhere."""


class PrivateAddress(OSError):
    """Where nothing is sent to."""


class ExternalClient(EngineClient):
    """``to_private``: loopback and private addresses are allowed, and HTTP in clear."""

    def __init__(self, connect_seconds: float, silence_seconds: float, to_private: bool) -> None:
        headers = {"Accept-Encoding": "identity", "User-Agent": "computility-gateway"}
        super().__init__(headers, connect_seconds, silence_seconds)
        self._to_private = to_private

    async def _opened(self, make: Callable[[], Connection], place: Place) -> Connection:
        host, port, speaks_tls = place
        if not (speaks_tls or self._to_private):
            raise PrivateAddress("an external model is not asked in clear")
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=SOCK_STREAM)
        allowed = [one[4][0] for one in found if self._to_private or is_public(str(one[4][0]))]
        if not allowed:
            raise PrivateAddress(f"{host} is no address of the Internet")
        _, connection = await loop.create_connection(
            make,
            str(allowed[0]),
            port,
            ssl=_tls() if speaks_tls else None,
            server_hostname=host if speaks_tls else None,
        )
        return connection


def is_public(text: str) -> bool:
    """Whether an address is one of the Internet, also one that is written within another one."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None or (inner is not None and not is_public(str(inner))):
            return False
        if inner is not None:
            return True
        if address not in _UNICAST:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
