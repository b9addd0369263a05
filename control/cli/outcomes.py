"""outcomes: what work brought, and whether it was worth what it cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from common.errors import InvalidInput
from common.units import format_credits, parse_fixed
from control.cli.asking.options import OutputOption, ProjectOption, project_of, session_of
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.returns_table import print_outcomes, print_returns
from control.console.told.moments import begin_of

CREDIT_PLACES = 6
QUALITY_PLACES = 3
outcomes_app = typer.Typer(
    help="Record what work brought, and show it beside what it cost.", no_args_is_help=True
)

TenantOption = Annotated[
    str | None, typer.Option("--tenant", help="Whose; unset = that of the key, or of the project.")
]
FromOption = Annotated[str | None, typer.Option("--from", help="Begin, like 2026-11-01.")]
SinceOption = Annotated[str, typer.Option("--since", help="Begin so long ago, like 24h or 30d.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="End (not included).")]
TagOption = Annotated[str | None, typer.Option("--tag", help="Only with this tag, name=value.")]


@outcomes_app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OUTCOME", help="What came of it, like ticket_resolved.")],
    task: Annotated[
        str | None, typer.Option("--task", help="Of which task: requests name it in their metadata.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", help="In place of a task: all work with this tag, name=value.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 1,
    value: Annotated[str, typer.Option("--value", help="Worth in credits, all together, like 12.5.")] = "0",
    quality: Annotated[
        str | None, typer.Option("--quality", help="From 0 to 1 = best; unset = not judged.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="When it came; unset = now.")] = None,
    id_: Annotated[
        str | None, typer.Option("--id", help="Counted once, however often; of a task: TASK:OUTCOME.")
    ] = None,
    tenant: TenantOption = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Record what a task, or other tagged work, has brought. The same again changes nothing.

    Examples: computility outcomes add ticket_resolved --task T-42 --value 12.5 --quality 0.9;
    computility outcomes add sale --tag team=search --id order-7 --value 300
    """
    said = {
        "name": name,
        "task": task,
        "tag": None if tag is None else _pair(tag),
        "count": count,
        "value_microcredits": _fixed(value, CREDIT_PLACES, "--value"),
        "quality_millis": None if quality is None else _fixed(quality, QUALITY_PLACES, "--quality"),
        "at": at,
        "id": id_,
        "tenant": tenant,
        "project": project_of(context, project),
    }
    with session_of(context).client() as client:
        recorded = client.record_outcome({key: one for key, one in said.items() if one is not None})
    if output in (Output.YAML, Output.JSON):
        print_document(recorded, output)
        return
    _tell("was recorded before:" if recorded["repeated"] else "recorded", recorded)


@outcomes_app.command()
def withdraw(
    context: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `outcomes list` shows it.")],
    tenant: TenantOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let an outcome count no more. It stays in the list; what is right has an id of its own.

    Example: computility outcomes withdraw T-42:ticket_resolved
    """
    with session_of(context).client() as client:
        gone = client.withdraw_outcome(id_, tenant)
    if output in (Output.YAML, Output.JSON):
        print_document(gone, output)
    else:
        _tell("was withdrawn before:" if gone["repeated"] else "withdrawn", gone)


@outcomes_app.command("list")
def list_(
    context: typer.Context,
    begin: FromOption = None,
    since: SinceOption = "",
    until: UntilOption = None,
    name: Annotated[str | None, typer.Option("--outcome", help="Only of this name.")] = None,
    tag: TagOption = None,
    tenant: TenantOption = None,
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List outcomes, those that were recorded last first.

    Example: computility outcomes list --since 7d --tag team=search
    """
    asked = _asked(context, begin, since, until, tag, tenant, project)
    with session_of(context).client() as client:
        items = client.outcomes(name=name, limit=limit, **asked)
    if output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
    else:
        print_outcomes(console(), items)


@outcomes_app.command()
def report(
    context: typer.Context,
    by: Annotated[
        str, typer.Option("--by", help="Group by these: outcome, tenant, project, month, day, tag:<name>.")
    ] = "outcome",
    begin: FromOption = None,
    since: SinceOption = "",
    until: UntilOption = None,
    tag: TagOption = None,
    tenant: TenantOption = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what work brought beside what it cost: value, net, return on investment, cost of each outcome.

    Examples: computility outcomes report --by tag:team,month --since 90d;
    computility outcomes report --by tag:task --tag team=search
    """
    asked = _asked(context, begin, since, until, tag, tenant, project)
    with session_of(context).client() as client:
        found = client.returns(group_by=by, **asked)
    if output in (Output.YAML, Output.JSON):
        print_document(found, output)
    else:
        print_returns(console(), found)


def _asked(
    context: typer.Context,
    begin: str | None,
    since: str,
    until: str | None,
    tag: str | None,
    tenant: str | None,
    project: str | None,
) -> dict[str, Any]:
    given = {
        "from_": begin_of(begin, since),
        "to": until,
        "tag": tag,
        "tenant": tenant,
        "project": project_of(context, project),
    }
    return {name: value for name, value in given.items() if value is not None}


def _tell(done: str, one: dict[str, Any]) -> None:
    worth = format_credits(one["value_microcredits"])
    text = f"{done} {one['id']}: {one['count']} × {one['name']} of {one['work']}, worth {worth} credits"
    console().print(text, markup=False, highlight=False)


def _pair(text: str) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidInput(f"--tag: {text[:80]!r} is no tag; write name=value", param="--tag")
    return {name: value}


def _fixed(text: str, places: int, option: str) -> int:
    try:
        return parse_fixed(text, places)
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}", param=option) from error
