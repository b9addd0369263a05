"""What budgets add to a request at the gateway, the functions alone: ``python -m bench.budgets --json``."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import aiohttp

from common.clock import SYSTEM_CLOCK
from common.settings import Settings
from common.wire import Route, RouteBook, RouteBudget, RouteReplica, RoutingTable
from inference.core.body import InferenceRequest, parse_request
from inference.core.usage import TokenCounts
from inference.gateway.budgets.guard import Asking, BudgetGuard
from inference.gateway.budgets.keeper import LeaseKeeper
from inference.gateway.budgets.predecessors import Predecessors
from inference.gateway.control_link.table import RouteIndex

ROUNDS, REQUESTS = 15, 2_000
_PRICES = (("prompt_tokens", 150_000), ("completion_tokens", 600_000))


def _table(budgets: int) -> RoutingTable:
    replica = RouteReplica(id="r0", url="http://r0", model_identity="hub/tiny", device_class="cpu/any")
    route = Route(
        model="tiny",
        backend_model="tiny",
        base_model="tiny",
        project="bots",
        tenant="acme",
        context_tokens=2048,
        replicas=(replica,),
    )
    caps = tuple(
        RouteBudget(
            id=f"b{number}",
            name=f"b{number}",
            tenant="acme",
            period="month",
            unit="microcredits",
            limit=10**15,
            from_ms=0,
        )
        for number in range(budgets)
    )
    items = tuple({"meter": meter, "microcredits_per_million": price} for meter, price in _PRICES)
    book = RouteBook(name="standard", version=1, from_ms=0, items=items)
    return RoutingTable(version="1", routes=(route,), budgets=caps, books=(book,))


def _request() -> InferenceRequest:
    body = {"model": "tiny", "max_tokens": 64, "messages": [{"role": "user", "content": "x" * 400}]}
    return parse_request("chat", json.dumps(body).encode())


async def _microseconds(budgets: int, folder: Path) -> float:
    """The median of what one request takes, to hold and to settle."""
    clock, index, request = SYSTEM_CLOCK, RouteIndex(_table(budgets)), _request()
    nobody = cast(aiohttp.ClientSession, None)
    keeper = LeaseKeeper(Settings(), nobody, clock, lambda: float("inf"), Predecessors(folder, 0.0))
    guard, counts = BudgetGuard(keeper, clock), TokenCounts(110, 0, 60)
    asking = Asking(request, index.routes[0], "acme", "bots", "k", clock.now_ms())
    for terms in index.budgets.by_id.values() if index.budgets is not None else ():
        share = keeper.share(terms, terms.period_at(asking.at_ms))
        share.account.changed(10**14, clock.monotonic_seconds())
    spent: list[float] = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(REQUESTS):
            if index.budgets is not None:
                held = await guard.admit(index, asking)
                if held is not None:
                    held.settle(counts)
        spent.append((time.process_time() - began) / REQUESTS * 1e6)
    return statistics.median(spent)


async def _measured() -> dict[str, float]:
    with TemporaryDirectory() as folder:
        return {
            f"microseconds_with_{number}_budgets": round(await _microseconds(number, Path(folder)), 2)
            for number in (0, 1, 4, 16)
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    told = asyncio.run(_measured())
    if parser.parse_args().json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
