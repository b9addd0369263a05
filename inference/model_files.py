"""What lies at a model's source: whether it can be served, its digest and its context length."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.sources import local_path

_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt")
_READ_BYTES = 4 * 1024**2


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
    """Look at a source without reading weights."""
    path = local_path(source, home)
    if path is None:
        return ModelFiles(True, "OnHub", f"{source} is fetched from the model hub when an engine starts")
    if not path.is_dir():
        return ModelFiles(
            False, "PathNotFound", f"spec.source: there is no folder {path} on this machine", path
        )
    try:
        config = json.loads((path / "config.json").read_bytes())
    except FileNotFoundError:
        return ModelFiles(False, "ConfigMissing", f"spec.source: {path} holds no config.json", path)
    except (OSError, ValueError) as error:
        return ModelFiles(False, "ConfigUnreadable", f"spec.source: {path}/config.json: {error}", path)
    if not any(next(path.glob(pattern), None) for pattern in _WEIGHTS):
        return ModelFiles(
            False, "WeightsMissing", f"spec.source: {path} holds no weights (*.safetensors)", path
        )
    return ModelFiles(True, "Found", str(path), path, _context_tokens(config), _fingerprint(path))


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
