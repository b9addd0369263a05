"""How an endpoint's canary does beside its stable side, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from common.clock import SYSTEM_CLOCK
from control.console.output import print_table
from control.console.told.moments import since

Answer = Mapping[str, Any]


def print_canary(out: Console, answer: Answer | None, now_ms: int | None = None) -> None:
    """Both sides with their figures, and what follows from them; nothing where there is no canary."""
    if not answer:
        return
    now = now_ms or SYSTEM_CLOCK.now_ms()
    state = "rolled back" if answer["rolledBack"] else "tried"
    when = f" {since(answer['sinceMs'], now)}" if answer.get("sinceMs") else ""
    out.print(f"  {'canary:':12}{state}{when}: {answer['verdict']}", markup=False)
    rows = [_row(side, answer[side]) for side in ("stable", "canary")]
    print_table(["SIDE", "MODEL", "WEIGHT", "READY", "REQUESTS", "FAILED", "TTFT MEDIAN"], rows, out)


def _row(name: str, side: Answer) -> list[object]:
    took = f"{side['ttftMilliseconds']:g} ms" if side["ttftMilliseconds"] else "-"
    failed = f"{side['failed']} ({side['errorPercent']:g} %)"
    weight = f"{side['weightPercent']:g} %"
    return [name, side["model"], weight, side["ready"], side["requests"], failed, took]
