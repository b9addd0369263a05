"""The bill while everything is killed: what clients received, beside events and ledger.

``python -m bench.billing_chaos --minutes 3 --json`` starts the platform with a real engine and two gateway
workers, lets clients chat, stream, call tools, leave, spend a hard budget and fine-tune, and meanwhile kills
gateways, control, engines and (``--database postgresql``) PostgreSQL with SIGKILL at random. Then all that
each client wrote down is held against the ledger, and what engines have counted since their last start. Exit
code 1 where anything was lost, doubled or billed otherwise, or a budget overspent by more than a lease.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.billing_chaos.clients import Asker
from bench.billing_chaos.comparing import Verdict, compare, compare_training
from bench.billing_chaos.counters import engine_findings
from bench.billing_chaos.killing import MEAN_SECONDS, Killer
from bench.billing_chaos.ledger import Books, read_books
from bench.billing_chaos.records import Received, Trained
from bench.billing_chaos.site import Site, running
from bench.billing_chaos.spending import Spender, spent
from bench.billing_chaos.tuning import Tuner
from common.errors import ComputilityError, mapping_of

TARGETS = tuple(MEAN_SECONDS)
COLUMNS = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
MOST_FAULTS_TOLD = 20
EMBEDDING_PART = 0.5
"""Of the time, for which embeddings are made before models are tuned."""


def main() -> int:
    """Exit code 0, 1 where the bill is wrong, or that of the error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing of the platform is left running
    options = _parser().parse_args()
    targets = tuple(name for name in TARGETS if name in options.kill.split(","))
    try:
        with Progress(*COLUMNS, console=Console(stderr=True)) as progress:
            step = progress.add_task(f"starting on {options.database}", total=None)
            with running(options.database, options.model, options.embeddings) as site:
                found = asyncio.run(_measure(site, targets, options, progress, step))
    except ComputilityError as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))
    wrong = found["events_lost"] + found["events_doubled"] + found["token_drift"] + found["set_aside"]
    wrong += max(0, found["budget_overshoot_leases"] - 1)
    wrong += sum(one["result"] == "drift" for one in found["engines"])
    return 0 if not wrong and found["ledger_balanced"] else 1


async def _measure(
    site: Site, targets: tuple[str, ...], options: argparse.Namespace, progress: Progress, step: Any
) -> dict[str, Any]:
    """The load and the kills, then the bill."""
    dice, seconds = random.Random(options.seed), 60 * options.minutes
    killer = Killer(site.platform, site.server, targets, random.Random(dice.random()))
    tuner = Tuner(site.settings.gateway_url, site.key, site.models[0])
    answered = Counter[str]()
    askers, spenders = _clients(site, options, dice, lambda: answered.update("1"))
    embeds_seconds = seconds * EMBEDDING_PART if options.embeddings else 0.0

    async def tune(ends: asyncio.Event) -> None:
        await _stop_embedding(site, askers, embeds_seconds)
        await tuner.run(ends)

    ends = asyncio.Event()
    progress.update(step, total=seconds)
    clients: list[Asker | Spender] = [*askers, *spenders]
    runs = [killer.run, *(one.run for one in clients), *([tune] if options.fine_tune else [])]
    tasks = [asyncio.create_task(run(ends)) for run in runs]
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds and not any(task.done() for task in tasks):
        text = f"{answered['1']} requests, killed {sum(killer.killed.values())}"
        progress.update(step, completed=passed, description=text)
        await asyncio.sleep(0.5)
    ends.set()
    progress.update(step, completed=None, total=None, description="the last answers")
    await asyncio.gather(*tasks)
    progress.update(step, description="waiting until all usage is posted")
    await asyncio.to_thread(site.wait_drained)
    jobs = await tuner.results() if options.fine_tune else []
    await tuner.close()
    counted = await engine_findings(site)
    await asyncio.to_thread(site.platform.stop)
    books = await read_books(site.settings.store_url)
    received = [one for client in clients for one in client.received]
    found = _figures(options.database, received, jobs, books, killer.killed, site.set_aside())
    return found | {"engines": counted}


def _clients(
    site: Site, options: argparse.Namespace, dice: random.Random, told: Callable[[], None]
) -> tuple[list[Asker], list[Spender]]:
    """Those that ask for all kinds of things, and those that spend the budget."""
    url = site.settings.gateway_url
    askers = [
        Asker(url, site.key, site.models, number, random.Random(dice.random()), told)
        for number in range(options.clients)
    ]
    model = site.models[0]
    return askers, [Spender(url, site.spender, model, number, told) for number in range(options.spenders)]


async def _stop_embedding(site: Site, askers: list[Asker], after_seconds: float) -> None:
    """Two engines hold all devices of a small machine: where one embeds, it has to go before a job trains."""
    if not after_seconds:
        return
    await asyncio.sleep(after_seconds)
    for asker in askers:
        asker.stop_embedding()
    await asyncio.to_thread(site.stop_embedding)


def _figures(
    database: str,
    received: list[Received],
    jobs: list[Trained],
    books: Books,
    killed: dict[str, int],
    set_aside: list[str],
) -> dict[str, Any]:
    verdict: Verdict = compare(received, books.requests)
    compare_training(jobs, books.training, verdict)
    budget = spent(books.requests, books.budget_tokens, received)
    faults = [*books.faults, *budget.faults]
    for fault in (verdict.faults + faults + set_aside)[:MOST_FAULTS_TOLD]:
        print(f"fault: {fault}", file=sys.stderr)
    return {
        "database": database,
        "requests": len(received),
        "kills": sum(killed.values()),
        "events_lost": verdict.events_lost,
        "events_doubled": verdict.events_doubled,
        "token_drift": verdict.token_drift,
        "budget_overshoot_leases": budget.overshoot_leases,
        "ledger_balanced": not faults,
        "set_aside": len(set_aside),
        "killed": killed,
        "states": _counted(one.state for one in received),
        "kinds": _counted(one.kind for one in received),
        "ends": _counted(one.what for one in received if one.state != "answered"),
        "billed_of_unanswered": verdict.unanswered,
        "outcomes": _counted(event.outcome for event in books.requests),
        "fine_tunes": _counted(job.status for job in jobs),
        "trained_tokens": sum(sum(tokens) for tokens in books.training.values()),
        "device_seconds": books.device_seconds,
        "microcredits": books.microcredits,
        "budget": {"limit": budget.limit, "spent": budget.counted, "refused": budget.refused},
    }


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.billing_chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long clients ask and processes die")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--kill", default=",".join(TARGETS), help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--spenders", type=int, default=8, help="clients that spend one hard budget")
    parser.add_argument("--clients", type=int, default=6, help="clients at once")
    parser.add_argument(
        "--seed", type=int, default=1, help="of all dice; moments still differ from run to run"
    )
    parser.add_argument("--model", default="", help="a folder with the tiny model; unset = made first")
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="a second engine, for embeddings (3 GiB), for half of the time; after that, jobs train",
    )
    parser.add_argument("--no-fine-tune", dest="fine_tune", action="store_false", help="no fine-tuning jobs")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
