"""How long one takes to an answer of the command line.

``python -m bench.cli --runs 15`` starts a control process (its gangs are records in memory) and calls
commands as a shell does, each in a process of its own, in turns. Medians of seconds of wall time and, as
``…_cpu_seconds``, of the processor, which others on the machine disturb less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.environment import variables
from tests.fixtures.control_process import ROOT, ControlProcess, running_control

COMMAND = [sys.executable, "-m", "control.cli.main"]
MODEL = """apiVersion: computility.io/v1alpha1
kind: Model
metadata: {{name: model-{number}, project: search}}
spec: {{source: org/tiny}}
---
"""
PRICE = """apiVersion: computility.io/v1alpha1
kind: Price
metadata: {name: new}
spec:
  items: [{meter: prompt_tokens, microcreditsPerMillion: 1}]
"""
MODELS = 20
DIFFERS = 1
"""What diff ends with where there is something to show."""


@dataclass(frozen=True)
class Taken:
    """Seconds of one call: of wall time, and of the processor."""

    wall: float
    cpu: float


def commands(folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Name of the figure -> arguments, and variables beside those that say where control is."""
    words = "computility get models "
    completion = {"_COMPUTILITY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
    return {
        "get_seconds": (["get", "models"], {}),
        "apply_seconds": (["apply", "-f", str(folder / "models.yaml")], {}),
        "help_seconds": (["--help"], {}),
        "completion_seconds": ([], completion),
    }


OTHERS = (
    "describe model model-0",
    "explain endpoint.spec",
    "explain model",
    "events",
    "top --once",
    "usage",
    "keys list",
    "whoami",
    "audit",
    "version",
    "config list",
    "get all",
    "files list -p search",
    "finetunes list -p search",
    "diff -f {folder}/models.yaml",
    "patch model model-0 -p {{}} --dry-run",
    "jobs list",
    "price dry-run -f {folder}/price.yaml --since 1h",
    "delete model model-0 --dry-run",
    "rollout --help",
    "chat --help",
    "scale --help",
)
"""Commands that only ask, or change nothing; the slowest of them is told."""


async def measure(runs: int) -> dict[str, Any]:
    """Medians over so many runs of each."""
    with tempfile.TemporaryDirectory(prefix="computility-cli-") as name:
        folder = Path(name)
        (folder / "models.yaml").write_text("".join(MODEL.format(number=n) for n in range(MODELS)))
        (folder / "price.yaml").write_text(PRICE)
        async with running_control(folder / "home") as control:
            asked = commands(folder)
            taken: dict[str, list[Taken]] = {what: [] for what in (*asked, *OTHERS)}
            for _ in range(runs):
                for what, (arguments, more) in asked.items():
                    taken[what].append(called(arguments, more, folder, control))
                for line in OTHERS:
                    taken[line].append(called(line.format(folder=folder).split(), {}, folder, control))
    return {"runs": runs, "models": MODELS, **figures(taken)}


def figures(taken: dict[str, list[Taken]]) -> dict[str, Any]:
    """Medians by name, and the command that takes most of the processor's time."""
    wall = {what: round(statistics.median(one.wall for one in runs), 3) for what, runs in taken.items()}
    cpu = {what: round(statistics.median(one.cpu for one in runs), 3) for what, runs in taken.items()}
    named = [what for what in taken if what not in OTHERS]
    slowest = max(taken, key=lambda what: cpu[what])
    return {
        **{what: wall[what] for what in named},
        **{what.replace("_seconds", "_cpu_seconds"): cpu[what] for what in named},
        "slowest": slowest,
        "slowest_seconds": wall[slowest],
        "slowest_cpu_seconds": cpu[slowest],
        "all_cpu_seconds": dict(sorted(cpu.items(), key=lambda one: -one[1])),
    }


def called(arguments: list[str], more: dict[str, str], folder: Path, control: ControlProcess) -> Taken:
    """Until the command has ended. Raises ``CalledProcessError`` where it failed."""
    told = {name: text for name, text in variables().items() if not name.startswith("COMPUTILITY_")}
    environment = {
        **told,
        "PYTHONPATH": str(ROOT),
        "COMPUTILITY_HOME": str(folder / "client"),
        "COMPUTILITY_CONTROL_BASE_URL": control.settings.control_url,
        "COMPUTILITY_GATEWAY_BASE_URL": "http://127.0.0.1:9/v1",
        "COMPUTILITY_API_KEY": control.key,
        **more,
    }
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, cwd=ROOT, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, DIFFERS):
        raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
    return Taken(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15, help="runs of each command")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.runs))
    if arguments.json:
        print(json.dumps(found))
        return 0
    for what, figure in found.items():
        print(f"{what:24} {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
