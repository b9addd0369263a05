"""Kinds by the names that people type: singular, plural or short."""

from __future__ import annotations

from difflib import get_close_matches

from common.errors import InvalidInput
from common.kind_names import KIND_NAMES, KindName

ALL = "all"
_OTHER_NAMES = {"keys": "ApiKey", "ft-jobs": "FineTune", "fine-tunes": "FineTune"}
_ELSEWHERE = {
    **dict.fromkeys(("event", "events", "ev"), "`computility events` shows them"),
    **dict.fromkeys(("usage", "bill", "bills"), "`computility usage` shows it"),
    **dict.fromkeys(("log", "logs"), "`computility logs NAME` shows them"),
    **dict.fromkeys(
        ("device", "devices", "gpu", "gpus"), "`computility top` and `computility get nodes` show them"
    ),
    **dict.fromkeys(("context", "contexts"), "`computility config list` shows them"),
    **dict.fromkeys(("pod", "pods", "po"), "what runs are workloads"),
    **dict.fromkeys(
        ("deployment", "deployments", "deploy", "service", "services", "svc"), "what serves are endpoints"
    ),
    **dict.fromkeys(("namespace", "namespaces", "ns"), "projects are what namespaces are elsewhere"),
}
"""What is no kind, and where it is; what Kubernetes calls otherwise."""


def kind_named(text: str) -> KindName:
    """The kind that ``text`` names; ``InvalidInput`` names the nearest one and lists all when it names
    none."""
    found = _names().get(text.lower())
    if found is None:
        near = get_close_matches(text.lower(), _names(), n=1, cutoff=0.6)
        meant = _ELSEWHERE.get(text.lower()) or (f"did you mean {near[0]}?" if near else "")
        said = f"{meant}{' ' if meant.endswith('?') else '; ' if meant else ''}kinds: {all_names()}"
        raise InvalidInput(f"there is no kind {text!r}; {said}", param="KIND")
    return found


def kinds_named(text: str) -> list[KindName]:
    """The kinds in a list like ``ep,wl``, or every kind for ``all``."""
    if text.lower() == ALL:
        return list(KIND_NAMES)
    return [kind_named(part.strip()) for part in text.split(",") if part.strip()] or [kind_named(text)]


def all_names() -> str:
    """Every kind with its short name, for help and messages."""
    return ", ".join(f"{one.plural} ({one.short})" if one.short else one.plural for one in KIND_NAMES)


def typed_names() -> list[str]:
    """What completion offers: plurals, then short names."""
    return [one.plural for one in KIND_NAMES] + [one.short for one in KIND_NAMES if one.short]


def _names() -> dict[str, KindName]:
    names: dict[str, KindName] = {}
    for one in KIND_NAMES:
        names.update({one.kind.lower(): one, one.plural: one})
        if one.short:
            names[one.short] = one
    names.update({other: names[kind.lower()] for other, kind in _OTHER_NAMES.items()})
    return names
