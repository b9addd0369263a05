"""What the engines that are there at the end have counted since their start, beside the events."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.billing_chaos.ledger import used_between
from bench.billing_chaos.site import Site
from billing.core.reconciliation import CLOCKS_APART_MS, Counts, Reading, judge
from control.supervisor.instance import RunFolder
from inference.adapters.engine import VllmEngines


async def engine_findings(site: Site) -> list[dict[str, Any]]:
    """One for each engine. Clients have ended, so nothing is under way."""
    await asyncio.sleep(2 * CLOCKS_APART_MS / 1000)  # so that no event lies on the edge
    engines = VllmEngines(RunFolder(site.settings).token())
    try:
        return [await _finding(site, engines, *one) for one in await asyncio.to_thread(site.engines)]
    finally:
        await engines.close()


async def _finding(site: Site, engines: VllmEngines, engine: tuple[str, str], url: str) -> dict[str, Any]:
    told = await engines.counters(url)
    begin = Reading("", told.started_ms, Counts(), quiet=True)
    end = Reading("", round(time.time() * 1000), told.counts, told.under_way, quiet=not told.under_way)
    used = await used_between(site.settings.store_url, begin.at_ms, end.at_ms)
    found = judge(begin, end, used.get(engine, ()))
    return {
        "engine": engine[1],
        "result": found.result,
        "counted": found.counted.tokens,
        "not_counted": found.missing.tokens,
        "not_billed": found.surplus.tokens,
        "sequences": found.counted.sequences,
        "unanswered": found.unanswered,
        "cut_off": found.bounds.cut_off,
    }
