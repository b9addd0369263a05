"""rollout: follow changes of an endpoint, and go back to what was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.clock import SYSTEM_CLOCK
from common.errors import InvalidInput, NotFound
from control.cli.asking.finding import find
from control.cli.asking.options import (
    DryRunOption,
    KindArgument,
    OptionalName,
    OutputOption,
    ProjectOption,
    project_of,
    session_of,
)
from control.cli.changes.waiting import TimeoutOption, settled, until
from control.cli.changes.writing import change, named
from control.console.formats import Output
from control.console.output import age, print_document, print_table, to_stderr
from control.console.told.moments import parse_span

if TYPE_CHECKING:
    from common.client import Client
    from common.kind_names import KindName

rollout_app = typer.Typer(
    help="Follow changes of an endpoint or workload, restart its engines, go back.",
    no_args_is_help=True,
    add_completion=False,
)
RevisionOption = Annotated[int, typer.Option("--to-revision", min=0, help="0 = the one before the present.")]
Document = dict[str, Any]


@rollout_app.callback()
def rollout() -> None:
    """Follow changes of an endpoint or workload, restart its engines, go back."""


@rollout_app.command()
def status(
    context: typer.Context,
    kind: KindArgument,
    name: OptionalName = None,
    timeout: TimeoutOption = "15m",
    project: ProjectOption = None,
) -> None:
    """Follow the last change of an endpoint or workload until all of it is in place.

    Example: computility rollout status ep/tiny
    """
    one, name = named(kind, name)
    with session_of(context).client() as client:
        until(client, one, name, project_of(context, project), settled, parse_span(timeout, "--timeout"))


@rollout_app.command()
def restart(
    context: typer.Context,
    kind: KindArgument,
    name: OptionalName = None,
    project: ProjectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Replace all engines of an endpoint by new ones, as a change of its spec would.

    Example: computility rollout restart ep/tiny
    """
    one, name = _endpoint(kind, name)

    def make(document: Document) -> Document:
        now = document["spec"].setdefault("rollout", {})
        now["restartedMs"] = max(SYSTEM_CLOCK.now_ms(), now.get("restartedMs", 0) + 1)
        return document

    with session_of(context).client() as client:
        change(client, one, name, project_of(context, project), make, dry_run=dry_run)


@rollout_app.command()
def history(
    context: typer.Context,
    kind: KindArgument,
    name: OptionalName = None,
    revision: Annotated[int, typer.Option("--revision", min=0, help="Show the spec of this one.")] = 0,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show which specs an endpoint had lately, who wrote them, and in which fields they differ.

    Examples: computility rollout history ep/tiny; computility rollout history ep/tiny --revision 3
    """
    one, name = _endpoint(kind, name)
    with session_of(context).client() as client:
        found = find(client, one, name, project_of(context, project))
        items = _revisions(client, found)
    if revision:
        print_document(_kept(items, revision), Output.YAML if output is Output.TABLE else output)
    elif output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
    else:
        rows = [
            [str(item["generation"]), age(item["timeMs"]), item["by"], ", ".join(item["paths"])]
            for item in items
        ]
        print_table(["REVISION", "AGE", "BY", "CHANGED"], rows)


@rollout_app.command()
def undo(
    context: typer.Context,
    kind: KindArgument,
    name: OptionalName = None,
    to: RevisionOption = 0,
    project: ProjectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Apply an earlier spec of an endpoint again, with the checks and rights of every other change.

    `engine.env` is not kept, so it stays as it is now.
    Examples: computility rollout undo ep/tiny; computility rollout undo ep/tiny --to-revision 3
    """
    one, name = _endpoint(kind, name)
    with session_of(context).client() as client:
        found = find(client, one, name, project_of(context, project))
        items = _revisions(client, found)
        present = found["metadata"]["generation"]
        earlier = [item["generation"] for item in items if item["generation"] < present]
        if not to and not earlier:
            raise NotFound(f"no earlier spec of {name} is kept")
        revision = to or earlier[0]
        spec = _kept(items, revision)
        if any(_of_variables(item) for item in items if revision < item["generation"] <= present):
            to_stderr("spec.engine.env is not kept: its variables stay as they are now")
        change(
            client,
            one,
            name,
            found["metadata"].get("project"),
            lambda now: {**now, "spec": _with_variables(spec, now["spec"])},
            dry_run=dry_run,
        )


def _endpoint(kind: str, name: str | None) -> tuple[KindName, str]:
    one, name = named(kind, name)
    if one.kind != "Endpoint":
        raise InvalidInput(f"{one.plural} have no engines to roll; endpoints have", param="KIND")
    return one, name


def _revisions(client: Client, found: Document) -> list[Document]:
    return client.revisions(found["metadata"]["name"], found["metadata"].get("project"))


def _kept(items: list[Document], revision: int) -> Document:
    """The spec of a revision. Raises ``NotFound`` where it is not kept."""
    by_number = {item["generation"]: item for item in items}
    if revision not in by_number:
        known = ", ".join(map(str, sorted(by_number))) or "none"
        raise NotFound(f"revision {revision} is not kept; kept are: {known}")
    spec: Document | None = by_number[revision]["spec"]
    if spec is None:
        raise NotFound(
            f"the spec of revision {revision} is not kept, because an argument of its engines may be a secret"
        )
    return spec


def _of_variables(item: Document) -> bool:
    return any(path.startswith("spec.engine.env") for path in item["paths"])


def _with_variables(spec: Document, now: Document) -> Document:
    variables = (now.get("engine") or {}).get("env")
    return {**spec, "engine": {**(spec.get("engine") or {}), "env": variables}} if variables else spec
