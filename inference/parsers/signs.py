"""What the files of a model say of how it talks: its type and its chat template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inference.model_files import hub_snapshots, read_bounded
from inference.parsers.choose import ModelSigns

_OWN_TOKENIZERS = ("tekken.json", "tokenizer.model.v3", "encoding")
"""Files of tokenizers that come with a template of their own, which is not to be read."""


def signs_of(source: str, folder: Path | None) -> ModelSigns:
    """Those of a model in a folder, or, where there is none, of the hub's, of which this machine may hold a
    copy."""
    if folder is not None:
        return _of_folder(Path(source).name, folder)
    found = next(hub_snapshots(source), None)
    return _of_folder(source, found) if found is not None else ModelSigns(source)


def _of_folder(name: str, folder: Path) -> ModelSigns:
    model_type = _object(folder / "config.json").get("model_type")
    template: str | None = "\n".join(filter(None, _templates(folder)))
    if not template and any((folder / own).exists() for own in _OWN_TOKENIZERS):
        template = None
    return ModelSigns(name, model_type if isinstance(model_type, str) else "", template)


def _templates(folder: Path) -> Iterator[str]:
    """All of them: one may be for chats with tools, another for those without."""
    yield _text(folder / "chat_template.jinja")
    for file in ("chat_template.json", "tokenizer_config.json"):
        said = _object(folder / file).get("chat_template")
        if isinstance(said, str):
            yield said
        elif isinstance(said, list):
            texts = (one.get("template") for one in said if isinstance(one, dict))
            yield from (text for text in texts if isinstance(text, str))


def _object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(file) or "{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(file: Path) -> str:
    """Its content; empty where it cannot be read, which the engine will say better."""
    try:
        return read_bounded(file).decode(errors="replace")
    except (OSError, ValueError):
        return ""
