"""get: resources of every kind, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import Forbidden, InvalidInput
from control.cli.asking.finding import find
from control.cli.asking.kinds import ALL, kinds_named
from control.cli.asking.options import ProjectOption, project_of, session_of
from control.cli.asking.suggestions import kinds_from, names_from
from control.console.tables.listing import Listing, Section, follow, show
from control.console.tables.selectors import parse_selector, sorted_by
from control.console.tables.shapes import Shape

if TYPE_CHECKING:
    from common.client import Client
    from common.kind_names import KindName

KINDS_HELP = "Kind, kinds (ep,wl), KIND/NAME, or all."


def get(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=KINDS_HELP, autocompletion=kinds_from)],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names; unset = all.", autocompletion=names_from),
    ] = None,
    project: ProjectOption = None,
    everywhere: Annotated[
        bool, typer.Option("--all-projects", "-A", help="Of all projects, whatever the context says.")
    ] = False,
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="Only with these labels: a=b,c!=d,e,!f.")
    ] = "",
    sort_by: Annotated[
        str, typer.Option("--sort-by", help="A field, like metadata.createdMs or .status.phase.")
    ] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="table, wide, name, yaml, json or jsonpath=TEMPLATE.")
    ] = "table",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with every change.")] = False,
) -> None:
    """Show resources of one or more kinds, or one of them.

    Examples: computility get endpoints; computility get wl tiny-0 -p acme-agents -o yaml;
    computility get ep,wl -A -l team=search --sort-by metadata.createdMs; computility get all;
    computility get ep -o jsonpath='{.items[*].metadata.name}'; computility get wl -w -o json
    """
    shape = Shape.parse(output)
    kind, slash, name = kind.partition("/")
    wanted = [*([name] if slash else []), *(names or ())]
    kinds = kinds_named(kind)
    if wanted and len(kinds) > 1:
        raise InvalidInput("names go with one kind: write KIND NAME, or KIND/NAME", param="NAME")
    where = None if everywhere else project_of(context, project)
    labels = parse_selector(selector)
    with session_of(context).client() as client:
        sections, revision = [], 0
        for one in kinds:
            documents, seen = _documents(client, one, wanted, where, labels, skip=kind.lower() == ALL)
            revision = min(revision, seen) if revision else seen
            sections.append(Section(one, sorted_by(documents, sort_by)))
        listing = Listing(sections, single=len(wanted) == 1)
        show(listing, shape, quiet=watch)
        if watch:
            changes = client.watch([one.kind for one in kinds], where, revision or None)
            follow((c for c in changes if _is_wanted(c["resource"], wanted, labels)), listing, shape)


def _documents(
    client: Client, kind: KindName, names: list[str], project: str | None, labels: Any, *, skip: bool
) -> tuple[list[dict[str, Any]], int]:
    """What there is of a kind, and the revision at which it was so (0 = now). ``skip``: what the key may not
    read is left out."""
    if names:
        return [find(client, kind, name, project) for name in names], 0
    try:
        found, revision = client.list_at(kind.plural, project, labels.equal)
    except Forbidden:
        if skip:
            return [], 0
        raise
    return [document for document in found if labels.matches(document)], revision


def _is_wanted(document: dict[str, Any], names: list[str], labels: Any) -> bool:
    return (not names or document["metadata"]["name"] in names) and bool(labels.matches(document))
