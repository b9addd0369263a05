"""One resource for people: what it should be, what it is, and what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from common.units import format_bytes
from control.console.output import PHASE_STYLES, age, print_table

Document = Mapping[str, Any]


def describe_document(
    out: Console, document: Document, events: Sequence[Document], limits: Document | None = None
) -> None:
    """Print a resource in sections, a project with its ``limits``; secrets are not in documents, so none can
    show.
    """
    metadata, status = document["metadata"], dict(document.get("status") or {})
    out.print(f"[bold]{document['kind']} {metadata['name']}[/bold]")
    for title, value in (
        ("Project", metadata.get("project")),
        ("Owner", _owner(metadata)),
        ("Labels", _pairs(metadata.get("labels"))),
        ("Annotations", _pairs(metadata.get("annotations"))),
        ("Age", age(metadata.get("createdMs"))),
        ("Version", f"{metadata.get('resourceVersion')} (generation {metadata.get('generation')})"),
    ):
        if value:
            out.print(f"  {title + ':':13}{value}", markup=False)
    conditions = status.pop("conditions", [])
    _section(out, "Spec", document.get("spec"))
    _section(out, "Status", {k: v for k, v in status.items() if k != "observedGeneration"})
    if conditions:
        out.print("[bold]Conditions[/bold]")
        rows = [
            [c["type"], c["status"], c["reason"], age(c["lastTransitionMs"]), c["message"]]
            for c in conditions
        ]
        print_table(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows, out)
    if limits is not None:
        _print_limits(out, limits)
    out.print("[bold]Events[/bold]")
    print_events(out, events)


def _print_limits(out: Console, limits: Document) -> None:
    out.print("[bold]Limits[/bold]")
    rows = [[row["name"], *_used_of(row), row["origin"]] for row in limits["items"]]
    print_table(["LIMIT", "USED", "MOST", "SET BY"], rows, out)
    out.print(f"  {'Queues:':13}{', '.join(limits['queues']) or 'all'}", markup=False)


def _used_of(row: Document) -> tuple[str, str]:
    """What is used and what may be, in units for people."""
    show = format_bytes if row["name"].endswith("Bytes") else str
    return "" if row["used"] is None else show(row["used"]), show(row["limit"])


def print_events(out: Console, events: Sequence[Document], *, widths: Sequence[int] | None = None) -> None:
    """Events as a table, oldest first; with ``widths`` the rows alone."""
    if not events:
        out.print("  none", style="dim")
        return
    rows = [
        [age(e.get("timeMs")), e["level"], e["reason"], f"{e['kind'].lower()}/{e['name']}", e["message"]]
        for e in events
    ]
    print_table(["AGE", "LEVEL", "REASON", "ABOUT", "MESSAGE"], rows, out, widths=widths)


def _owner(metadata: Document) -> str:
    owner = metadata.get("owner")
    return f"{owner['kind']} {owner['name']}" if owner else ""


def _pairs(pairs: Document | None) -> str:
    return ", ".join(f"{key}={value}" for key, value in (pairs or {}).items())


def _section(out: Console, title: str, content: object) -> None:
    if not content:
        return
    out.print(f"[bold]{title}[/bold]")
    import yaml

    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=94)
    for line in text.splitlines():
        _, colon, value = line.partition(": ")
        style = PHASE_STYLES.get(value, "") if colon else ""
        out.print(f"  {line}", markup=False, style=style)
