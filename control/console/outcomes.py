"""What became of manifests that were applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.errors import ComputilityError
from control.console.manifests import Manifest, blame

if TYPE_CHECKING:
    from rich.console import Console

    from common.client import Client

OUTCOME_STYLES = {"created": "green", "configured": "yellow", "unchanged": "dim", "deleted": "red"}


def apply_manifests(
    client: Client, manifests: Sequence[Manifest], out: Console, dry_run: bool = False
) -> None:
    """Apply all or none, one line on ``out`` for each; an error says in which file and line it is."""
    for manifest in manifests:
        manifest.require_json()
    try:
        results = client.apply_all([manifest.content for manifest in manifests], dry_run)
    except ComputilityError as error:
        raise blame(manifests, error) from error
    for manifest, result in zip(manifests, results, strict=True):
        content = manifest.content
        print_outcome(out, content["kind"], content["metadata"]["name"], result["outcome"], dry_run)


def print_outcome(out: Console, kind: str, name: str, outcome: str, dry_run: bool) -> None:
    """One line: the resource, and what became of it."""
    suffix = " (dry run)" if dry_run else ""
    out.print(f"{kind.lower()}/{name} [{OUTCOME_STYLES[outcome]}]{outcome}[/]{suffix}")
