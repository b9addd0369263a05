"""Asks engines how busy they are: what other gateways sent them, and how full their caches are."""

from __future__ import annotations

import asyncio

from inference.core.routing.report import EngineReport, read_report
from inference.gateway.engines.client import EngineClient
from inference.gateway.engines.connection import TransportFailed
from inference.gateway.engines.replicas import Replicas

ROUND_SECONDS = 2.0
"""Each engine is asked once in a round; a round of many takes longer."""
APART_SECONDS = 0.02
ANSWER_SECONDS = 1.0
PAGE_LIMIT_BYTES = 4 * 1024**2


class Reports:
    """Tells ``replicas`` what engines tell, of those among which there is a choice."""

    def __init__(self, client: EngineClient, replicas: Replicas) -> None:
        self._client = client
        self._replicas = replicas

    async def follow(self) -> None:
        """Ask one after the other, for ever."""
        while True:
            urls = self._replicas.with_choice
            for url in urls:
                await self.ask(url)
                await asyncio.sleep(max(APART_SECONDS, ROUND_SECONDS / len(urls)))
            if not urls:
                await asyncio.sleep(ROUND_SECONDS)

    async def ask(self, url: str) -> None:
        """What one engine tells now; one that tells nothing is known by what this gateway sent it."""
        self._replicas.told(url, await self._report(url))

    async def load_of(self, url: str) -> EngineReport | None:
        """What an engine tells of its load now; None where it does not."""
        return await self._report(url)

    async def _report(self, url: str) -> EngineReport | None:
        try:
            async with self._client.asking("GET", f"{url}/metrics", ANSWER_SECONDS) as response:
                if response.status != 200:
                    return None
                page = b""
                while more := await response.readany():
                    page += more
                    if len(page) > PAGE_LIMIT_BYTES:
                        return None
                return read_report(page.decode("utf-8", "replace"))
        except TransportFailed:
            return None
