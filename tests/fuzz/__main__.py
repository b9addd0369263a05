"""Fuzzing by hand:

    python -m tests.fuzz all --seconds 600
    python -m tests.fuzz body-chat --input build/fuzz/body-chat/crash-…

What a target has learned is kept in build/fuzz/<target>/corpus and is where its next run begins.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.target import MAX_INPUT_BYTES, Target, run
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "fuzz"
RSS_LIMIT_MIB = 2048
HANG_SECONDS = 60
"""Longer than any input may take on a busy machine: what takes this long does not end."""
SEED_BYTES = 4096
"""Longer ones would make all that is made of them long, and so each try slow."""
_EXIT_FINDING, _EXIT_NO_ATHERIS = 1, 3
_EXECUTIONS = (re.compile(r"stat::number_of_executed_units: (\d+)"), re.compile(r"^#(\d+)", re.MULTILINE))
_COVERAGE = re.compile(r"\bcov: (\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb: +(\d+)|rss: (\d+)Mb")
_SAVED = re.compile(r"Test unit written to (\S+/(?:crash|timeout|oom)-\S+)")


@dataclass(frozen=True)
class Outcome:
    """What one run of a target has shown; ``finding`` is where the input lies, empty when there is none."""

    target: str
    executions: int
    edges: int
    peak_mib: int
    finding: str

    def row(self) -> str:
        """A line of the table."""
        numbers = f"{self.executions:>12,} {self.edges:>8,} {self.peak_mib:>9,}"
        return f"{self.target:18} {numbers}  {self.finding or '-'}"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 = nothing found, 1 = a finding, 3 = atheris is missing."""
    options = _parser().parse_args(arguments)
    if options.input is not None:
        return _again(options.target, options.input)
    if not _has_atheris():
        print("atheris is not installed: pip install -e .[fuzz]", file=sys.stderr)
        return _EXIT_NO_ATHERIS
    chosen = list(TARGETS.values()) if options.target == "all" else [TARGETS[options.target]]
    outcomes = []
    for number, target in enumerate(chosen, start=1):
        print(f"[{number}/{len(chosen)}] {target.name}: {target.about}, {options.seconds} s", flush=True)
        outcomes.append(_fuzz(target, options.seconds))
    print(f"\n{'target':18} {'executions':>12} {'edges':>8} {'peak MiB':>9}  finding")
    print("\n".join(outcome.row() for outcome in outcomes))
    return _EXIT_FINDING if any(outcome.finding for outcome in outcomes) else 0


def _has_atheris() -> bool:
    return find_spec("atheris") is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=["all", *TARGETS], help="what to fuzz")
    parser.add_argument("--seconds", type=int, default=600, help="for each target (default: %(default)s)")
    parser.add_argument("--input", type=Path, help="give this file to the target once, without atheris")
    return parser


def _again(name: str, path: Path) -> int:
    """Show what an input does; a finding is a traceback."""
    for target in TARGETS.values() if name == "all" else [TARGETS[name]]:
        run(target, path.read_bytes())
        print(f"{target.name}: nothing wrong with {path}")
    return 0


def _fuzz(target: Target, seconds: int) -> Outcome:
    folder = BUILD / target.name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in (*target.seeds, *(data for data in target.found.values() if len(data) <= SEED_BYTES)):
        (corpus / sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    log = folder / "log.txt"
    options = (
        str(corpus),
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={RSS_LIMIT_MIB}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    )
    with log.open("wb") as output:
        command = (sys.executable, "-m", "tests.fuzz.child", target.name, *options)
        code = subprocess.run(command, stdout=output, stderr=output, cwd=ROOT).returncode
    return _outcome(target.name, code, log)


def _outcome(name: str, code: int, log: Path) -> Outcome:
    text = log.read_text(errors="replace")
    executions = max(int(n) for pattern in _EXECUTIONS for n in [*pattern.findall(text), "0"])
    edges = max(map(int, [*_COVERAGE.findall(text), "0"]))
    peak = max(int(one or other) for one, other in [*_PEAK.findall(text), ("0", "")])
    saved = _SAVED.search(text)
    finding = saved[1] if saved else "" if code == 0 else f"exit code {code}: {log}"
    if finding:
        print(f"  found: {finding}; what it raised: {log}", flush=True)
    return Outcome(name, executions, edges, peak, finding)


if __name__ == "__main__":
    sys.exit(main())
