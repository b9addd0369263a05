"""whoami, audit: who asks, and who did what."""

from __future__ import annotations

from typing import Annotated

import typer

from common.clock import SYSTEM_CLOCK
from control.cli.asking.options import OutputOption, session_of
from control.console.formats import Output
from control.console.output import age, console, print_document, print_table
from control.console.tables.budget_table import print_binding

MAY = {
    "platform-admin": "everything",
    "tenant-admin": "all of its tenant: projects, keys, models, endpoints, files, jobs, usage",
    "member": "all of its project but keys: models, endpoints, files, jobs, usage",
    "agent": "chat with models of its project",
}
"""In a line; `docs/roles.md` has the table."""


def whoami(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show name, role, tenant and project of the key in use, and the budgets that bind it.

    Example: computility whoami
    """
    session = session_of(context)
    with session.client() as client:
        answer = client.whoami()
        url = client.base_url
    if output in (Output.YAML, Output.JSON):
        print_document(answer, output)
        return
    rows = [
        ("key", answer.get("key")),
        ("role", answer.get("role")),
        ("tenant", answer.get("tenant") or "all"),
        ("project", answer.get("project") or "all"),
        ("may", MAY.get(str(answer.get("role")), "")),
        ("control", url),
    ]
    for title, value in rows:
        console().print(f"{title:8} {value}", markup=False, soft_wrap=True)
    print_binding(console(), answer.get("budgets", ()), SYSTEM_CLOCK.now_ms())
    for one in answer.get("paused", ()):
        why = f"the {one['scope']} {one['name']}, by a {one['by']}: {one['reason']}"
        console().print(f"{'paused':8} {why}", markup=False, soft_wrap=True)


def audit(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 100,
    principal: Annotated[str, typer.Option("--by", help="Only by this key.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show who wrote what, and who was refused, newest first.

    Example: computility audit --limit 20 --by ci
    """
    with session_of(context).client() as client:
        found = client.audit(limit)
    entries = [one for one in found if principal in ("", one["principal"])]
    if output in (Output.YAML, Output.JSON):
        print_document({"items": entries}, output)
        return
    rows = [
        [age(one["timeMs"]), one["principal"], one["action"], one["target"], one["outcome"]]
        for one in entries
    ]
    print_table(["AGE", "BY", "ACTION", "TARGET", "OUTCOME"], rows)
