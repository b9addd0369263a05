"""The one way in which level-triggered loops run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from common.errors import Conflict
from common.store.port import Store
from common.telemetry import get_logger

_log = get_logger(__name__)


async def run_passes(
    name: str, step: Callable[[], Awaitable[None]], store: Store, stop: asyncio.Event, tick_seconds: float
) -> None:
    """Call ``step`` until ``stop`` is set: after each change in the store, and every ``tick_seconds``.

    A pass that fails is logged and made again after a tick; one that met another writer at once.
    """
    while not stop.is_set():
        revision = await store.revision()
        try:
            await step()
        except Conflict as error:
            _log.debug("pass met another writer", loop=name, error=error.message)
        except Exception:  # noqa: BLE001 - the loop's boundary: one bad pass must not end it
            _log.exception("pass failed", loop=name)
            revision = await store.revision()
        await _wait_for_change(store, revision, stop, tick_seconds)


async def _wait_for_change(store: Store, revision: int, stop: asyncio.Event, tick_seconds: float) -> None:
    changed = asyncio.create_task(store.wait(revision, tick_seconds))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({changed, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
        stopped.cancel()
        await asyncio.gather(changed, stopped, return_exceptions=True)
