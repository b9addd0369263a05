"""The only module that reads the environment of this process. Settings are what it says; see
``common.settings``."""

from __future__ import annotations

import os
from collections.abc import Iterable

PREFIX = "COMPUTILITY_"
CELL_VARIABLE = "RANK_IN_CELL"
"""Set for a process that sees nothing but its job: see docs/design/sandbox.md."""


def variables() -> dict[str, str]:
    """The environment as it is now, a copy."""
    return dict(os.environ)


def variable(name: str, default: str = "") -> str:
    """One variable, stripped of nothing; ``default`` where it is not set."""
    return os.environ.get(name, default)


def engine_key_of_process() -> str:
    """The key of the engine that this process is; empty in any other."""
    return variable("VLLM_API_KEY")


def number_of_process(name: str) -> int:
    """A whole number that the engine which this process is was told; 0 = nothing that is one."""
    said = variable(name)
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 10 else 0


def take_from_process(names: Iterable[str]) -> dict[str, str]:
    """Variables of this process that its children are not to have. Raises ``KeyError`` for one that is not
    set."""
    return {name: os.environ.pop(name) for name in names}
