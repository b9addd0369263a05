"""One tidal pool against static silos of the same size: ``python -m bench.tidal --serving TRACE --training
TRACE``.

The silo has a fixed split, as operators size it: serving gets what the busiest minutes of the week before
needed and headroom, training the rest. The tidal pool has the same devices, the same load, the same jobs
and the same scheduler; its autoscaler moves the tide. Utilisation is useful device time (training progress
that lasts, serving work done) of all device time; JCT is the mean over all jobs, run to their end.
``--json`` prints one line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.tidal_charts import draw
from bench.tidal_serving import Hour, read_hour
from bench.tidal_worlds import Setting, Story, World, figures, silo_world, tell, tidal_world
from common.errors import ComputilityError, mapping_of
from scheduler.sim.habits import Habits
from scheduler.sim.jobs import Job
from scheduler.sim.traces import read_jobs

ESTIMATE_ERROR, ESTIMATE_STEP = 0.2, 0.25
"""Users say how long a job runs, wrong by up to a fifth, in steps of a quarter."""
PUBLISHED = {
    "Lyra (EuroSys 2023), loans of idle inference servers to training": {
        "jct_ratio": 1.48,
        "utilisation_gain_percent": 25.0,
    }
}
COLUMNS = {
    "utilisation_percent": "used %",
    "serving_percent": "serving %",
    "held_by_serving_percent": "held %",
    "lost_percent": "lost %",
    "jct_mean_hours": "JCT mean h",
    "jct_median_hours": "JCT med h",
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "no_elastic_jobs": {"elastic_part": 0.0},
    "no_forecast": {"forecast": False},
    "training_load_0.6": {"training_load": 0.6},
    "serving_share_0.5": {"serving_share": 0.5},
}


class Bench:
    """The traces, and a line on stderr for each run."""

    def __init__(self, serving: Path, training: Path) -> None:
        self._hour: Hour = read_hour(serving)
        self._training = training
        self._jobs: dict[tuple[int, float], list[Job]] = {}
        self._silos: dict[Setting, World] = {}

    def compare(self, setting: Setting, name: str) -> tuple[dict[str, Any], World, World]:
        """Both worlds of a setting."""
        story = tell(setting, self._hour, self._trace(setting))
        silo = self._silo(replace(setting, forecast=True), story, name)
        tidal = _timed(f"{name}: tidal pool", lambda: tidal_world(story))
        return {**figures(silo, tidal), "training": story.sample.notes}, silo, tidal

    def _silo(self, setting: Setting, story: Story, name: str) -> World:
        """Silos do not forecast: what is known of one setting is not played again."""
        if setting not in self._silos:
            self._silos[setting] = _timed(f"{name}: silos", lambda: silo_world(story))
        return self._silos[setting]

    def _trace(self, setting: Setting) -> list[Job]:
        key = (setting.seed, setting.elastic_part)
        if key not in self._jobs:
            habits = Habits(
                setting.seed,
                ESTIMATE_ERROR,
                estimate_step=ESTIMATE_STEP,
                elastic_part=setting.elastic_part,
            )
            self._jobs = {key: read_jobs(self._training, habits)}
        return self._jobs[key]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        report = run(options)
    except ComputilityError as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    print(json.dumps(report) if options.json else _table(report))
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All seeds, then what changes when one thing is different."""
    bench = Bench(options.serving, options.training)
    base = Setting(
        devices=options.devices,
        serving_share=options.serving_share,
        days=options.days,
        training_load=options.training_load,
        elastic_part=options.elastic_part,
    )
    runs = []
    for seed in range(options.seeds):
        found, silo, tidal = bench.compare(replace(base, seed=seed), f"seed {seed}")
        runs.append(found)
        if seed == 0 and options.charts:
            draw(options.charts, silo, tidal)
    report = {**_means(runs), "published": PUBLISHED, "seeds": runs, "setting": _setting(base)}
    if options.ablations:
        report["ablations"] = {
            name: _short(bench.compare(replace(base, **change), name)[0])
            for name, change in ABLATIONS.items()
        }
    return report


def _means(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mean = statistics.fmean
    return {
        "utilisation_gain_percent": round(mean(one["utilisation_gain_percent"] for one in runs), 1),
        "jct_ratio": round(mean(one["jct_ratio"] for one in runs), 2),
        "slo_attainment": {
            world: round(mean(one["slo_attainment"][world] for one in runs), 6) for world in ("tidal", "silo")
        },
    }


def _short(found: dict[str, Any]) -> dict[str, Any]:
    keys = ("utilisation_gain_percent", "jct_ratio", "slo_attainment")
    worlds = {
        name: {key: world[key] for key in ("utilisation_percent", "jct_mean_hours", "preemptions")}
        for name, world in found["worlds"].items()
    }
    return {**{key: found[key] for key in keys}, "worlds": worlds}


def _setting(base: Setting) -> dict[str, Any]:
    return {
        "devices": base.devices,
        "silo_serving_devices": base.serving_devices,
        "days": base.days,
        "headroom": base.headroom,
        "training_load": base.training_load,
        "elastic_part": base.elastic_part,
    }


def _timed(name: str, play: Callable[[], World]) -> World:
    began = time.monotonic()
    world = play()
    seconds = time.monotonic() - began
    utilisation = f"{100 * world.utilisation:.1f} % used"
    print(f"{name}: {utilisation}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return world


def _table(report: dict[str, Any]) -> str:
    attained = report["slo_attainment"]
    lines = [
        f"utilisation gain   {report['utilisation_gain_percent']:.1f} %",
        f"JCT ratio          {report['jct_ratio']:.2f}",
        f"SLO attainment     tidal {attained['tidal']:.4%}, silo {attained['silo']:.4%}",
        "",
        " " * 22 + "".join(f"{column:>12}" for column in COLUMNS.values()),
    ]
    for seed, one in enumerate(report["seeds"]):
        for name, world in one["worlds"].items():
            cells = "".join(f"{world[key]:12.2f}" for key in COLUMNS)
            lines.append(f"seed {seed}, {name:14}{cells}")
    for name, one in report.get("ablations", {}).items():
        gain, ratio = one["utilisation_gain_percent"], one["jct_ratio"]
        slo = one["slo_attainment"]["tidal"]
        lines.append(f"{name:22} gain {gain:6.1f} %, JCT ratio {ratio:5.2f}, SLO {slo:.4%}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.tidal", description=__doc__)
    parser.add_argument("--serving", type=Path, required=True, help="Azure LLM CSV or Mooncake JSONL, or .gz")
    parser.add_argument("--training", type=Path, required=True, help="Philly or Kalos jobs, CSV or CSV.gz")
    parser.add_argument("--devices", type=int, default=160)
    parser.add_argument("--serving-share", type=float, default=0.6, help="the silo's serving part (0.6)")
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--training-load", type=float, default=1.0, help="of what the load leaves (1.0)")
    parser.add_argument("--elastic-part", type=float, default=0.5, help="of the gangs (0.5)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablations", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--charts", type=Path, default=Path("bench/out"), help="folder (bench/out)")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
