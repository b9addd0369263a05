"""Labels of the Kubernetes node on which a pod runs, as labels of the Ray node in it.

``python -m operators.node_labels --node NAME --out FILE --label RAY=KUBERNETES …`` runs before Ray starts. A
pod is told the name of its node, not its labels, so they are asked of the API server, once, with a token that
no other container of the pod has. The file is what ``ray start --labels-file`` takes. It ends with 0; else
with the code of the error: the API server does not answer, refuses, or has no such node.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from common.errors import ComputilityError, InvalidInput, SetupError, Unavailable, mapping_of
from operators.kube.client import Kube
from operators.kube.handlers import login

ATTEMPTS = 10
PAUSE_SECONDS = 2.0
Ask = Callable[[str], Awaitable[Mapping[str, Any]]]
Pause = Callable[[float], Awaitable[None]]


def wanted_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Ray's label -> Kubernetes' label. Raises ``InvalidInput`` for what is no pair."""
    found = {}
    for pair in pairs:
        ray, _, kubernetes = pair.partition("=")
        if not (ray and kubernetes):
            raise InvalidInput(f"--label {pair[:200]!r}: write RAY=KUBERNETES", param="label")
        found[ray] = kubernetes
    return found


def translated(node: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, str]:
    """The labels for Ray; those that the node lacks or has empty are left out."""
    labels = node["metadata"].get("labels") or {}
    return {ray: str(labels[kubernetes]) for ray, kubernetes in wanted.items() if labels.get(kubernetes)}


async def labels_of(name: str, wanted: Mapping[str, str], ask: Ask, pause: Pause) -> dict[str, str]:
    """Ask until the API server answers. Raises ``Unavailable`` when it has not after ten times."""
    path = f"/api/v1/nodes/{quote(name, safe='')}"
    for _ in range(ATTEMPTS - 1):
        try:
            return translated(await ask(path), wanted)
        except Unavailable as error:
            sys.stderr.write(f"waiting for the API server: {error}\n")
            await pause(PAUSE_SECONDS)
    return translated(await ask(path), wanted)


async def _labels_from_cluster(name: str, wanted: Mapping[str, str]) -> dict[str, str]:
    kube = Kube(login)
    try:
        return await labels_of(name, wanted, kube.get, asyncio.sleep)
    finally:
        await kube.close()


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="operators.node_labels", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--node", required=True, help="name of the Kubernetes node")
    parser.add_argument("--out", type=Path, required=True, help="file for ray start --labels-file")
    parser.add_argument("--label", action="append", default=[], help="RAY=KUBERNETES, as often as wanted")
    options = parser.parse_args(arguments)
    try:
        labels = asyncio.run(_labels_from_cluster(options.node, wanted_labels(options.label)))
        _write(options.out, yaml.safe_dump(labels))
    except ComputilityError as error:
        sys.stderr.write(f"error: {error}\n")
        return mapping_of(error).exit_code
    return 0


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise SetupError(f"cannot write {file}: {error.strerror}", param="out") from error


if __name__ == "__main__":
    sys.exit(main())
