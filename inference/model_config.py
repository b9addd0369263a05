"""The ``config.json`` of a Model: at its path, in this machine's hub cache, or with the performance extra."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import InvalidInput
from common.sources import is_of_project, local_path
from inference.adapters.aiconfigurator import known_config_file
from inference.model_files import hub_snapshots

MAX_BYTES = 1024**2


def find_config(source: str, home: Path, project: str | None = None) -> dict[str, Any]:
    """That of a Model of this project. Nothing is fetched, and what lies in the project's own folder leads
    nowhere else: whoever fills it reads no other's models.

    Raises ``InvalidInput`` that says what to do where there is none, or where it cannot be read.
    """
    path = local_path(source, home)
    files = [path / "config.json"] if path is not None else list(_of_hub(source))
    for file in files:
        if file.is_file():
            if is_of_project(project, source) and not _is_within(home / "models" / str(project), file):
                raise InvalidInput(
                    f"spec.model: {source}/config.json is a link out of the project's folder; "
                    "put a copy there",
                    param="spec.model",
                )
            return _read(file, source)
    where = "holds no config.json" if path is not None else "is not in this machine's hub cache"
    raise InvalidInput(
        f"spec.model: {source} {where}, so its speed cannot be foretold; hand its config.json over "
        "(--model-config)",
        param="spec.model",
    )


def _of_hub(source: str) -> Iterator[Path]:
    """Where it may lie, the newest snapshot first."""
    yield from (folder / "config.json" for folder in hub_snapshots(source))
    known = known_config_file(source)
    if known is not None:
        yield known


def _is_within(folder: Path, file: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _read(file: Path, source: str) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("must be a mapping")
    except OSError as error:
        raise InvalidInput(
            f"spec.model: {source}/config.json: {error.strerror}", param="spec.model"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"spec.model: {source}/config.json: {error}", param="spec.model") from error
    return content
