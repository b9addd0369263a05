"""The page of the settings: every variable, with its default and what it means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from common.settings.tree import Settings
from tools.docs.markdown import cell, table

_SAID = """Each is a variable of the environment, or a line in `<COMPUTILITY_HOME>/computility.yaml`, such as
`gateway: {port: 9000}`. The environment wins over the file. A name that is none is refused."""
_FOLDER_OF_ALL = "~/.computility"


def settings_page() -> str:
    """One table for each section."""
    parts = [
        "# Settings",
        _SAID,
    ]
    plain = [name for name in Settings.model_fields if _section(Settings, name) is None]
    parts += [
        "## General",
        table(("Variable", "Default", ""), (_row(Settings, name, "COMPUTILITY_") for name in plain)),
    ]
    for name in Settings.model_fields:
        section = _section(Settings, name)
        if section is not None:
            said = " ".join((section.__doc__ or "").split())
            parts += [
                f"## {name}",
                said,
                table(("Variable", "Default", ""), _rows(section, f"COMPUTILITY_{name.upper()}__")),
            ]
    return "\n\n".join(parts) + "\n"


def _rows(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name in section.model_fields:
        inner = _section(section, name)
        if inner is None:
            yield _row(section, name, prefix)
        else:
            yield from _rows(inner, f"{prefix}{name.upper()}__")


def _section(owner: type[BaseModel], name: str) -> type[BaseModel] | None:
    kind = owner.model_fields[name].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _row(owner: type[BaseModel], name: str, prefix: str) -> tuple[str, str, str]:
    field = owner.model_fields[name]
    return f"`{prefix}{name.upper()}`", f"`{_default(field)}`", cell(field.description or "")


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Path):
        return _FOLDER_OF_ALL
    try:
        return json.dumps(value)
    except TypeError:
        return str(value)
