"""How long one takes to an answer of the command line.

``python -m bench.cli --runs 15`` starts a control process (its gangs are records in memory) and calls
commands as a shell does, each in a process of its own, in turns. Seconds of wall time, medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
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
MODELS = 20


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


async def measure(runs: int) -> dict[str, Any]:
    """Medians over so many runs of each."""
    with tempfile.TemporaryDirectory(prefix="computility-cli-") as name:
        folder = Path(name)
        (folder / "models.yaml").write_text("".join(MODEL.format(number=n) for n in range(MODELS)))
        async with running_control(folder / "home") as control:
            taken: dict[str, list[float]] = {what: [] for what in commands(folder)}
            for _ in range(runs):
                for what, (arguments, more) in commands(folder).items():
                    taken[what].append(called(arguments, more, folder, control))
    figures = {what: round(statistics.median(seconds), 3) for what, seconds in taken.items()}
    return {"runs": runs, "models": MODELS, **figures}


def called(arguments: list[str], more: dict[str, str], folder: Path, control: ControlProcess) -> float:
    """Seconds until the command has ended. Raises ``CalledProcessError`` where it failed."""
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
    begun = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], env=environment, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - begun


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15, help="runs of each command")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.runs))
    if arguments.json:
        print(json.dumps(figures))
        return 0
    for what, figure in figures.items():
        print(f"{what:20} {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
