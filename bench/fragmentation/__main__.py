"""Packing on the openb trace by the protocol of the FGD paper (Weng et al., USENIX ATC 2023).

``python -m bench.fragmentation --nodes N.csv.gz --pods P.csv.gz --seeds 10`` fills a cluster with tasks
that arrive one by one and never leave, under each policy, and shows what part of the GPUs nobody has when
tasks for 100 % of them have arrived; beside it what no packing can beat, and what the product's scheduler
reaches when it moves tasks, without and with delay. Charts go to ``bench/out/``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.fragmentation import report
from bench.fragmentation.experiment import POLICIES, bound, run, run_moving
from bench.fragmentation.variants import VARIANTS, vary
from bench.traces import TraceNode, TraceTask, read_nodes, read_tasks
from common.errors import InvalidInput, mapping_of

FIRST_SEED = 42
PUBLISHED_SEEDS = 10
MAX_JOBS = 2

_trace: tuple[list[TraceNode], list[TraceTask]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or that of the error."""
    options = _parser().parse_args(arguments)
    try:
        results = measure(options)
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    if options.json:
        print(json.dumps(report.to_json(results)))
    else:
        Console().print(report.table(results))
    for path in report.draw(results):
        print(f"chart: {path}", file=sys.stderr)
    return 0


def measure(options: argparse.Namespace) -> report.Results:
    """All policies and seeds, in up to ``options.jobs`` processes."""
    nodes, tasks = read_nodes(options.nodes), read_tasks(options.pods)
    trace = nodes, vary(options.variant, nodes, tasks) if options.variant else tasks
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    kinds = [*options.policies, "bound", *(("moves", "delay") if options.migration else ())]
    with (
        ProcessPoolExecutor(options.jobs, initializer=_set_trace, initargs=trace) as pool,
        Progress(
            TextColumn("{task.description:>14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as progress,
    ):
        bars = {kind: progress.add_task(kind, total=len(seeds)) for kind in kinds}
        futures = {pool.submit(_measure, kind, seed): (kind, seed) for kind in kinds for seed in seeds}
        done = _collect(pool, futures, lambda kind: progress.advance(bars[kind]))
    by_kind = {kind: [done[kind, seed] for seed in seeds] for kind in kinds}
    return report.Results(
        str(options.nodes),
        str(options.pods),
        options.variant,
        list(seeds),
        {policy: by_kind[policy] for policy in options.policies},
        by_kind["bound"],
        by_kind.get("moves", ()),
        by_kind.get("delay", ()),
    )


def _collect(
    pool: ProcessPoolExecutor, futures: dict[Future[Any], tuple[str, int]], tick: Callable[[str], None]
) -> dict[tuple[str, int], Any]:
    done = {}
    try:
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            tick(futures[future][0])
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    return done


def _set_trace(nodes: list[TraceNode], tasks: list[TraceTask]) -> None:
    global _trace  # noqa: PLW0603 - a worker process gets the trace once, not with every run
    _trace = nodes, tasks


def _measure(kind: str, seed: int) -> Any:
    nodes, tasks = _trace
    if kind == "bound":
        return bound(nodes, tasks, seed)
    if kind in POLICIES:
        return run(nodes, tasks, kind, seed)
    return run_moving(nodes, tasks, kind == "delay", seed)


def _policies(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'none'}: known are {', '.join(POLICIES)}")
    return list(dict.fromkeys(names))


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fragmentation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=Path, required=True, help="openb node list, CSV or CSV.gz")
    parser.add_argument("--pods", type=Path, required=True, help="openb pod list, CSV or CSV.gz")
    parser.add_argument("--seeds", type=_positive, default=PUBLISHED_SEEDS, help="how many (default 10)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument(
        "--policies", type=_policies, default=list(POLICIES), help="comma-separated (default: all)"
    )
    parser.add_argument("--variant", choices=VARIANTS, default="", help="draw another mix from the pods")
    parser.add_argument(
        "--migration",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also run our scheduler with moves, without and with delay",
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=min(MAX_JOBS, os.cpu_count() or 1),
        help="processes (default: up to 2)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
