"""Kinds by the names that people type: singular, plural or short."""

from __future__ import annotations

from common.errors import InvalidInput
from common.resources import KINDS, Resource

SHORT_NAMES = {
    "proj": "Project",
    "key": "ApiKey",
    "no": "Node",
    "q": "Queue",
    "wl": "Workload",
    "mo": "Model",
    "ad": "Adapter",
    "ep": "Endpoint",
    "ft": "FineTune",
}


def kind_named(text: str) -> type[Resource]:
    """The kind that ``text`` names; ``InvalidInput`` lists all kinds when it names none."""
    wanted = text.lower()
    name = SHORT_NAMES.get(wanted)
    if name:
        return KINDS[name]
    for kind, cls in KINDS.items():
        if wanted in (kind.lower(), cls.PLURAL):
            return cls
    raise InvalidInput(f"there is no kind {text!r}; kinds: {all_names()}", param="KIND")


def all_names() -> str:
    """Every kind with its short name, for help and messages."""
    short = {kind: name for name, kind in SHORT_NAMES.items()}
    return ", ".join(
        f"{cls.PLURAL} ({short[kind]})" if kind in short else cls.PLURAL for kind, cls in KINDS.items()
    )
