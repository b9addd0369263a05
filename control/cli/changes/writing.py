"""Reading a resource, changing it, and writing it back where nobody else did meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.errors import Conflict, InvalidInput
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.console.documents.documents import as_written, difference, print_difference
from control.console.documents.outcomes import print_outcome
from control.console.output import console

if TYPE_CHECKING:
    from common.client import Client
    from common.kind_names import KindName

TRIES = 5
Change = Callable[[dict[str, Any]], dict[str, Any]]


def named(kind: str, name: str | None) -> tuple[KindName, str]:
    """The kind and name of ``KIND NAME`` or ``KIND/NAME``. Raises ``InvalidInput``."""
    kind, slash, inner = kind.partition("/")
    if bool(name) == bool(slash) or not (name or inner):
        raise InvalidInput("say which resource: KIND NAME, or KIND/NAME", param="NAME")
    return kind_named(kind), name or inner


def change(
    client: Client, kind: KindName, name: str, project: str | None, make: Change, *, dry_run: bool = False
) -> None:
    """Write what ``make`` makes of the resource and say what became of it; read it again where another
    writer came first."""
    for left in reversed(range(TRIES)):
        found = find(client, kind, name, project)
        wanted = make(as_written(found, keep_version=True))
        try:
            answer = client.apply(wanted, dry_run=dry_run)
        except Conflict:
            if not left:
                raise
            continue
        print_outcome(console(), kind.kind, name, answer["outcome"], dry_run, answer.get("effect") or "")
        if dry_run and "resource" in answer:
            print_difference(console(), difference(found, answer["resource"], f"{kind.kind}/{name}"))
        return
