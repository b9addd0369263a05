"""Loops wake up for changes, survive bad passes and stop when told."""

import asyncio
from collections.abc import Sequence

from common.errors import Conflict
from common.loop import run_passes
from common.resources import Metadata, Tenant
from common.store.memory import MemoryStore


async def _run(passes: Sequence[BaseException | None], store: MemoryStore, tick_seconds: float) -> int:
    """Run a loop whose passes end as given; it is stopped in the last one. Returns how many there were."""
    stop, made = asyncio.Event(), 0

    async def step() -> None:
        nonlocal made
        made += 1
        if made == len(passes):
            stop.set()
        outcome = passes[made - 1]
        if outcome is not None:
            raise outcome

    async with asyncio.timeout(5):
        await run_passes("test", step, store, stop, tick_seconds)
    return made


async def test_bad_passes_do_not_end_the_loop() -> None:
    passes = [ValueError("bug"), Conflict("changed"), None, None]
    assert await _run(passes, MemoryStore(), 0.001) == 4


async def test_a_change_in_the_store_wakes_the_loop() -> None:
    store = MemoryStore()

    async def change() -> None:
        await asyncio.sleep(0)
        await store.apply(Tenant(metadata=Metadata(name="acme")))

    changing = asyncio.create_task(change())
    assert await _run([None, None], store, 1000.0) == 2
    await changing
