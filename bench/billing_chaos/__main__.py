"""The bill while everything is killed: what clients received, beside events and ledger.

``python -m bench.billing_chaos --minutes 3 --json`` starts the platform with a real engine and two gateway
workers, lets clients chat, stream, call tools, leave and fine-tune, and meanwhile kills gateways, control,
engines and (``--database postgresql``) PostgreSQL with SIGKILL at random. Then all that each client wrote
down is held against the ledger, and what engines have counted since their last start. Exit code 1 where
anything was lost, doubled or billed otherwise.
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
from collections.abc import Iterable
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
from bench.billing_chaos.tuning import Tuner
from common.errors import ComputilityError, mapping_of

TARGETS = tuple(MEAN_SECONDS)
COLUMNS = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
MOST_FAULTS_TOLD = 20


def main() -> int:
    """Exit code 0, 1 where the bill is wrong, or that of the error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing of the platform is left running
    options = _parser().parse_args()
    options.fine_tune &= not options.embeddings  # two engines hold all devices of a small machine
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
    wrong += sum(one["result"] == "drift" for one in found["engines"])
    return 0 if not wrong and found["ledger_balanced"] else 1


async def _measure(
    site: Site, targets: tuple[str, ...], options: argparse.Namespace, progress: Progress, step: Any
) -> dict[str, Any]:
    """The load and the kills, then the bill."""
    dice, seconds = random.Random(options.seed), 60 * options.minutes
    killer = Killer(site.platform, site.server, targets, random.Random(dice.random()))
    tuner = Tuner(site.settings.gateway_url, site.key, site.models[0])
    url = site.settings.gateway_url
    answered = Counter[str]()
    askers = [
        Asker(url, site.key, site.models, number, random.Random(dice.random()), lambda: answered.update("1"))
        for number in range(options.clients)
    ]
    ends = asyncio.Event()
    progress.update(step, total=seconds)
    runs = [killer.run, *(asker.run for asker in askers), *([tuner.run] if options.fine_tune else [])]
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
    received = [one for asker in askers for one in asker.received]
    found = _figures(options.database, received, jobs, books, killer.killed, site.set_aside())
    return found | {"engines": counted}


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
    for fault in (verdict.faults + list(books.faults) + set_aside)[:MOST_FAULTS_TOLD]:
        print(f"fault: {fault}", file=sys.stderr)
    return {
        "database": database,
        "requests": len(received),
        "kills": sum(killed.values()),
        "events_lost": verdict.events_lost,
        "events_doubled": verdict.events_doubled,
        "token_drift": verdict.token_drift,
        "budget_overshoot_leases": None,
        "ledger_balanced": not books.faults,
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
        "not_measured": "budgets with leases; batches, which the platform does not have",
    }


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.billing_chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long clients ask and processes die")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--kill", default=",".join(TARGETS), help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--clients", type=int, default=6, help="clients at once")
    parser.add_argument(
        "--seed", type=int, default=1, help="of all dice; moments still differ from run to run"
    )
    parser.add_argument("--model", default="", help="a folder with the tiny model; unset = made first")
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="a second engine, for embeddings (3 GiB); none is trained then",
    )
    parser.add_argument("--no-fine-tune", dest="fine_tune", action="store_false", help="no fine-tuning jobs")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
