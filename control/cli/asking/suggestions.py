"""What completion offers: kinds, and the names that there are now. It says nothing where it cannot ask."""

from __future__ import annotations

from typing import Any

import typer

from common.errors import ComputilityError
from control.cli.asking.kinds import kind_named, typed_names
from control.cli.asking.session import Session

ANSWER_SECONDS = 2.0


def kinds_from(context: typer.Context, incomplete: str) -> list[str]:
    """Kinds that begin so; after a comma, the next of a list. After ``kind/``, names of that kind."""
    kind, slash, name = incomplete.partition("/")
    if slash:
        return [f"{kind}/{one}" for one in _names(context, kind, name)]
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in typed_names() if name.startswith(last)]


def names_from(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the kind that was typed before."""
    kind = context.params.get("kind")
    return _names(context, kind, incomplete) if isinstance(kind, str) else []


def projects_from(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the projects that the key sees."""
    return _names(context, "projects", incomplete, anywhere=True)


def workloads_from(context: typer.Context, incomplete: str) -> list[str]:
    """Names of workloads, and of what has them."""
    kinds = ("workloads", "endpoints", "finetunes")
    return sorted({name for kind in kinds for name in _names(context, kind, incomplete)})


def endpoints_from(context: typer.Context, incomplete: str) -> list[str]:
    """Names of endpoints, which are names of models too."""
    return _names(context, "endpoints", incomplete)


def nodes_from(context: typer.Context, incomplete: str) -> list[str]:
    """Names of nodes."""
    return _names(context, "nodes", incomplete)


def _names(context: typer.Context, kind: str, incomplete: str, *, anywhere: bool = False) -> list[str]:
    try:
        project = None if anywhere else context.params.get("project")
        with _session(context).client(ANSWER_SECONDS) as client:
            found = client.list(kind_named(kind).plural, project)
    except (ComputilityError, OSError):
        return []
    names = {item["metadata"]["name"] for item in found}
    return sorted(name for name in names if name.startswith(incomplete))


def _session(context: typer.Context) -> Session:
    """As the global options before the command say; while completing, no command has made it."""
    params: dict[str, Any] = context.find_root().params
    names = ("home", "url", "gateway_url", "key")
    given = {name: params[name] for name in names if params.get(name)}
    return Session.load(**given, context=params.get("context_name") or "")
