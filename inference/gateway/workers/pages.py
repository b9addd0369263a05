"""The metrics of all workers as one page, whichever of them is asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from common.telemetry import get_logger

_SOCKET = "metrics.sock"
PAGE_SECONDS = 2.0
PAGE_LIMIT_BYTES = 64 * 1024**2
LARGEST = frozenset(
    (
        "computility_gateway_breaker_state",
        "computility_gateway_min_prompt_tokens",
        "computility_gateway_routes_age_seconds",
        "computility_gateway_spool_oldest_seconds",
        "computility_gateway_spool_rejected_bytes",
        "process_max_fds",
        "python_info",
    )
)
"""Of which the largest is told; all else is summed up."""
_log = get_logger("gateway.workers")


class PageServer:
    """Gives this worker's page to the others, over a socket in its spool folder, which is its user's."""

    def __init__(self, folder: Path, page: Callable[[], bytes]) -> None:
        self._folder, self._page = folder, page
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        (self._folder / _SOCKET).unlink(missing_ok=True)
        with _Short(self._folder) as path:
            self._server = await asyncio.start_unix_server(self._tell, path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            (self._folder / _SOCKET).unlink(missing_ok=True)

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self._page())
            await writer.drain()
        except OSError as error:
            _log.debug("a page was not taken", error=str(error))
        finally:
            writer.close()


async def pages_of(folders: Iterable[Path]) -> list[bytes]:
    """The pages of the workers that have these folders, less those that do not answer."""
    asked = await asyncio.gather(*(_page_of(folder) for folder in folders), return_exceptions=True)
    return [page for page in asked if isinstance(page, bytes)]


async def _page_of(folder: Path) -> bytes:
    async with asyncio.timeout(PAGE_SECONDS):
        with _Short(folder) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        try:
            page = b""
            while more := await reader.read(1 << 16):
                page += more
                if len(page) > PAGE_LIMIT_BYTES:
                    raise ValueError("the page is too long")
            return page
        finally:
            writer.close()


def merged(pages: Iterable[bytes]) -> bytes:
    """One page of several."""
    families: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for page in pages:
        for family in text_string_to_metric_families(page.decode()):
            families.setdefault(family.name, family)
            known = sums.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                known[key] = _both(family.name, known.get(key), sample.value)

    class Collector:
        def collect(self) -> Iterator[Metric]:
            for name, family in families.items():
                metric = Metric(name, family.documentation, family.type)
                for (sample, labels), value in sums[name].items():
                    metric.add_sample(sample, dict(labels), value)
                yield metric

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


def _both(name: str, known: float | None, more: float) -> float:
    if known is None:
        return more
    if name in LARGEST:
        return max(known, more)
    if name.endswith(("_created", "start_time_seconds")):
        return min(known, more)
    return known + more


class _Short:
    """A path to the socket of a folder that is short, as paths of sockets have to be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        self._handle = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._handle}/{_SOCKET}"

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)
