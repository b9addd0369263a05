"""What lies at a model's source: whether it can be served, its digest and its context length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.private import at_home
from common.sources import is_of_project, local_path

HUB_CACHE = "~/.cache/huggingface/hub"
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt")
_READ_BYTES = 4 * 1024**2
CONFIG_BYTES = 16 * 1024**2
"""Of a ``config.json``, or another file of a model that is read here, at most."""


@dataclass(frozen=True)
class ModelFiles:
    """The finding about a source. ``usable`` False comes with a reason and a message that says what to do.

    ``fingerprint`` changes with names, sizes and times of the files; the digest has to be made again then.
    """

    usable: bool
    reason: str
    message: str
    path: Path | None = None
    context_tokens: int | None = None
    fingerprint: str = ""


def inspect_model(source: str, home: Path) -> ModelFiles:
    """Look at a source without reading weights. What is said names the source as it was written, never where
    the home lies."""
    path = local_path(source, home)
    if path is None:
        return ModelFiles(True, "OnHub", f"{source} is fetched from the model hub when an engine starts")

    def not_usable(reason: str, message: str) -> ModelFiles:
        return ModelFiles(False, reason, f"spec.source: {message}", path)

    if not path.is_dir():
        return not_usable("PathNotFound", f"there is no folder {source} on this machine")
    try:
        config = json.loads(read_bounded(path / "config.json"))
    except FileNotFoundError:
        return not_usable("ConfigMissing", f"{source} holds no config.json")
    except OSError as error:
        return not_usable("ConfigUnreadable", f"{source}/config.json: {error.strerror}")
    except (ValueError, RecursionError) as error:
        return not_usable("ConfigUnreadable", f"{source}/config.json: {error}")
    if not any(next(path.glob(pattern), None) for pattern in _WEIGHTS):
        return not_usable("WeightsMissing", f"{source} holds no weights (*.safetensors)")
    return ModelFiles(True, "Found", source, path, _context_tokens(config), _fingerprint(path))


def read_bounded(file: Path) -> bytes:
    """Its content. Whoever fills the folder may put there what has no end, or no writer. Raises ``OSError``,
    ``ValueError``."""
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise ValueError("it is no regular file")
    with file.open("rb") as stream:
        content = stream.read(CONFIG_BYTES + 1)
    if len(content) > CONFIG_BYTES:
        raise ValueError(f"it has more than {CONFIG_BYTES} bytes")
    return content


def within_project(files: ModelFiles, source: str, project: str | None, home: Path) -> ModelFiles:
    """The finding about a Model of that project, held to its folder: whoever fills a project's folder leads
    engines nowhere else. What a platform-admin named may be links.
    """
    if not files.usable or files.path is None or not is_of_project(project, source):
        return files
    limit = (home / "models" / str(project)).resolve()
    for found in (files.path, *sorted(files.path.rglob("*"))):
        if not found.resolve().is_relative_to(limit):
            where = found.relative_to(files.path).as_posix()
            message = (
                f"spec.source: {source}: {where} is a link out of the project's folder; put a copy there"
            )
            return ModelFiles(False, "LinkLeadsOutside", message, files.path)
    return files


def model_digest(path: Path) -> str:
    """Hex SHA-256 over names and contents of all files of the folder, in order of name."""
    total = hashlib.sha256()
    for file in _files(path):
        content = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_READ_BYTES):
                content.update(block)
        total.update(f"{file.relative_to(path).as_posix()}\0{content.hexdigest()}\n".encode())
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(path).parts))


def _fingerprint(path: Path) -> str:
    state = hashlib.sha256(str(path).encode())
    for file in _files(path):
        seen = file.stat()
        state.update(f"\0{file.relative_to(path)}\0{seen.st_size}\0{seen.st_mtime_ns}".encode())
    return state.hexdigest()


def _context_tokens(config: Any) -> int | None:
    if not isinstance(config, dict):
        return None
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        value = part.get("max_position_embeddings")
        if isinstance(value, int) and value > 0:
            return value
    return None


def hub_snapshots(source: str) -> Iterator[Path]:
    """Folders of this machine's hub cache that hold a ``config.json`` of a model, the newest first."""
    snapshots = at_home(HUB_CACHE) / f"models--{source.replace('/', '--')}" / "snapshots"
    found = [folder / "config.json" for folder in snapshots.glob("*")]
    files = sorted((file for file in found if file.is_file()), key=_written, reverse=True)
    yield from (file.parent for file in files)


def _written(file: Path) -> float:
    return file.stat().st_mtime
