"""logs, events, explain, usage: what happened, why, and what it cost."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.clock import SYSTEM_CLOCK
from common.errors import Forbidden, InvalidInput, NotFound
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import (
    JsonOption,
    LongProjectOption,
    OptionalKind,
    OptionalName,
    OutputOption,
    ProjectOption,
    project_of,
    session_of,
)
from control.console.formats import Output
from control.console.output import console, print_document, to_stderr
from control.console.tables.budget_table import print_binding
from control.console.tables.usage_table import print_usage
from control.console.terminal import log_line
from control.console.told.canary import print_canary
from control.console.told.describe import print_events
from control.console.told.endpoint_explained import print_endpoint
from control.console.told.event_stream import follow_events
from control.console.told.explanations import print_explanation
from control.console.told.moments import begin_of, parse_span
from control.console.told.scaling import print_scaling
from control.console.told.two_legs import print_two_legs

if TYPE_CHECKING:
    from common.client import Client

WorkloadArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A workload, or an endpoint or fine-tune job that owns workloads."),
]


def logs(
    context: typer.Context,
    name: WorkloadArgument,
    project: LongProjectOption = None,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Which process of the gang.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the start before the current one.")
    ] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=1, help="Only the last lines.")] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="An earlier start.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only what was printed within that, like 90s, 10m, 2h.")
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Begin each line with the time at which it was printed.")
    ] = False,
) -> None:
    """Print what a workload printed.

    Examples: computility logs tiny --tail 20; computility logs tiny-0 -f; computility logs tiny -p;
    computility logs tiny --since 10m --timestamps
    """
    if previous and attempt is not None:
        raise InvalidInput("--previous and --attempt: choose one of them", param="--previous")
    with session_of(context).client() as client:
        workload = _workloads(client, name, project_of(context, project))[0]
        metadata, now = workload["metadata"], workload.get("status", {}).get("attempt", 0)
        if previous:
            if now < 2:
                started = "once" if now else "never"
                raise NotFound(f"{metadata['name']} was started {started}: there is no start before")
            attempt = now - 1
        printed = client.logs(
            metadata["name"],
            metadata["project"],
            rank,
            follow,
            attempt=attempt,
            tail_lines=tail,
            since_seconds=None if since is None else parse_span(since, "--since"),
            timestamps=timestamps,
        )
        silent = True
        for line in printed:
            silent = False
            typer.echo(log_line(line))
        if silent and since is None and attempt is None and now > 1:
            to_stderr(f"start {now} has printed nothing; `computility logs {name} -p` shows the one before")


def _workloads(client: Client, name: str, project: str | None) -> list[dict[str, Any]]:
    """The workload of that name, else those that a resource of that name owns; KIND/NAME says which."""
    kind, slash, inner = name.partition("/")
    wanted, name = (kind_named(kind).kind, inner) if slash else ("", name)
    workloads = client.list("workloads", project)
    own = [one for one in workloads if one["metadata"]["name"] == name and wanted in ("", "Workload")]
    owners = ((one, one["metadata"].get("owner") or {}) for one in workloads)
    owned = [one for one, by in owners if by.get("name") == name and wanted in ("", by.get("kind"))]
    if not own and not owned:
        raise NotFound(
            f"{name} is no workload, and no endpoint or fine-tune job that has one now; `computility get "
            f"workloads` lists them, and endpoint/{name} names an endpoint that has none"
        )
    return own or owned


def events(
    context: typer.Context,
    kind: OptionalKind = None,
    name: OptionalName = None,
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 100,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what happens.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what happened to resources, oldest first.

    Examples: computility events; computility events wl/tiny-0; computility events -w -o json
    """
    if kind and "/" in kind:
        kind, _, name = kind.partition("/")
    about, where = kind_named(kind) if kind else None, project_of(context, project)
    with session_of(context).client() as client:
        ask = partial(client.events, about.kind if about else None, name, where, limit=limit)
        found = ask()
        if about and name and not found:
            find(client, about, name, where)
        if watch:
            follow_events(found, ask, output)
        elif output in (Output.YAML, Output.JSON):
            print_document({"items": found}, output)
        else:
            print_events(console(), found)


