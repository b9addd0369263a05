"""What `doctor` says of usage that waits on this machine to be posted, or to be mended first."""

from __future__ import annotations

from common.settings import Settings
from control.cli.checks import Check
from inference.gateway.aside import REJECTED_FILE, read_rejected

NAME = "usage"
ADVICE = (
    f"read the reasons in {REJECTED_FILE}, put right what is wrong in its lines or in control; they are "
    "posted when the file has changed, and at the next start of the gateway"
)


def check_usage(settings: Settings) -> Check:
    """Whether any gateway of this home has set usage events aside."""
    spools = settings.home / "spool"
    counts = {
        path.parent.name: len(read_rejected(path.parent))
        for path in sorted(spools.glob(f"*/{REJECTED_FILE}"))
    }
    found = [f"{count} in {spools / name / REJECTED_FILE}" for name, count in counts.items() if count]
    if found:
        return Check(NAME, "warn", f"events that could not be posted: {'; '.join(found)}", ADVICE)
    return Check(NAME, "ok", "nothing is set aside")
