"""Whether preemption ends, and whether any brings nothing: many small random worlds, each played to its rest.

``python -m bench.preemption --worlds 100000 --json`` plays the courses of the unit tests
(``tests/unit/scheduler/courses.py``): full pools with every rule that queues may have, gangs, elastic ones,
shares, moves and reservations; half of them eventful (arrivals, ends, lost nodes), a quarter with people who
change quotas, queues, nodes and workloads. Seeds that fail are printed: ``--first SEED --worlds 1`` plays one
again. Exits with 1 where there are any.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.unit.scheduler.courses import draw_course

AT_ONCE = 16
"""A process is given so many worlds at a time."""


@dataclass
class Tally:
    """``worlds`` is how many were played, ``worlds_ended`` those that came to rest, ``endless`` the others,
    ``preemptions`` all that were taken from, workloads or ranks. ``voided_preemptions``: for a claimant that
    was then withdrawn or changed, or whose places or quota were."""

    worlds: int = 0
    worlds_ended: int = 0
    endless: int = 0
    preemptions: int = 0
    useless_preemptions: int = 0
    voided_preemptions: int = 0

    def add(self, other: Tally) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def is_good(self) -> bool:
        return not (self.endless or self.useless_preemptions)


def play(seed: int) -> tuple[int, Tally, str]:
    """One world; with what went wrong in words, empty where nothing did."""
    try:
        outcome = draw_course(seed).play()
    except Exception as error:
        raise RuntimeError(f"seed {seed}: {error!r}") from error
    rests = outcome.rests
    tally = Tally(1, int(rests), int(not rests), outcome.taken, outcome.useless, outcome.voided)
    wrong = "" if outcome.rests else "goes on for ever"
    if outcome.useless:
        wrong = f"{wrong}{', ' if wrong else ''}{outcome.useless} preemptions for nothing"
    return seed, tally, wrong


def run(first: int, worlds: int, processes: int, console: Console) -> Tally:
    """Play them all; seeds that fail are printed as they come."""
    total = Tally()
    with multiprocessing.Pool(processes) as pool, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("worlds", total=worlds)
        for seed, tally, wrong in pool.imap_unordered(play, range(first, first + worlds), AT_ONCE):
            total.add(tally)
            progress.advance(bar)
            if wrong:
                console.print(f"seed {seed}: {wrong}", highlight=False)
    return total


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.preemption", description=__doc__)
    parser.add_argument("--worlds", type=int, default=2000, metavar="N", help="how many worlds")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="seed of the first one")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="so many at once"
    )
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    options = parser.parse_args(arguments)
    for name, least in (("worlds", 1), ("first", 0), ("processes", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name}: must be {least} or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    began = time.monotonic()
    total = run(options.first, options.worlds, options.processes, Console(stderr=True))
    figures = {**asdict(total), "seconds": round(time.monotonic() - began, 1)}
    if options.json:
        print(json.dumps(figures))
    else:
        table = Table("", "")
        for name, value in figures.items():
            table.add_row(name.replace("_", " "), str(value))
        Console().print(table)
    return 0 if total.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
