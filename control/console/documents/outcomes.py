"""What became of manifests that were applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from common.errors import ComputilityError, NotFound
from common.kind_names import KIND_NAMES
from control.console.documents.documents import difference, print_difference
from control.console.output import to_stderr

if TYPE_CHECKING:
    from rich.console import Console

    from common.client import Client
    from control.console.documents.manifests import Manifest

OUTCOME_STYLES = {"created": "green", "configured": "yellow", "unchanged": "dim", "deleted": "red"}


def apply_manifests(
    client: Client, manifests: Sequence[Manifest], out: Console, dry_run: bool = False
) -> None:
    """Apply all or none, one line on ``out`` for each, in a dry run with what would change; an error says in
    which file and line it is."""
    for manifest, result in zip(manifests, _applied(client, manifests, dry_run), strict=True):
        content = manifest.content
        name, effect = content["metadata"]["name"], result.get("effect") or ""
        print_outcome(out, content["kind"], name, result["outcome"], dry_run, effect)
        warn(f"{manifest.where()}: {odd}" for odd in result.get("warnings", ()))
        if dry_run and result["outcome"] == "configured" and "resource" in result:
            print_difference(out, _difference(client, result))


def warn(warnings: Iterable[str]) -> None:
    """What was taken and is hardly meant, beside the answer."""
    for odd in warnings:
        to_stderr(f"warning: {odd}")


def differences(client: Client, manifests: Sequence[Manifest]) -> list[list[str]]:
    """A diff for each resource that an apply would make or change, with what that does to engines that
    run."""
    results = _applied(client, manifests, dry_run=True)
    return [
        [*_difference(client, result), *_told(result)]
        for result in results
        if result["outcome"] != "unchanged"
    ]


def _told(result: dict[str, Any]) -> list[str]:
    return [f"# {result['effect']}"] if result.get("effect") else []


def _applied(client: Client, manifests: Sequence[Manifest], dry_run: bool) -> list[dict[str, Any]]:
    from control.console.documents.manifests import blame

    for manifest in manifests:
        manifest.require_json()
    try:
        return client.apply_all([manifest.content for manifest in manifests], dry_run)
    except ComputilityError as error:
        raise blame(manifests, error) from error


def _difference(client: Client, result: dict[str, Any]) -> list[str]:
    """What would be against what is."""
    new = result["resource"]
    metadata = new["metadata"]
    plural = next(one.plural for one in KIND_NAMES if one.kind == new["kind"])
    try:
        old = client.get(plural, metadata["name"], metadata.get("project"))
    except NotFound:
        old = None
    return difference(old, new, f"{new['kind']}/{metadata['name']}")


def print_outcome(out: Console, kind: str, name: str, outcome: str, dry_run: bool, effect: str = "") -> None:
    """One line: the resource, what became of it, and what that does to engines that run."""
    suffix = " (dry run)" if dry_run else ""
    out.print(f"{kind.lower()}/{name} [{OUTCOME_STYLES[outcome]}]{outcome}[/]{suffix}", end="")
    out.print(f": {effect}" if effect else "", markup=False, soft_wrap=True)
