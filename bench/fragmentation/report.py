"""The figures as JSON, as a table and as charts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import charts
from bench.fragmentation.experiment import EARLY, FULL, NEARLY, MovingRun, Run

CURVES_FROM = 70
PUBLISHED = {
    "random": "13.70",
    "dotprod": "9.38",
    "gpuclustering": "8.35",
    "gpupacking": "8.22",
    "bestfit": "7.14",
    "fgd": "4.77",
}
"""On the default openb trace; computed from the result files that the paper's authors published."""


@dataclass(frozen=True)
class Results:
    """Everything measured, seed by seed in the order of ``seeds``."""

    nodes: str
    pods: str
    variant: str
    seeds: Sequence[int]
    policies: Mapping[str, Sequence[Run]]
    bounds: Sequence[float]
    moving: Sequence[MovingRun] = ()
    delaying: Sequence[MovingRun] = ()


def to_json(results: Results) -> dict[str, Any]:
    """Keys as in docs/design/fragmentation.md."""
    answer: dict[str, Any] = {
        "nodes": results.nodes,
        "pods": results.pods,
        "variant": results.variant,
        "seeds": list(results.seeds),
        "policies": {name: _figures(runs) for name, runs in results.policies.items()},
        "bound": _spread("unallocated_percent", results.bounds),
    }
    if {"fgd", "computility"} <= set(results.policies):
        ours, fgd = (_mean(results.policies[name]) for name in ("computility", "fgd"))
        answer["fewer_stranded_than_fgd_percent"] = round(100 * (1 - ours / fgd), 2)
        answer["of_the_distance_to_the_bound_percent"] = round(
            100 * (fgd - ours) / (fgd - statistics.mean(results.bounds)), 2
        )
    if results.delaying:
        answer["migration"] = {"runs": "moves and delay", **_moving(results.delaying)}
        answer["migration"]["moves_only"] = _moving(results.moving)
    return answer


def _moving(runs: Sequence[MovingRun]) -> dict[str, Any]:
    floors = [one.floor for one in runs if one.floor is not None]
    return {
        **_spread("unallocated_percent", [one.run.unallocated_percent[FULL] for one in runs]),
        **_spread("unallocated_nearly_full_percent", [one.run.unallocated_percent[NEARLY] for one in runs]),
        **(_spread("floor_percent", floors) if floors else {}),
        "placed_mean": statistics.mean(one.placed for one in runs),
        "moves_mean": statistics.mean(one.tally.moves for one in runs),
        "made_room_for_mean": statistics.mean(one.tally.made_room_for for one in runs),
        "held_mean": statistics.mean(one.tally.held for one in runs),
        "still_held_mean": statistics.mean(one.tally.holding for one in runs),
        "most_moves_for_one_task": max(one.tally.most_moves for one in runs),
        "seconds_mean": round(statistics.mean(one.run.seconds for one in runs), 2),
    }


def _figures(runs: Sequence[Run]) -> dict[str, Any]:
    return {
        **_spread("unallocated_percent", [run.unallocated_percent[FULL] for run in runs]),
        **_spread(
            "unallocated_at_end_percent",
            [run.unallocated_percent[max(run.unallocated_percent)] for run in runs],
        ),
        **_spread("unallocated_nearly_full_percent", [run.unallocated_percent[NEARLY] for run in runs]),
        **_spread("fragment_ratio_early_percent", [run.fragment_ratio[EARLY] for run in runs]),
        "seconds_mean": round(statistics.mean(run.seconds for run in runs), 2),
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {
        f"{name}_mean": round(statistics.mean(values), 4),
        f"{name}_sd": round(statistics.stdev(values), 4) if len(values) > 1 else 0.0,
        f"{name}_by_seed": [round(value, 4) for value in values],
    }


def _mean(runs: Sequence[Run]) -> float:
    return statistics.mean(run.unallocated_percent[FULL] for run in runs)


def _last(curve: Mapping[int, float]) -> float:
    return curve[max(curve)]


def table(results: Results) -> Table:
    """Means and standard deviations over the seeds, for people."""
    shown = Table(title=f"GPUs unallocated when {FULL} % has arrived, {len(results.seeds)} seeds")
    columns = (
        "unallocated %",
        "sd",
        "published",
        f"at {NEARLY} %",
        f"fragment ratio at {EARLY} %",
        "seconds",
    )
    for heading in ("", *columns):
        shown.add_column(heading, justify="left" if not heading else "right")
    published = PUBLISHED if "default" in _trace(results) else {}
    for name, runs in {**results.policies, **_with_moves(results)}.items():
        values = [run.unallocated_percent[FULL] for run in runs]
        nearly = statistics.mean(run.unallocated_percent[NEARLY] for run in runs)
        ratio = statistics.mean(run.fragment_ratio[EARLY] for run in runs)
        seconds = statistics.mean(run.seconds for run in runs)
        measured = (f"{nearly:.2f}", f"{ratio:.1f}", f"{seconds:.1f}")
        shown.add_row(name, *_cells(values), published.get(name, ""), *measured)
    floors = [one.floor for one in results.moving if one.floor is not None]
    if floors:
        shown.add_row("floor of moves", *_cells(floors))
    shown.add_row("bound of any packing", *_cells(results.bounds))
    return shown


def draw(results: Results) -> list[Path]:
    """The charts in ``bench/out/``."""
    trace = _trace(results)
    curves = {name: _curve(runs, "unallocated_percent") for name, runs in results.policies.items()}
    ratios = {name: _curve(runs, "fragment_percent") for name, runs in results.policies.items()}
    figures = {
        name: charts.Bar(*_mean_and_deviation([run.unallocated_percent[FULL] for run in runs]))
        for name, runs in {**results.policies, **_with_moves(results)}.items()
    }
    arrived = "GPUs asked for, % of the cluster"
    return [
        charts.lines(
            f"fragmentation-{trace}-unallocated",
            charts.Axes("GPUs that nobody has", arrived, "unallocated, %", (0, 32)),
            curves,
        ),
        charts.lines(
            f"fragmentation-{trace}-fragments",
            charts.Axes("Free GPUs that typical tasks cannot use", arrived, "fragments, % of all GPUs"),
            ratios,
        ),
        charts.bars(
            f"fragmentation-{trace}-full",
            charts.Axes(f"GPUs unallocated when {FULL} % has been asked for", "", "unallocated, %"),
            figures,
            {"no packing can beat this": statistics.mean(results.bounds)},
        ),
    ]


def _trace(results: Results) -> str:
    """What was played, for names of files."""
    return results.variant or Path(results.pods).name.split(".")[0]


def _with_moves(results: Results) -> dict[str, list[Run]]:
    named = {"with moves": results.moving, "moves and delay": results.delaying}
    return {label: [one.run for one in moving] for label, moving in named.items() if moving}


def _curve(runs: Sequence[Run], field: str) -> charts.Line:
    """The median of the seeds, from 70 % on."""
    curves: list[dict[int, float]] = [getattr(run, field) for run in runs]
    xs = sorted(x for x in set.intersection(*map(set, curves)) if x >= CURVES_FROM)
    return charts.Line(xs, [statistics.median(curve[x] for curve in curves) for x in xs])


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _cells(values: Sequence[float]) -> tuple[str, str]:
    mean, deviation = _mean_and_deviation(values)
    return f"{mean:.2f}", f"{deviation:.2f}"
