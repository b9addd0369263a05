"""How explanations and simulations are printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from common.clock import SYSTEM_CLOCK
from control.console.output import PHASE_STYLES, print_table
from control.console.tables.bars import devices
from control.console.told.moments import clock_time, expected, since

Answer = Mapping[str, Any]
OUTCOMES = {
    "Now": ("would start now", "green"),
    "Later": ("would wait", "yellow"),
    "Unknown": ("would wait", "yellow"),
    "Never": ("would never start", "red"),
}


def print_explanation(out: Console, answer: Answer, now_ms: int | None = None) -> None:
    """Phase and why; when it starts and what would help; where its processes are, and until when."""
    now = now_ms or SYSTEM_CLOCK.now_ms()
    out.print(f"[bold]{answer['project']}/{answer['name']}[/bold] ", end="")
    out.print(answer["phase"], style=PHASE_STYLES.get(answer["phase"], ""), end="")
    out.print(f" {answer['message']}" if answer.get("message") else "", markup=False)
    _print_lines(
        out,
        (
            ("queue", _queue(answer)),
            ("starts", _start(answer, now)),
            ("reserved", _reserved(answer, now)),
            ("fits", "never on the nodes that are here" if answer.get("neverFits") else ""),
            ("what helps", answer.get("remedy")),
            ("runs", _run(answer, now)),
            ("size", _sizes(answer)),
            ("scarce", "; ".join(answer.get("keptOff", ()))),
            ("attempt", f"{answer['attempt']} ({_restarts(answer)})"),
            ("last failure", _failure(answer, now)),
            ("preempted", _preemption(answer, now)),
        ),
    )
    _print_reasons(out, answer)
    if answer.get("ranks"):
        if answer["phase"] in ("Pending", "Suspended"):
            out.print("  its last start:")
        rows = [_with_exit_code(rank) for rank in answer["ranks"]]
        print_table(["ROLE", "RANK", "NODE", "STATE", "EXIT CODE", "DEVICES", "ADDRESS"], rows, out)


def _print_lines(out: Console, lines: Iterable[tuple[str, Any]]) -> None:
    for title, value in lines:
        if value:
            out.print(f"  {title + ':':12}{value}", markup=False)


def _print_reasons(out: Console, answer: Answer) -> None:
    """What each filter leaves; the dominant reason stands above already."""
    reasons = answer.get("reasons") or ()
    if reasons:
        rows = [[r["code"], r.get("nodes", 0), r["message"]] for r in (reasons[1:] or reasons)]
        print_table(["REASON", "NODES", "MESSAGE"], rows, out)


def _queue(answer: Answer) -> str:
    text = str(answer["queue"])
    if answer.get("position"):
        of = f" of {answer['waiting']}" if answer.get("waiting") else ""
        text += f", place {answer['position']}{of}"
    numbers = answer.get("queueNumbers")
    if not numbers:
        return text
    used = f"{devices(numbers['usedMillis'])} devices in use"
    if numbers.get("nominalMillis") is not None:
        covered = numbers.get("coveredMillis", numbers["usedMillis"])
        used = f"{devices(covered)} of {devices(numbers['nominalMillis'])} devices in use"
        if covered < numbers["usedMillis"]:
            used += f" and {devices(numbers['usedMillis'] - covered)} that no quota counts"
    if numbers.get("borrowedMillis"):
        used += f", {devices(numbers['borrowedMillis'])} of them borrowed"
    if numbers.get("maxDevices") is not None:
        used += f", at most {numbers['maxDevices']}"
    share = "" if numbers.get("share") is None else f", share {numbers['share']:.3f}"
    return f"{text} ({used}{share})"


def _start(answer: Answer, now_ms: int) -> str:
    if answer.get("neverFits") or answer.get("starts") in ("Now", "Never"):
        return ""
    if answer.get("etaMs") is not None:
        start = expected(answer["etaMs"], now_ms)
        overdue = start == "now" and answer.get("reasons")
        if overdue:
            return "any moment: what it waits for is overdue"
        return f"{start}, as past runs let expect" if answer.get("etaPredicted") else start
    earliest = answer.get("notBeforeMs")
    parts = [f"not before {clock_time(earliest, now_ms)}" if earliest else "", answer.get("noEta", "")]
    text = ": ".join(part for part in parts if part)
    return text if earliest or not text else f"not foreseeable: {text}"


def _reserved(answer: Answer, now_ms: int) -> str:
    moment_ms = answer.get("reservedMs")
    return f"room is held for it from {clock_time(moment_ms, now_ms)} on" if moment_ms else ""


def _run(answer: Answer, now_ms: int) -> str:
    if not answer.get("sinceMs"):
        return ""
    text = since(answer["sinceMs"], now_ms)
    if answer.get("leavesByMs"):
        return f"{text}; gives up its places by {clock_time(answer['leavesByMs'], now_ms)}"
    end, predicted_by = expected(answer.get("expectedEndMs"), now_ms), answer.get("endPredictedBy")
    if not end:
        return f"{text}; did not say how long (spec.expectedSeconds)"
    if predicted_by:
        late = f"runs longer than {predicted_by} let expect"
        return f"{text}; {late}" if end == "now" else f"{text}; ends {end}, expected by {predicted_by}"
    if end == "now":
        return f"{text}; should have ended {clock_time(answer['expectedEndMs'], now_ms)}"
    return f"{text}; ends {end}"


def _sizes(answer: Answer) -> str:
    elastic = [size for size in answer.get("sizes", ()) if size["least"] < size["most"]]
    return ", ".join(
        f"{size['role']} has {size['ranks']} of {size['most']} ranks, runs with {size['least']} or more"
        for size in elastic
    )


def _restarts(answer: Answer) -> str:
    count = answer["restarts"]
    return "1 restart" if count == 1 else f"{count} restarts"


def _failure(answer: Answer, now_ms: int) -> str:
    """Which start ended how, and the command that shows all that it printed."""
    failure = answer.get("lastFailure")
    if not failure:
        return ""
    line = f": {failure['line']}" if failure.get("line") else ""
    ended = since(failure["timeMs"], now_ms) if failure.get("timeMs") else ""
    rank = f" --rank {failure['rank']}" if failure["rank"] else ""
    logs = f"computility logs {answer['name']} --attempt {failure['attempt']}{rank}"
    when = f" {ended}" if ended else ""
    return f"start {failure['attempt']} ended{when} with exit code {failure['exitCode']}{line} ({logs})"


def _preemption(answer: Answer, now_ms: int) -> str:
    """When, where and for whom it last gave up its places."""
    last = answer.get("lastPreemption")
    if not last:
        return ""
    by = answer.get("preemptedFor") or last.get("by")
    when = f"{clock_time(last['timeMs'], now_ms)} " if last.get("timeMs") else ""
    return f"{when}on {', '.join(last.get('nodes', ()))}{f' for {by}' if by else ''}: {last['message']}"


def _with_exit_code(rank: Answer) -> list[object]:
    code = rank.get("exitCode")
    return [*_rank(rank)[:4], "" if code is None else code, *_rank(rank)[4:]]


def _rank(rank: Answer) -> list[object]:
    held = ", ".join(grant["device"] for grant in rank.get("grants", ()))
    ports = ", ".join(f"{rank.get('address')}:{port}" for port in rank.get("ports", {}).values())
    return [rank["role"], rank["rank"], rank["node"], rank["state"], held, ports]


def print_simulation(out: Console, answer: Answer) -> None:
    """For each workload whether it would start, where and when; then what happens to others."""
    now = answer["atMs"]
    for one in answer["workloads"]:
        _print_outcome(out, one, now)
    for title, key in (
        ("It would take the places of", "preempts"),
        ("It would resize", "resizes"),
        ("It would move", "moves"),
    ):
        if answer.get(key):
            out.print(f"[bold]{title}[/bold]")
            rows = [[other["project"], other["name"], other["message"]] for other in answer[key]]
            print_table(["PROJECT", "NAME", "HOW"], rows, out)
    if answer.get("delays"):
        out.print("[bold]It would delay[/bold]")
        late = [
            [other["project"], other["name"], _moment(other, "beforeMs", now), _moment(other, "afterMs", now)]
            for other in answer["delays"]
        ]
        print_table(["PROJECT", "NAME", "STARTS", "WOULD START"], late, out)
    out.print("nothing was written", style="dim")


def _moment(other: Answer, key: str, now_ms: int) -> str:
    return expected(other.get(key), now_ms) or "not foreseeable"


def _print_outcome(out: Console, one: Answer, now_ms: int) -> None:
    words, style = OUTCOMES[one["starts"]]
    out.print(f"[bold]{one['project']}/{one['name']}[/bold] ", end="")
    out.print(words, style=style, end="")
    out.print(f", in place of the one that is {one['replaces']}" if one.get("replaces") else "", markup=False)
    why = one["reasons"][0]["message"] if one.get("reasons") else ""
    _print_lines(
        out,
        (
            ("why", why),
            ("starts", _start(one, now_ms)),
            ("reserved", _reserved(one, now_ms)),
            ("queue", f"place {one['position']}" if one.get("position") else ""),
            ("what helps", one.get("remedy")),
        ),
    )
    _print_reasons(out, one)
    if one.get("ranks"):
        rows = [[*_rank(rank)[:3], _models(rank), _rank(rank)[4]] for rank in one["ranks"]]
        print_table(["ROLE", "RANK", "NODE", "MODEL", "DEVICES"], rows, out)


def _models(rank: Answer) -> str:
    return ", ".join(sorted({f"{grant['vendor']}/{grant['model']}" for grant in rank.get("grants", ())}))
