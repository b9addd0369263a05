"""pause, resume: stop a key, project, tenant or model at once, and let it go on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from common.client_transport import Document
from control.cli.asking.options import OutputOption, ProjectOption, project_of, session_of
from control.console.formats import Output
from control.console.output import age, console, print_document, print_table


class Scope(StrEnum):
    """What can be paused."""

    KEY = "key"
    PROJECT = "project"
    TENANT = "tenant"
    MODEL = "model"


ScopeArgument = Annotated[Scope, typer.Argument(help="key, project, tenant or model.")]
NameArgument = Annotated[str, typer.Argument(help="Its name.")]


def pause(
    context: typer.Context,
    scope: Annotated[Scope | None, typer.Argument(help="key, project, tenant or model.")] = None,
    name: Annotated[str | None, typer.Argument(help="Its name.")] = None,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; who is refused is told so.")] = "",
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop a key, project, tenant or model at once, until `resume`; or list what is paused.

    Requests are refused with the reason, and those that run are ended. What a platform-admin pauses only a
    platform-admin resumes.

    Example: computility pause key ci --reason "loops since noon"
    """
    with session_of(context).client() as client:
        if scope is None:
            _show(client.pauses(), output)
            return
        if name is None:
            raise typer.BadParameter(f"name the {scope.value} to pause", param_hint="NAME")
        where = project_of(context, project) if scope is Scope.MODEL else None
        answer = client.pause(scope.value, name, reason, where)
    if output in (Output.YAML, Output.JSON):
        print_document(answer, output)
        return
    console().print(f"{scope.value}/{name} [yellow]paused[/yellow]")


def resume(
    context: typer.Context, scope: ScopeArgument, name: NameArgument, project: ProjectOption = None
) -> None:
    """Let what is paused go on.

    Example: computility resume key ci
    """
    with session_of(context).client() as client:
        client.resume(scope.value, name, project_of(context, project) if scope is Scope.MODEL else None)
    console().print(f"{scope.value}/{name} resumed")


def _show(items: list[Document], output: Output) -> None:
    if output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
    elif items:
        rows = [
            [
                one["scope"],
                one.get("project") or "",
                one["name"],
                age(one["sinceMs"]),
                one["by"],
                one["reason"],
            ]
            for one in items
        ]
        print_table(["SCOPE", "PROJECT", "NAME", "SINCE", "BY", "REASON"], rows)
    else:
        console().print("nothing is paused", style="dim")
