"""Many adapters registered, few slots, requests by a Zipf law: right answers, and what a miss costs.

``python -m bench.adapters --adapters 1000 --slots 8 --requests 2000 --zipf 1.1`` has control register the
adapters with one real engine on the CPU (the tiny model; weights are 16 that say something else each, so that
an answer of another adapter or of the base model is seen), and asks for them through the gateway. A hit is a
request that did not make the engine take the adapter in, by its own log. ``load_ms`` are control's loads."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from rich.console import Console
from rich.table import Table

from bench.adapters.engine_log import EngineLog
from bench.adapters.traffic import Told, drawn, play
from bench.adapters.world import CONTROL, GATEWAY, Registered, cpu_seconds, engine_ids, register, serve
from tests.fixtures.elastic_site import site

REST_SECONDS = 30
TOLD_EVERY = 200


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One engine, all adapters, all requests."""
    with tempfile.TemporaryDirectory(prefix="computility-adapters-") as home:
        async with site(Path(home)) as on:
            await serve(on, options.slots, options.in_memory)
            url = f"http://127.0.0.1:{on.settings.gateway.port}/v1"
            async with AsyncOpenAI(base_url=url, api_key=on.member, max_retries=0, timeout=120) as client:
                known = await register(on, client, options.adapters, _say)
                before = cpu_seconds(on, CONTROL), cpu_seconds(on, GATEWAY)
                await asyncio.sleep(REST_SECONDS)
                resting = [
                    cpu_seconds(on, module) - was
                    for module, was in zip((CONTROL, GATEWAY), before, strict=True)
                ]
                models = drawn(known.names, options.requests, options.zipf, options.seed)
                told = await play(client, models, options.clients, _Steps(options.requests))
            log = EngineLog(Path(home), await engine_ids(on))
            for error, times in Counter(one.error for one in told if one.error).most_common(5):
                _say(f"{times} times {error}")
    return {
        "adapters": options.adapters,
        "slots": options.slots,
        "requests": options.requests,
        **outcome(told, known, log),
        "loads": log.number(min(one.sent for one in told)),
        "load_ms": _quantiles(known.load_ms),
        "registration": {
            "seconds": round(known.seconds, 1),
            "control_cpu_seconds": round(known.control_cpu_seconds, 1),
            "gateway_cpu_seconds": round(known.gateway_cpu_seconds, 1),
        },
        "rest_cpu_ms_per_second": {
            "control": round(1000 * resting[0] / REST_SECONDS, 1),
            "gateway": round(1000 * resting[1] / REST_SECONDS, 1),
        },
        "setting": {
            "zipf": options.zipf,
            "clients": options.clients,
            "in_memory": options.in_memory,
            "seed": options.seed,
        },
    }


def outcome(told: Sequence[Told], known: Registered, log: EngineLog) -> dict[str, Any]:
    """Answers against what the adapter says, and whether it was there."""
    good = [one for one in told if not one.error]
    missed = [log.took_in(one.model, one.sent, one.first) for one in good]
    first_ms: dict[bool, list[float]] = {True: [], False: []}
    for one, miss in zip(good, missed, strict=True):
        first_ms[miss].append(one.first_token_ms)
    return {
        "right_answers": sum(one.text == known.right[one.model] for one in good),
        "silent_base": sum(one.text == known.base for one in good),
        "hit_rate": round(1 - sum(missed) / len(good), 4) if good else 0.0,
        "ttft_ms": {"hit": _quantiles(first_ms[False]), "miss": _quantiles(first_ms[True])},
        "errors": len(told) - len(good),
    }


class _Steps:
    """Progress, told now and then."""

    def __init__(self, of: int) -> None:
        self._of, self._done = of, 0

    def __call__(self) -> None:
        self._done += 1
        if self._done % TOLD_EVERY == 0:
            _say(f"{self._done} of {self._of} requests")


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    """Of no values none."""
    if not values:
        return {}
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else [*values] * 99
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1)}


def main() -> None:
    options = _parser().parse_args()
    found = asyncio.run(measure(options))
    if options.json:
        print(json.dumps(found))
        return
    title = f"{found['requests']:,} requests for {found['adapters']:,} adapters on {found['slots']} slots"
    table = Table("", "", title=title)
    for name, value in found.items():
        told = value if not isinstance(value, dict) else ", ".join(f"{k} {v}" for k, v in value.items())
        table.add_row(name, str(told))
    Console().print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.adapters", description=__doc__)
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=8, help="adapters in one batch (8)")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--zipf", type=float, default=1.1, help="exponent of the law of popularity (1.1)")
    parser.add_argument("--clients", type=int, default=1, help="that ask at the same time (1)")
    parser.add_argument(
        "--in-memory", type=int, default=0, help="adapters that the engine keeps in memory (as many as slots)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    main()
