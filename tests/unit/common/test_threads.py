"""Work of one purpose does not wait behind that of another."""

import asyncio
import threading

from common.threads import Threads


async def test_full_default_threads_do_not_hold_up_those_of_another_purpose() -> None:
    go_on = threading.Event()
    mine = Threads("mine", 1)
    blocked = [asyncio.create_task(asyncio.to_thread(go_on.wait)) for _ in range(100)]
    await asyncio.sleep(0)
    try:
        assert (await mine.run(threading.current_thread)).name.startswith("mine")
        assert await mine.run(int, "21", base=8) == 17
    finally:
        go_on.set()
        await asyncio.gather(*blocked)
