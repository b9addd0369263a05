"""apply, describe, delete: the commands on resources of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import InvalidInput
from common.kind_names import KIND_NAMES, KindName
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import (
    DryRunOption,
    FilesOption,
    KindArgument,
    OptionalKind,
    OptionalName,
    OutputOption,
    ProjectOption,
    project_of,
    session_of,
)
from control.cli.asking.suggestions import names_from
from control.cli.changes.waiting import TimeoutOption, wait_for_all
from control.cli.changes.writing import named as one_named
from control.console.documents.documents import print_difference
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.told.moments import parse_span

if TYPE_CHECKING:
    from control.console.documents.manifests import Manifest

ELSEWHERE = {"ApiKey": "keys revoke", "File": "files delete"}
"""Kinds that end by a command of their own."""


def apply(
    context: typer.Context,
    filename: FilesOption,
    dry_run: DryRunOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until all of it is in place.")] = False,
    timeout: TimeoutOption = "15m",
) -> None:
    """Create resources or change them to what files say.

    All documents are checked before the first is written; --dry-run shows what would change. What control
    sets is left out, so that what `get` gives can be applied.

    Examples: computility apply -f examples/; computility get ep tiny -o yaml | computility apply -f -;
    computility apply -f endpoint.yaml --wait --timeout 5m
    """
    from control.console.documents.manifests import read_manifests
    from control.console.documents.outcomes import apply_manifests

    seconds = parse_span(timeout, "--timeout")
    manifests = read_manifests(filename, keep_version=True)
    with session_of(context).client() as client:
        apply_manifests(client, manifests, console(), dry_run)
        if wait and not dry_run:
            wait_for_all(client, [manifest.content for manifest in manifests], seconds)


def diff(context: typer.Context, filename: FilesOption) -> None:
    """Show what apply would change; exit code 1 where that is something.

    Example: computility diff -f examples/
    """
    from control.console.documents.manifests import read_manifests
    from control.console.documents.outcomes import differences

    manifests = read_manifests(filename, keep_version=True)
    with session_of(context).client() as client:
        found = differences(client, manifests)
    for lines in found:
        print_difference(console(), lines)
    if found:
        raise typer.Exit(1)


def describe(
    context: typer.Context,
    kind: KindArgument,
    name: OptionalName = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one resource with its conditions and its latest events.

    Examples: computility describe endpoint tiny; computility describe ep/tiny
    """
    from control.console.told.describe import describe_document

    named, name = one_named(kind, name)
    with session_of(context).client() as client:
        document = find(client, named, name, project_of(context, project))
        events = client.events(named.kind, name, document["metadata"].get("project"))
        limits = client.limits(name) if named.kind == "Project" else None
    if output in (Output.YAML, Output.JSON):
        more = {"events": events} if limits is None else {"limits": limits, "events": events}
        print_document({**document, **more}, output)
    else:
        describe_document(console(), document, events, limits)


def delete(
    context: typer.Context,
    kind: OptionalKind = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names.", autocompletion=names_from),
    ] = None,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Delete what these files name.")
    ] = None,
    project: ProjectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Delete resources by their names, or all that files name.

    Files are gone through in the reverse order. Examples: computility delete endpoint tiny; computility
    delete ep/tiny; computility delete wl a b; computility delete -f examples/
    """
    from control.console.documents.outcomes import print_outcome

    kind, _, named = (kind or "").partition("/")
    names = [*([named] if named else []), *(names or ())]
    with session_of(context).client() as client:
        targets: list[tuple[KindName, str, str | None]]
        if filename:
            targets = _named_in(filename)
        elif kind and names:
            one = kind_named(kind)
            if one.kind in ELSEWHERE:
                command = f"`computility {ELSEWHERE[one.kind]} {names[0]}`"
                raise InvalidInput(f"{one.plural} have a command of their own: {command}", param="KIND")
            where = project_of(context, project)
            found = {name: find(client, one, name, where) for name in names}
            targets = [(one, name, document["metadata"].get("project")) for name, document in found.items()]
        else:
            raise InvalidInput("say what to delete: KIND NAME, or -f FILE")
        for one, target, where in targets:
            client.delete(one.plural, target, where, dry_run=dry_run)
            print_outcome(console(), one.kind, target, "deleted", dry_run)


def _named_in(filename: list[str]) -> list[tuple[KindName, str, str | None]]:
    from control.console.documents.manifests import read_manifests

    return [_named_by(manifest) for manifest in reversed(read_manifests(filename))]


def _named_by(manifest: Manifest) -> tuple[KindName, str, str | None]:
    """Kind, name and project of a document, which need not be right otherwise."""
    metadata, kind = manifest.content.get("metadata"), manifest.content.get("kind")
    named = next((one for one in KIND_NAMES if one.kind == kind), None)
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if named is None or not isinstance(name, str):
        resource = manifest.parse()
        return kind_named(resource.kind), resource.name, resource.project
    return named, name, manifest.project or None
