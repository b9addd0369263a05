"""edit, patch, scale: change one resource that is there."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from common.environment import variable
from common.errors import ComputilityError, InvalidInput
from common.kind_names import KindName
from control.cli.asking.finding import find
from control.cli.asking.options import (
    DryRunOption,
    KindArgument,
    LongProjectOption,
    OptionalName,
    ProjectOption,
    project_of,
    session_of,
)
from control.cli.changes.writing import change, named
from control.console.documents.documents import as_written, merged
from control.console.documents.json_patch import patched
from control.console.documents.outcomes import print_outcome
from control.console.output import console, to_stderr


class PatchType(StrEnum):
    """How a patch is meant."""

    MERGE = "merge"
    JSON = "json"


def edit(
    context: typer.Context, kind: KindArgument, name: OptionalName = None, project: ProjectOption = None
) -> None:
    """Change a resource in your editor ($VISUAL, $EDITOR, else vi).

    Where it was changed meanwhile, nothing is written and your text is kept.
    Example: computility edit ep tiny
    """
    one, name = named(kind, name)
    with session_of(context).client() as client:
        found = find(client, one, name, project_of(context, project))
        text = _yaml(as_written(found, keep_version=True))
        path = _draft(one, name, text)
        while True:
            _open_editor(path)
            changed = path.read_text()
            if changed.strip() in ("", text.strip()):
                path.unlink()
                to_stderr("nothing was changed")
                return
            try:
                answer = client.apply(_document(path))
            except ComputilityError as error:
                to_stderr(f"{error.message}\nyour text is in {path}")
                if not typer.confirm("edit it again?", default=True, err=True):
                    raise
                continue
            path.unlink()
            effect = answer.get("effect") or ""
            print_outcome(console(), one.kind, name, answer["outcome"], dry_run=False, effect=effect)
            return


def _yaml(document: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def _draft(kind: KindName, name: str, text: str) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"computility-{kind.kind.lower()}-{name[:40]}-", suffix=".yaml", delete=False
    ) as file:
        file.write(text)
    return Path(file.name)


def _open_editor(path: Path) -> None:
    editor = variable("VISUAL") or variable("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(editor), str(path)], check=False)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the editor {editor!r} cannot be started: {error}; set EDITOR") from error
    if done.returncode:
        raise InvalidInput(f"the editor {editor!r} ended with {done.returncode}; your text is in {path}")


def _document(path: Path) -> dict[str, Any]:
    from control.console.documents.manifests import read_manifests

    [manifest, *others] = read_manifests([str(path)], keep_version=True)
    if others:
        raise InvalidInput(f"{path} has to hold one resource")
    manifest.require_json()
    return manifest.content


def patch(
    context: typer.Context,
    kind: KindArgument,
    name: OptionalName = None,
    text: Annotated[
        str, typer.Option("--patch", "-p", help="JSON or YAML: what to merge, or a list of operations.")
    ] = "",
    type_: Annotated[
        PatchType, typer.Option("--type", help="merge (RFC 7396; null takes away) or json (RFC 6902).")
    ] = PatchType.MERGE,
    project: LongProjectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Change fields of a resource, and leave the others as they are.

    Examples: computility patch ep tiny -p '{"spec": {"replicas": 2}}';
    computility patch no vm --type json -p '[{"op": "replace", "path": "/spec/cordoned", "value": true}]'
    """
    one, name = named(kind, name)
    wanted = _parsed(text)
    if type_ is PatchType.MERGE and not isinstance(wanted, dict):
        raise InvalidInput("--patch: a merge patch is a mapping", param="--patch")
    apply_to = merged if type_ is PatchType.MERGE else patched
    with session_of(context).client() as client:
        change(
            client,
            one,
            name,
            project_of(context, project),
            lambda now: apply_to(now, wanted),
            dry_run=dry_run,
        )


def _parsed(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"--patch: neither JSON nor YAML: {error}", param="--patch") from error


def scale(
    context: typer.Context,
    kind: KindArgument,
    replicas: Annotated[int, typer.Option("--replicas", min=0, help="How many are wanted.")],
    name: OptionalName = None,
    role: Annotated[
        str, typer.Option("--role", help="Of this role: prefill or decode of an Endpoint, or a Workload's.")
    ] = "",
    current: Annotated[
        int | None, typer.Option("--current-replicas", min=0, help="Only where there are so many now.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Set how many replicas an Endpoint or a role of a Workload has.

    Examples: computility scale ep tiny --replicas 2; computility scale ep big --role decode --replicas 4
    """
    one, name = named(kind, name)
    if one.kind not in ("Endpoint", "Workload"):
        raise InvalidInput(f"{one.plural} have no replicas; endpoints and workloads have", param="KIND")

    def make(document: dict[str, Any]) -> dict[str, Any]:
        part = _scaled(document, role)
        if current is not None and part.get("replicas", 1) != current:
            raise InvalidInput(f"{name} has {part.get('replicas', 1)} replicas, not {current}")
        if part.get("autoscaling"):
            to_stderr(f"{name} follows its load (spec.autoscaling): set minReplicas and maxReplicas instead")
        part["replicas"] = replicas
        return document

    with session_of(context).client() as client:
        change(client, one, name, project_of(context, project), make)


def _scaled(document: dict[str, Any], role: str) -> dict[str, Any]:
    """The part of the spec that says how many."""
    spec: dict[str, Any] = document["spec"]
    if document["kind"] == "Endpoint":
        parts = {one: spec[one] for one in ("prefill", "decode") if spec.get(one)} or {"": spec}
    else:
        parts = {one["name"]: one for one in spec["roles"]}
        role = role or (next(iter(parts)) if len(parts) == 1 else "")
    if role not in parts:
        known = ", ".join(filter(None, parts)) or "none"
        raise InvalidInput(f"--role: {role or 'unset'!r}; roles: {known}", param="--role")
    return parts[role]
