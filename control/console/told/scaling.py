"""How many engines an endpoint has and why, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from common.clock import SYSTEM_CLOCK
from control.console.output import print_table
from control.console.told.moments import since

Answer = Mapping[str, Any]


def print_scaling(out: Console, answer: Answer, now_ms: int | None = None) -> None:
    """For each role: how many are wanted, there and asked for; what decides, and what was decided last."""
    now = now_ms or SYSTEM_CLOCK.now_ms()
    for role in answer["roles"]:
        for title, value in (
            ("engines", _engines(role)),
            ("now", role.get("now")),
            ("changed", _last(role, now)),
            ("waiting", f"{role['held']} for an engine" if role.get("held") else ""),
            ("idle", _idle(role)),
        ):
            if value:
                out.print(f"  {title + ':':12}{value}", markup=False)
        if role.get("signals"):
            rows = [[one["name"], f"{one['replicas']:g}", one["text"]] for one in role["signals"]]
            print_table(["SIGN OF LOAD", "ENGINES", "WHY"], rows, out)


def _engines(role: Answer) -> str:
    name = f"{role['role']} " if role.get("role") else ""
    limits = f", between {role['least']} and {role['most']} by load" if role["followsLoad"] else ""
    states = ((role["ready"], "answer"), (role["starting"], "starting"), (role["draining"], "leaving"))
    there = ", ".join(f"{count} {state}" for count, state in states if count) or "none there"
    return f"{role['wanted']} {name}wanted{limits}; {there}"


def _last(role: Answer, now_ms: int) -> str:
    if not role.get("sinceMs"):
        return ""
    return f"{since(role['sinceMs'], now_ms)}: {role['why']}"


def _idle(role: Answer) -> str:
    after = role.get("sleepsAfterSeconds")
    if after is None or role.get("idleSeconds") is None or not role["wanted"]:
        return ""
    return f"{role['idleSeconds']} s without a request; after {after} s there is no engine"
