"""One resource by what people type, or the nearest names there are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from common.errors import Forbidden, InvalidInput, NotFound

if TYPE_CHECKING:
    from common.client import Client
    from common.kind_names import KindName


def find(client: Client, kind: KindName, name: str, project: str | None) -> dict[str, Any]:
    """One resource. Without a project it is looked for in all that the key sees.

    Raises ``NotFound`` with the nearest names, or ``InvalidInput`` naming the projects when several have it.
    """
    if kind.scope == "cluster" or project:
        try:
            return client.get(kind.plural, name, project)
        except NotFound as error:
            raise _with_nearest(client, kind, name, project, error) from error
    listed = client.list(kind.plural)
    found = [item for item in listed if item["metadata"]["name"] == name]
    if not found:
        raise _missing(kind, name, (item["metadata"]["name"] for item in listed))
    if len(found) > 1:
        projects = ", ".join(item["metadata"]["project"] for item in found)
        raise InvalidInput(
            f"{kind.kind} {name} is in several projects ({projects}); choose with -p", param="-p"
        )
    return found[0]


def _with_nearest(
    client: Client, kind: KindName, name: str, project: str | None, error: NotFound
) -> NotFound:
    """The error with a name that may have been meant: of the resource, or of the project."""
    try:
        if project and kind.scope == "project":
            projects = [item["metadata"]["name"] for item in client.list("projects")]
            if project not in projects:
                near = get_close_matches(project, projects, n=1)
                meant = f"; did you mean {near[0]}?" if near else ""
                return NotFound(f"there is no project {project}{meant}", param="-p")
        names = [item["metadata"]["name"] for item in client.list(kind.plural, project)]
    except (Forbidden, NotFound):
        return error
    return _missing(kind, name, names)


def _missing(kind: KindName, name: str, names: Iterable[str]) -> NotFound:
    near = get_close_matches(name, names, n=3)
    if near:
        return NotFound(f"there is no {kind.kind} {name}; did you mean {' or '.join(near)}?")
    return NotFound(f"there is no {kind.kind} {name}; `computility get {kind.plural}` lists what there is")
