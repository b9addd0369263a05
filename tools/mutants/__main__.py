"""Break the product in small ways and count how often a unit test notices.

    python -m tools.mutants --sample 200 --seed 1
    python -m tools.mutants --only inference/gateway --sample 30 --json

See docs/design/mutation-testing.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tools.mutants.coverage_map import CoverageMap, in_order
from tools.mutants.judging import KILLS, Bench, Judged, copy_tree, judge_all
from tools.mutants.report import show, to_json
from tools.mutants.sampling import drawn, equivalents, gone, mutants_in

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("scheduler", "inference", "billing")
SUITES = (*(f"tests/unit/{package}" for package in PACKAGES), "tests/unit/gate", "tests/unit/bench")
TELL_EVERY = 10
"""After so many a log, which shows no bar, is told how it stands: the order is drawn, so a part is a
sample."""
MAP_FILE = ROOT / "build" / "mutants" / "coverage.json.gz"


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=200, help="how many mutants to try; 0 tries all")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other mutants")
    parser.add_argument(
        "--only", action="append", metavar="PATH", help="a package, folder or file; may be repeated"
    )
    parser.add_argument(
        "--tests", action="append", metavar="PATH", help="ask only the tests there; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many mutants to judge at the same time")
    parser.add_argument(
        "--most-seconds", type=float, default=40.0, help="of tests, as recorded, for one mutant"
    )
    parser.add_argument(
        "--at-least", type=float, default=0.0, metavar="PERCENT", help="fail below this share"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="record all tests again, not only those that changed"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def main() -> int:
    """The exit code: 1 when too few are noticed."""
    options = options_of()
    console = Console(stderr=True)
    began = time.monotonic()
    wanted, suites = options.only or PACKAGES, options.tests or SUITES
    listed = equivalents()
    mutants = list(mutants_in(ROOT, wanted))
    chosen = drawn(ROOT, mutants, options.sample, options.seed, set(listed))
    for key in gone(mutants, listed) if not options.only else ():
        console.print(f"listed as equivalent, but not there any more: {key}", markup=False)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))
        copies = [folder / str(number) for number in range(max(1, options.jobs))]
        for copy in copies:
            copy_tree(ROOT, copy)
        if options.fresh:
            MAP_FILE.unlink(missing_ok=True)
        covered = CoverageMap(MAP_FILE)
        stale = covered.stale(copies[0], suites)
        if stale:
            console.print(f"recording what the tests of {len(stale)} files run …")
            for name in covered.record(copies[0], stale, PACKAGES):
                console.print(f"fails without any mutant, so it judges none: {name}", style="red")
        tests = covered.look_up(copies[0])
        work = [(mutant, in_order(tests.tests_for(mutant), options.most_seconds)) for mutant in chosen]
        benches = [Bench(copy, suites) for copy in copies]
        for bench in benches:
            stack.callback(bench.close)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        progress = stack.enter_context(Progress(*columns, console=console))
        task = progress.add_task("", total=len(work))

        verdicts: list[bool] = []

        def done(judged: Judged) -> None:
            verdicts.append(judged.verdict in KILLS)
            if judged.verdict not in KILLS:
                progress.console.print(f"{judged.verdict}: {judged.mutant.path}:{judged.mutant.line}")
            if not console.is_terminal and len(verdicts) % TELL_EVERY == 0:
                console.print(f"{sum(verdicts)} of {len(verdicts)} noticed so far")
            progress.update(task, advance=1, description=judged.mutant.path)

        found = judge_all(benches, work, done)
    result = to_json(found, options.seed, time.monotonic() - began)
    show(result, as_json=options.json)
    return int(result["killed_percent"] < options.at_least)


if __name__ == "__main__":
    sys.exit(main())
