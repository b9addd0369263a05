"""What would help, told to who may not do all of it: most of what makes room is the platform's to do."""

from __future__ import annotations

import re

from control.core.permissions import allows

_OF_THE_PLATFORM = re.compile(
    r"\bquotas?\b|\bbudget\b|\bmaxDevices\b|\buncordon|\badd (?:a )?nodes?\b|\bnodes are added\b|"
    r"\ba node joins\b|\bQueue\b|\bscheduler\.|\bdevice catalogue\b|\bits queue\b"
)
_WHO = "nodes, queues and what queues may use are a platform-admin's: ask one for that part"


def needs_the_platform(remedy: str) -> bool:
    """Whether some of it is what only a platform-admin does."""
    return _OF_THE_PLATFORM.search(remedy) is not None


def for_reader(role: str, remedy: str) -> str:
    """The remedy as somebody of that role may use it."""
    if not remedy or allows(role, "Queue", "write") or not needs_the_platform(remedy):
        return remedy
    return f"{remedy} ({_WHO})"
