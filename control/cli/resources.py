"""apply, get, describe, delete: the commands on resources of every kind."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from common.client import Client
from common.errors import InvalidInput, NotFound
from common.resources import Project, Resource
from control.cli.kinds import all_names, kind_named
from control.cli.options import NameArgument, OutputOption, ProjectOption, session_of
from control.console.describe import describe_document
from control.console.manifests import read_manifests
from control.console.outcomes import apply_manifests, print_outcome
from control.console.output import Output, console, print_document, print_table
from control.console.tables import resource_table

KIND_HELP = f"Kind: singular, plural or short name. {all_names()}"
KindArgument = Annotated[str, typer.Argument(help=KIND_HELP, metavar="KIND")]
FilesOption = Annotated[
    list[str],
    typer.Option("--filename", "-f", help="File or folder of YAML or JSON, or - for standard input."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check and tell what would change; change nothing.")
]


def apply(context: typer.Context, filename: FilesOption, dry_run: DryRunOption = False) -> None:
    """Create resources or change them to what files say.

    All documents are checked before the first is written. Example: computility apply -f examples/
    """
    manifests = read_manifests(filename)
    with session_of(context).client() as client:
        apply_manifests(client, manifests, console(), dry_run)


def get(
    context: typer.Context,
    kind: KindArgument,
    name: NameArgument = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with every change.")] = False,
) -> None:
    """Show resources of a kind, or one of them.

    Examples: computility get endpoints; computility get wl tiny-0 -p acme-agents -o yaml
    """
    cls = kind_named(kind)
    with session_of(context).client() as client:
        if name:
            _show(cls, find(client, cls, name, project), output, single=True)
        else:
            _show(cls, client.list(cls.PLURAL, project), output)
        if watch:
            _watch(client, cls, name, project, output)


def find(client: Client, cls: type[Resource], name: str, project: str | None) -> dict[str, Any]:
    """One resource. Without a project it is looked for in all that the key sees.

    Raises ``NotFound``, or ``InvalidInput`` naming the projects when several have it.
    """
    if cls.SCOPE == "cluster" or project:
        return client.get(cls.PLURAL, name, project)
    found = [item for item in client.list(cls.PLURAL) if item["metadata"]["name"] == name]
    if not found:
        raise NotFound(
            f"there is no {cls.__name__} {name}; `computility get {cls.PLURAL}` lists what there is"
        )
    if len(found) > 1:
        projects = ", ".join(item["metadata"]["project"] for item in found)
        raise InvalidInput(
            f"{cls.__name__} {name} is in several projects ({projects}); choose with -p", param="-p"
        )
    return found[0]


def _show(
    cls: type[Resource], content: dict[str, Any] | list[dict[str, Any]], output: Output, single: bool = False
) -> None:
    if output in (Output.YAML, Output.JSON):
        print_document(content if single else {"items": content}, output)
        return
    documents = content if isinstance(content, list) else [content]
    if not documents:
        console().print(f"no {cls.PLURAL}", style="dim")
        return
    print_table(*resource_table(cls.__name__, documents, output is Output.WIDE))


def _watch(
    client: Client, cls: type[Resource], name: str | None, project: str | None, output: Output
) -> None:
    for change in client.watch([cls.__name__], project):
        document = change["resource"]
        if name and document["metadata"]["name"] != name:
            continue
        if change["type"] == "delete":
            print_outcome(console(), cls.__name__, document["metadata"]["name"], "deleted", dry_run=False)
        else:
            _show(cls, document, output, single=True)


def describe(
    context: typer.Context,
    kind: KindArgument,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one resource with its conditions and its latest events."""
    cls = kind_named(kind)
    with session_of(context).client() as client:
        document = find(client, cls, name, project)
        events = client.events(cls.__name__, name, document["metadata"].get("project"))
        limits = client.limits(name) if cls is Project else None
    if output in (Output.YAML, Output.JSON):
        more = {"events": events} if limits is None else {"limits": limits, "events": events}
        print_document({**document, **more}, output)
    else:
        describe_document(console(), document, events, limits)


def delete(
    context: typer.Context,
    kind: Annotated[str | None, typer.Argument(help=KIND_HELP, metavar="[KIND]")] = None,
    name: NameArgument = None,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Delete what these files name.")
    ] = None,
    project: ProjectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Delete one resource, or all that files name (in the reverse order)."""
    with session_of(context).client() as client:
        if filename:
            manifests = read_manifests(filename)
            targets = [(type(r), r.name, r.project) for r in (m.parse() for m in reversed(manifests))]
        elif kind and name:
            cls = kind_named(kind)
            targets = [(cls, name, find(client, cls, name, project)["metadata"].get("project"))]
        else:
            raise InvalidInput("say what to delete: KIND NAME, or -f FILE")
        for cls, target, in_project in targets:
            client.delete(cls.PLURAL, target, in_project, dry_run=dry_run)
            print_outcome(console(), cls.__name__, target, "deleted", dry_run)