def explain(
    context: typer.Context,
    name: WorkloadArgument,
    of_kind: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="After a KIND: its name, as in KIND/NAME.")
    ] = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Say why a workload is where it is, or what it waits for.

    Of one that waits also until when, and what would help.

    KIND or KIND.FIELD: what may be written there, with an example.
    endpoint/NAME: how an endpoint is served, on which devices, by how many engines, and why.

    Examples: computility explain train; computility explain endpoint.spec.devices;
    computility explain endpoint/chat -p acme-agents --json
    """
    name = f"{name}/{of_kind}" if of_kind else name
    field = field_of(name)
    if field is not None:
        console().print(field, markup=False, soft_wrap=True)
        return
    kind, slash, endpoint = name.partition("/")
    if slash and kind_named(kind).kind == "Workload":
        name, slash = endpoint, ""
    if slash:
        _explain_endpoint(context, kind, endpoint, project, output, as_json=as_json)
        return
    with session_of(context).client() as client:
        where = project_of(context, project)
        try:
            workloads = _workloads(client, name, where)
        except NotFound:
            if not any(one["metadata"]["name"] == name for one in client.list("endpoints", where)):
                raise
            workloads = []
        answers = [client.explain(w["metadata"]["name"], w["metadata"]["project"]) for w in workloads]
    if not workloads:  # of an endpoint that has none now, which says why
        _explain_endpoint(context, "endpoint", name, project, output, as_json=as_json)
        return
    if as_json or output in (Output.YAML, Output.JSON):
        print_document({"items": answers}, Output.YAML if output is Output.YAML else Output.JSON)
        return
    for answer in answers:
        print_explanation(console(), answer)


def _explain_endpoint(
    context: typer.Context, kind: str, name: str, project: str | None, output: Output, *, as_json: bool
) -> None:
    if kind_named(kind).kind != "Endpoint":
        raise InvalidInput(
            f"{kind}/{name}: write endpoint/NAME, or the name of a workload alone", param="NAME"
        )
    with session_of(context).client() as client:
        found = [one for one in client.list("endpoints", project) if one["metadata"]["name"] == name]
        if not found:
            raise NotFound(f"there is no endpoint {name}; `computility get endpoints` lists them")
        scaling = [client.explain_endpoint(name, one["metadata"]["project"]) for one in found]
    if as_json or output in (Output.YAML, Output.JSON):
        document = {"items": found, "scaling": scaling}
        print_document(document, Output.YAML if output is Output.YAML else Output.JSON)
        return
    for one, answer in zip(found, scaling, strict=True):
        print_endpoint(console(), one)
        print_scaling(console(), answer)
        print_canary(console(), answer.get("canary"))
        print_two_legs(console(), answer.get("twoLegs"))


def field_of(text: str) -> str | None:
    """The reference of a kind or field; None for what names neither."""
    kind, _, path = text.partition(".")
    try:
        named = kind_named(kind)
    except InvalidInput:
        return None
    from control.console.documents.field_reference import describe_field

    return describe_field(named.kind, path)


def usage(
    context: typer.Context,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Group by these: tenant, project, key, user, model, adapter, kind, device_class, endpoint, "
            "task, month, day, hour, minute, or tag:<name> for the values of a tag.",
        ),
    ] = "tenant,model,key",
    begin: Annotated[str | None, typer.Option("--from", help="Begin, like 2026-11-01T00:00:00Z.")] = None,
    since: Annotated[str, typer.Option("--since", help="Begin so long ago, like 24h or 7d.")] = "",
    until: Annotated[str | None, typer.Option("--until", help="End (not included).")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")] = None,
    project: ProjectOption = None,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only for this end user.")] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Only of this Endpoint, project/name.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only with this tag, name=value.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what was used and what it costs, in credits.

    Examples: computility usage --since 24h; computility usage --by tag:team,model --since 30d
    """
    begin = begin_of(begin, since)
    filters = {
        "tenant": tenant,
        "project": project_of(context, project),
        "model": model,
        "user": user,
        "endpoint": endpoint,
        "tag": tag,
    }
    with session_of(context).client() as client:
        given = {name: value for name, value in filters.items() if value}
        report = client.usage(group_by=_with_identity(by), from_=begin, to=until, **given)
        budgets = client.whoami().get("budgets", ()) if output is Output.TABLE else ()
        if filters["project"] and not report["total"]["events"]:
            with suppress(Forbidden):
                find(client, kind_named("project"), filters["project"], None)
    if output in (Output.YAML, Output.JSON):
        print_document(report, output)
    else:
        print_usage(console(), report)
        print_binding(console(), budgets, SYSTEM_CLOCK.now_ms())


def _with_identity(by: str) -> str:
    """A served name is free: beside it stands the Model that did the work, which the price goes by."""
    names = by.split(",")
    if "model" in names and "model_identity" not in names:
        names.insert(names.index("model") + 1, "model_identity")
    return ",".join(names)
