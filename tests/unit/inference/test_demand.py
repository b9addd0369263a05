"""Who waits is told to control again and again, whatever one report meets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from inference.gateway.control_link import demand
from inference.gateway.control_link.demand import DemandTeller


async def test_a_report_that_cannot_be_made_does_not_end_the_telling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("TELL_SECONDS", "LEAST_SECONDS"):
        monkeypatch.setattr(demand, pause, 0.0)
    nowhere: Any = None
    teller, tries, enough = DemandTeller(Settings(home=tmp_path), nowhere), 0, asyncio.Event()

    async def tell() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            enough.set()
        raise ValueError("an Endpoint of an odd name")

    monkeypatch.setattr(teller, "tell", tell)
    telling = asyncio.create_task(teller.run())
    async with asyncio.timeout(5):
        await enough.wait()
    assert not telling.done()
    telling.cancel()
