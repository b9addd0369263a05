"""Prefill and decode on the same engines, apart, or as mode ``auto`` decides, compared on serving traces.

``python -m bench.disaggregation --trace AzureLLMInferenceTrace_code.csv.gz AzureLLMInferenceTrace_conv.csv.gz
mooncake_conversation_trace.jsonl.gz`` plays each trace on simulated pools of eight devices, at several loads:
engines with continuous batching whose passes take what the performance model says, prompts sent by the
gateway's own router, KV caches handed over at 12.5 GB/s. ``goodput`` is requests per second and device that
were within both limits (time to the first token, between tokens), at the load where a mode has the most.
``aggregated``: all engines do both. ``disaggregated``: so many only read, the best number in hindsight, for
each load. ``auto``: begins aggregated and is told nothing but what has been answered. Of several traces the
last one is ``shifting``: all of them in turn on one pool with one objective.

``--real`` starts two vLLM engines on the CPU with a tiny model: the simulation, calibrated by measurements at
other loads, against what clients see at three loads; and one engine of each role against two that do both."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.charts import Axes, Line, lines
from bench.disaggregation.play import Result, best_splits, play
from bench.disaggregation.pools import LLAMA_8B, POOLS, Pool, pool_of
from bench.disaggregation.traces import SHIFTING, SHIFTING_LIMITS, Trace, at_rate, read_trace
from bench.routing.trace import Request
from common.errors import InvalidInput, mapping_of
from common.strict_json import parse_json
from inference.core.mode.candidates import capacity
from inference.core.mode.traffic import Profile
from inference.core.performance.options import Slo

MODES = ("aggregated", "disaggregated", "auto")
LOADS = (0.5, 0.75, 1.0, 1.25)
SPLITS_PLAYED = 2
COLUMNS = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
Step = Callable[[], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or that of the error."""
    options = _parser().parse_args(arguments)
    try:
        found = measure(options)
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    if options.chart and "detail" in found:
        _draw(found)
    if options.json:
        print(json.dumps(found))
    else:
        _show(found)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All pools, traces, loads and modes; and what real engines do."""
    if not options.trace and not options.real:
        raise InvalidInput("give --trace, --real, or both", param="trace")
    found = _simulated(options) if options.trace else {}
    if options.real:
        from bench.disaggregation.real import STEPS, measure_real

        with Progress(*COLUMNS, console=Console(stderr=True), disable=options.json) as progress:
            task = progress.add_task("real engines", total=STEPS)
            real = measure_real(options.real_seconds, options.seed, lambda: progress.advance(task))
            found |= asyncio.run(real)
    return found


def _simulated(options: argparse.Namespace) -> dict[str, Any]:
    traces = [read_trace(path) for path in options.trace]
    config = _config(options.model_config) if options.model_config else LLAMA_8B
    names = [trace.name for trace in traces] + ([SHIFTING] if len(traces) > 1 else [])
    if len(set(names)) < len(names):
        raise InvalidInput("--trace: two traces have one name", param="trace")
    goodput: dict[str, Any] = {}
    detail: dict[str, Any] = {}
    with Progress(*COLUMNS, console=Console(stderr=True), disable=options.json) as progress:
        for pool_name in options.pools:
            pool = pool_of(pool_name, config, options.tensor)
            goodput[pool_name], detail[pool_name] = {}, {}
            for name in names:
                task = progress.add_task(f"{pool_name} {name}", total=len(options.loads))

                def step(task: Any = task) -> None:
                    progress.advance(task)

                mine = traces if name == SHIFTING else [one for one in traces if one.name == name]
                loads = _loads(pool, mine, options, step)
                detail[pool_name][name] = loads
                goodput[pool_name][name] = {mode: _most(loads, mode) for mode in MODES}
    return {"goodput": goodput, "detail": detail, "setting": _setting(options)}


def _loads(pool: Pool, traces: Sequence[Trace], options: argparse.Namespace, step: Step) -> dict[str, Any]:
    """All modes at each load; ``traces`` follow each other."""
    limits = SHIFTING_LIMITS if len(traces) > 1 else (traces[0].ttft_ms, traces[0].itl_ms)
    slo = Slo(options.ttft_ms or limits[0], options.itl_ms or limits[1])
    each = 60.0 * options.minutes
    found = {}
    for load in options.loads:
        requests: list[Request] = []
        for place, trace in enumerate(traces):
            rate = load * capacity(pool.stage, pool.fleet, profile_of(trace), slo)
            requests += at_rate(trace, rate, each, options.seed, each * place, 1_000_000 * place)
        found[f"{load:g}"] = {
            mode: _told(result) for mode, result in modes(pool, requests, slo, each * len(traces)).items()
        }
        step()
    return found


def modes(pool: Pool, requests: Sequence[Request], slo: Slo, seconds: float) -> dict[str, Result]:
    """The same requests in all modes."""
    apart = [
        play(pool, fleet, requests, slo, seconds) for fleet in best_splits(pool, requests, slo, SPLITS_PLAYED)
    ]
    return {
        "aggregated": play(pool, pool.fleet, requests, slo, seconds),
        "disaggregated": max(apart, key=lambda one: one.goodput),
        "auto": play(pool, pool.fleet, requests, slo, seconds, auto=True),
    }


def profile_of(trace: Trace) -> Profile:
    """Means of a whole trace, nothing cached."""
    count = len(trace.requests)
    prompt = sum(one.prompt_tokens for one in trace.requests) / count
    answer = sum(one.answer_tokens for one in trace.requests) / count
    return Profile(trace.rate, round(prompt), max(1, round(answer)), 0.0, count)


def _told(result: Result) -> dict[str, Any]:
    return {
        "goodput": round(result.goodput, 4),
        "good_percent": round(result.good_percent, 2),
        "ttft_p50_ms": round(result.ttft_p50_ms, 1),
        "ttft_p90_ms": round(result.ttft_p90_ms, 1),
        "itl_p90_ms": round(result.itl_p90_ms, 1),
        "changes": [{"at_seconds": at, "to": what} for at, what in result.changes],
    }


def _most(loads: dict[str, Any], mode: str) -> float:
    return max(float(one[mode]["goodput"]) for one in loads.values())


def _setting(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "minutes": options.minutes,
        "loads": list(options.loads),
        "seed": options.seed,
        "tensor": options.tensor,
        "devices": {name: dict(POOLS[name]) for name in options.pools},
    }


def _show(found: dict[str, Any]) -> None:
    if "detail" in found:
        _show_simulated(found)
    if "validation" in found:
        table = Table(
            "load", *(name for name in found["loads"][0] if name != "load"), title="real and simulated"
        )
        for one in found["loads"]:
            table.add_row(*(f"{value:g}" for value in one.values()))
        Console().print(table)
        Console().print(found["validation"], found["real_modes"])


def _show_simulated(found: dict[str, Any]) -> None:
    table = Table("pool", "trace", "load", title="goodput: requests/s/device within both limits")
    for name in (*MODES, "auto / better", "good %", "TTFT p50 ms"):
        table.add_column(name, justify="right")
    for pool, traces in found["detail"].items():
        for trace, loads in traces.items():
            for load, modes_ in loads.items():
                figures = [modes_[mode]["goodput"] for mode in MODES]
                table.add_row(
                    *(pool, trace, load),
                    *(f"{figure:.3f}" for figure in figures),
                    f"{figures[2] / max(*figures[:2], 1e-9):.3f}",
                    " / ".join(f"{modes_[mode]['good_percent']:.0f}" for mode in MODES),
                    " / ".join(f"{modes_[mode]['ttft_p50_ms']:,.0f}" for mode in MODES),
                )
            most = found["goodput"][pool][trace]
            figures = [most[mode] for mode in MODES]
            table.add_row(
                *(pool, trace, "most"),
                *(f"{figure:.3f}" for figure in figures),
                f"{figures[2] / max(*figures[:2], 1e-9):.3f}",
                *("", ""),
                end_section=True,
            )
    Console().print(table)


def _draw(found: dict[str, Any]) -> None:
    for pool, traces in found["detail"].items():
        for trace, loads in traces.items():
            axes = Axes(f"{trace} on {pool}", "load", "requests/s/device within both limits")
            xs = [float(load) for load in loads]
            curves = {mode: Line(xs, [one[mode]["goodput"] for one in loads.values()]) for mode in MODES}
            print(lines(f"disaggregation-{pool}-{trace}", axes, curves), file=sys.stderr)


def _config(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"--model-config: {path}: {error.strerror}", param="--model-config") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"--model-config: {path}: must be a mapping", param="--model-config")
    return content


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.disaggregation", description=__doc__)
    parser.add_argument(
        "--trace", type=Path, nargs="+", default=[], help="Azure CSV or Mooncake JSONL, or .gz of either"
    )
    parser.add_argument("--real", action="store_true", help="start two engines on the CPU")
    parser.add_argument("--real-seconds", type=_positive, default=60.0, help="of each load (60)")
    parser.add_argument("--pools", nargs="+", choices=list(POOLS), default=list(POOLS), help="all of them")
    parser.add_argument(
        "--loads", nargs="+", type=_positive, default=list(LOADS), help="of what a pool serves, about"
    )
    parser.add_argument("--minutes", type=_positive, default=10.0, help="of each trace (10)")
    parser.add_argument("--ttft-ms", type=_positive, help="limit; unset = 1000, Mooncake 5000, shifting 2000")
    parser.add_argument("--itl-ms", type=_positive, help="limit; unset = 40, Mooncake 50")
    parser.add_argument("--tensor", type=int, choices=(1, 2, 4), default=1, help="devices of an engine (1)")
    parser.add_argument("--model-config", type=Path, help="config.json (Llama-3.1-8B)")
    parser.add_argument("--seed", type=int, default=1, help="of where tenants begin in the trace (1)")
    parser.add_argument("--chart", action="store_true", help="draw charts into bench/out/")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
