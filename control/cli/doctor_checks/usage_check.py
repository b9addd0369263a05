"""What `doctor` says of usage that waits on this machine to be posted, or to be mended first."""

from __future__ import annotations

from pathlib import Path

from common.settings import Settings
from common.wire import REJECTED_FILE
from control.cli.doctor_checks.checks import Check

NAME = "usage"
ADVICE = (
    f"read the reasons in {REJECTED_FILE}, put right what is wrong in its lines or in control; they are "
    "posted when the file has changed, and at the next start of the gateway"
)


def check_usage(settings: Settings) -> Check:
    """Whether any gateway of this home has set usage events aside."""
    spools = settings.home / "spool"
    counts = {path.parent.name: _lines_in(path) for path in sorted(spools.glob(f"*/{REJECTED_FILE}"))}
    found = [f"{count} in {spools / name / REJECTED_FILE}" for name, count in counts.items() if count]
    if found:
        return Check(NAME, "warn", f"events that could not be posted: {'; '.join(found)}", ADVICE)
    return Check(NAME, "ok", "nothing is set aside")


def _lines_in(path: Path) -> int:
    """How many events the file holds, one a line; 0 where it has just been emptied and taken away."""
    try:
        return sum(not line.isspace() for line in path.read_bytes().splitlines(keepends=True))
    except FileNotFoundError:
        return 0
