"""wait: until a resource is as wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import InvalidInput, NotFound, Unavailable
from control.cli.asking.finding import find
from control.cli.asking.options import KindArgument, OptionalName, ProjectOption, project_of, session_of
from control.cli.changes.writing import named
from control.console.display import Stage
from control.console.output import console
from control.console.tables.selectors import at
from control.console.told.moments import parse_span, span
from control.console.told.settling import progress_of

if TYPE_CHECKING:
    from common.client import Client
    from common.kind_names import KindName

LOOK_AGAIN_SECONDS = 1.0
Judge = Callable[[Mapping[str, Any] | None], tuple[bool, str]]
"""Of a resource (None = gone): whether it is as wanted, and how far it is. Raises where it never will be."""
TimeoutOption = Annotated[str, typer.Option("--timeout", help="Give up after that, like 90s, 5m, 2h.")]


def wait(
    context: typer.Context,
    kind: KindArgument,
    name: OptionalName = None,
    wanted: Annotated[
        str,
        typer.Option("--for", help="condition=Ready, condition=Ready=False, delete, or FIELD=VALUE."),
    ] = "condition=Ready",
    timeout: TimeoutOption = "5m",
    project: ProjectOption = None,
) -> None:
    """Wait until a resource has a condition or a value, or is gone.

    Examples: computility wait ep tiny --for condition=Ready --timeout 2m;
    computility wait wl train --for delete;
    computility wait wl train --for status.phase=Succeeded
    """
    one, name = named(kind, name)
    judge = judge_for(wanted)
    seconds = parse_span(timeout, "--timeout")
    with session_of(context).client() as client:
        until(client, one, name, project_of(context, project), judge, seconds)


def settled(document: Mapping[str, Any] | None) -> tuple[bool, str]:
    """Whether all of the resource's last change is in place, and how far it is."""
    if document is None:
        raise NotFound("it was deleted meanwhile")
    return progress_of(document)


def judge_for(text: str) -> Judge:
    """What ``--for`` says. Raises ``InvalidInput``."""
    if text == "delete":
        return lambda document: (document is None, "gone" if document is None else "still there")
    field, _, value = text.partition("=")
    if field == "condition" and value:
        type_, _, state = value.partition("=")
        return lambda document: _has_condition(document, type_, state or "True")
    if field == "jsonpath":
        field, _, value = value.partition("=")
    if "." in field and value:
        return lambda document: _has_value(document, field.strip("{}"), value)
    raise InvalidInput(
        f"--for: {text!r}: write condition=TYPE, condition=TYPE=False, delete, or status.phase=Running",
        param="--for",
    )


def _has_condition(document: Mapping[str, Any] | None, type_: str, state: str) -> tuple[bool, str]:
    status = (document or {}).get("status") or {}
    found = next((c for c in status.get("conditions", ()) if c["type"].lower() == type_.lower()), None)
    if document is None or found is None:
        return False, "not there yet" if document is None else f"condition {type_} is not known yet"
    current = found.get("observedGeneration", 0) in (0, document["metadata"].get("generation", 0))
    is_so = found["status"].lower() == state.lower()
    return is_so and current, found.get("message") or found["reason"]


def _has_value(document: Mapping[str, Any] | None, field: str, value: str) -> tuple[bool, str]:
    found = at(document, field)
    shown = str(found).lower() if isinstance(found, bool) else str(found)
    return found is not None and shown == value, f"{field} is {shown if found is not None else 'not set'}"


def until(
    client: Client,
    kind: KindName,
    name: str,
    project: str | None,
    judge: Judge,
    timeout_seconds: float,
    *,
    clock: Clock = SYSTEM_CLOCK,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look each second until the judge is content. Raises ``Unavailable`` after ``timeout_seconds``."""
    deadline = clock.monotonic_seconds() + timeout_seconds
    with Stage(console(), f"{kind.kind.lower()}/{name}") as stage:
        while True:
            try:
                content, said = judge(find(client, kind, name, project))
            except NotFound as error:
                content, said = judge(None)
                if not content and "delete" not in said and clock.monotonic_seconds() >= deadline:
                    raise error from None
            stage.tell(said)
            if content:
                stage.summary = said
                return
            if clock.monotonic_seconds() >= deadline:
                raise Unavailable(
                    f"gave up waiting for {kind.kind} {name} after {span(timeout_seconds)}: {said}"
                )
            sleep(LOOK_AGAIN_SECONDS)


def wait_for_all(client: Client, documents: list[dict[str, Any]], timeout_seconds: float) -> None:
    """Until what was applied is in place; raises for the first that never will be."""
    from control.cli.asking.kinds import kind_named
    from control.console.documents.manifests import project_in

    begun = SYSTEM_CLOCK.monotonic_seconds()
    for document in documents:
        name, project = document["metadata"]["name"], project_in(document)
        left = timeout_seconds - (SYSTEM_CLOCK.monotonic_seconds() - begun)
        until(client, kind_named(document["kind"]), name, project, settled, left)
