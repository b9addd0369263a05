"""Variables that look like settings and are none: a word to who set them, since they change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from common.environment import PREFIX

FILE = Path(__file__).with_name("setting_names.json")

PLAIN = frozenset(f"{PREFIX}{name}" for name in ("HOME", "API_KEY", "CONTROL_BASE_URL", "GATEWAY_BASE_URL"))
_NOT_SETTINGS = tuple(f"{PREFIX}{name}" for name in ("KUBE_", "KV_POLL_", "SETUP_", "TEST_"))
"""Of the set-up, of tests and of engines."""
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
"""Set in every pod, where variables of the same names stand for services."""


def odd_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each variable that no setting is called by, with the nearest one. None in a pod."""
    suspects = [name for name in environment if name.upper().startswith(PREFIX)]
    suspects = [name for name in suspects if name not in PLAIN and not name.startswith(_NOT_SETTINGS)]
    if not suspects or _IN_A_POD in environment:
        return []
    known = sorted(setting_names())
    odd = (name for name in sorted(suspects) if not _is_known(name.upper(), known))
    return [f"{name} is no setting and changes nothing{_meant(name.upper(), known)}" for name in odd]


@cache
def setting_names() -> frozenset[str]:
    """The variable of every setting, from a file beside this one: to load the settings takes longer than most
    commands. ``make schemas`` writes it."""
    return frozenset(json.loads(FILE.read_text()))


def is_setting(name: str) -> bool:
    """Whether a variable sets one, or lies below one that is a mapping; a section as a whole is none."""
    return _is_known(name, _single())


@cache
def _single() -> frozenset[str]:
    known = setting_names()
    sections = {one[:at] for one in known for at in range(len(one)) if one.startswith("__", at)}
    return known - sections


def made() -> str:
    """What the file is to hold."""
    from pydantic import BaseModel

    from common.settings import Settings

    def names(model: type[BaseModel], prefix: str) -> Iterable[str]:
        for name, field in model.model_fields.items():
            yield f"{prefix}{name.upper()}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from names(field.annotation, f"{prefix}{name.upper()}__")

    return json.dumps(sorted(set(names(Settings, PREFIX))), indent=1) + "\n"


def _is_known(name: str, known: Iterable[str]) -> bool:
    """Also what lies below a setting that is a mapping."""
    return any(name == one or name.startswith(f"{one}__") for one in known)


def _meant(name: str, known: list[str]) -> str:
    alike = [one for one in known if one.replace("__", "_") == name.replace("__", "_")]
    near = alike or get_close_matches(name, known, n=1, cutoff=0.85)
    return f"; did you mean {near[0]}?" if near else ""


if __name__ == "__main__":
    FILE.write_text(made())
