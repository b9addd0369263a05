"""Policies that send requests to engines, compared on a trace of prompts that share beginnings.

``python -m bench.routing --simulate --trace conversation_trace.jsonl.gz`` plays the trace on hundreds of
simulated engines, for each policy alike: what part of the prompts' tokens the engines have in their caches,
how long the first token takes, what is refused. ``ours`` is the gateway's own router, fed with prompts as the
gateway has them. Then it measures what one of its decisions costs, with the hashing of the prompt, among 10,
100 and 1,000 replicas: microseconds of processor time. ``--real`` starts engines on the CPU with a tiny model
instead, each of them with too small a cache for all, behind vllm-router with each of its policies and behind
the gateway: blocks of the trace are 32 tokens there."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.routing.engines import EngineKind, Outcome, play
from bench.routing.policies import ABLATIONS, POLICIES, Ours
from bench.routing.real import OURS, PEER, chosen, measure_real
from bench.routing.trace import Request, copies, prompt_tokens_per_second, read_trace
from common.errors import InvalidInput, SetupError, mapping_of

POOLS = (10, 100, 1000)
DECISIONS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or that of the error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if min(options.engines, options.requests) < 1 or options.rate <= 0:
        parser.error("--engines, --requests and --rate must be positive")
    try:
        found = measured_really(options) if options.real else measure(options)
    except (InvalidInput, SetupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    if options.json:
        print(json.dumps(found))
    else:
        _show(found)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All policies on the same requests, then the cost of decisions."""
    kind = EngineKind()
    trace = read_trace(options.trace, options.part, options.minutes * 60)
    most = kind.read_tokens_per_second * options.replicas
    requests = copies(trace, options.load * most / prompt_tokens_per_second(trace), options.seed)
    policies: dict[str, Any] = {}
    with _progress(options) as progress:
        for name in options.policies:
            task = progress.add_task(name, total=len(requests))

            def step(task: Any = task) -> None:
                progress.advance(task)

            policy = {**POLICIES, **ABLATIONS}[name](options.replicas)
            outcome = play(requests, policy, options.replicas, kind, step)
            policies[name] = figures(outcome, len(requests), options.ttft_seconds)
        task = progress.add_task("decisions", total=len(POOLS))
        decision_us = {}
        for replicas in POOLS:
            decision_us[str(replicas)] = round(decision_microseconds(trace, replicas), 1)
            progress.advance(task)
    setting = {
        "replicas": options.replicas,
        "requests": len(requests),
        "load": options.load,
        "part": options.part,
        "seed": options.seed,
        "ttft_seconds": options.ttft_seconds,
    }
    return {"policies": policies, "decision_us": decision_us, "setting": setting}


def measured_really(options: argparse.Namespace) -> dict[str, Any]:
    """All routers before the same engines, with the same requests."""
    requests = chosen(read_trace(options.trace, options.part), options.requests, options.seed)
    with _progress(options) as progress:
        task = progress.add_task("requests", total=len(requests) * (len(PEER) + 1))
        measuring = measure_real(
            requests,
            options.engines,
            options.rate,
            options.seed,
            options.router,
            lambda: progress.advance(task),
        )
        policies = asyncio.run(measuring)
    setting = {
        "engines": options.engines,
        "requests": len(requests),
        "rate": options.rate,
        "part": options.part,
        "seed": options.seed,
    }
    return {"policies": policies, "setting": setting}


def _progress(options: argparse.Namespace) -> Progress:
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=options.json)


def figures(outcome: Outcome, requests: int, ttft_seconds: float) -> dict[str, Any]:
    """``goodput_percent``: requests that got their first token in time, of all."""
    milliseconds = sorted(1000 * seconds for seconds in outcome.ttft_seconds)
    cuts = statistics.quantiles(milliseconds, n=100) if len(milliseconds) > 1 else milliseconds * 99
    good = sum(seconds <= ttft_seconds for seconds in outcome.ttft_seconds)
    return {
        "hit_rate": round(outcome.hit_rate, 4),
        "ttft_p50_ms": round(cuts[49], 1),
        "ttft_p99_ms": round(cuts[98], 1),
        "goodput_percent": round(100 * good / requests, 2),
        "rejects": outcome.rejects,
    }


def decision_microseconds(
    trace: Sequence[Request], replicas: int, clock: Callable[[], int] = time.thread_time_ns
) -> float:
    """Mean processor time of a decision with four requests in flight on each replica, once it knows some."""
    requests = copies(trace, 1.0, 0)[: 2 * DECISIONS + 4 * replicas]
    policy, open_, spent, counted = Ours(replicas), deque[tuple[Request, int]](), 0, 0
    for number, request in enumerate(requests):
        prompt = memoryview(request.prompt)
        before = clock()
        engine = policy.decide(request, prompt, request.at_seconds)
        taken = clock() - before
        open_.append((request, engine))
        if len(open_) > 4 * replicas:
            done = open_.popleft()
            policy.answering(*done)
            policy.ended(*done)
        if number >= len(requests) - DECISIONS:
            spent, counted = spent + taken, counted + 1
    return spent / 1000 / counted


def _show(found: dict[str, Any]) -> None:
    setting = found["setting"]
    engines = f"{setting['engines']} real" if "engines" in setting else f"{setting['replicas']} simulated"
    table = Table("policy", title=f"{setting['requests']:,} requests on {engines} engines")
    columns = {"hit_rate": "hit rate", "ttft_p50_ms": "TTFT p50 ms", "ttft_p99_ms": "TTFT p99 ms"}
    if "ttft_seconds" in setting:
        columns["goodput_percent"] = f"TTFT ≤ {setting['ttft_seconds']:g} s, %"
    columns["rejects"] = "refused"
    for name in columns.values():
        table.add_column(name, justify="right")
    for name, one in found["policies"].items():
        router = "vllm-router: " if "engines" in setting and name != OURS else ""
        table.add_row(f"{router}{name}", *(f"{one[column]:,}" for column in columns))
    console = Console()
    console.print(table)
    if "decision_us" in found:
        costs = ", ".join(f"{us} µs among {replicas}" for replicas, us in found["decision_us"].items())
        console.print(f"one decision of ours: {costs}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--simulate", action="store_true", help="engines are simulated")
    where.add_argument("--real", action="store_true", help="engines are started on the CPU")
    parser.add_argument("--trace", type=Path, required=True, help="Mooncake JSONL with hash_ids, or .gz")
    parser.add_argument("--replicas", type=int, default=200, help="engines (200)")
    parser.add_argument(
        "--load", type=float, default=0.85, help="tokens of prompts, of what they read (0.85)"
    )
    parser.add_argument(
        "--part", choices=("first", "second", "all"), default="all", help="of the trace (all)"
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="from the beginning of the part (15)")
    parser.add_argument("--seed", type=int, default=1, help="of the delays between tenants (1)")
    parser.add_argument("--ttft-seconds", type=float, default=5.0, help="until when an answer is good (5)")
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=[*POLICIES, *ABLATIONS],
        default=list(POLICIES),
        metavar="POLICY",
        help=f"{', '.join(POLICIES)} (all of them); exact: ours, if it knew what is in the engines' caches",
    )
    real = parser.add_argument_group("with --real")
    real.add_argument("--engines", type=int, default=3, help="how many are started (3)")
    real.add_argument("--requests", type=int, default=600, help="of the trace (600)")
    real.add_argument("--rate", type=float, default=6.0, help="requests a second (6)")
    real.add_argument("--router", default="vllm-router", help="program of vllm-router (vllm-router)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
