"""Where models and adapters lie: a path on disk, or a name on a model hub."""

from __future__ import annotations

import re
from pathlib import Path

_CONFINED = re.compile(r"(\$\(HOME_DIR\)/models(/\w[\w.-]*)+|\w[\w.-]*(/\w[\w.-]*)?)/?", re.ASCII)
_LOCAL_PREFIXES = ("/", "~", "./", "../", "$(HOME_DIR)")


def local_path(source: str, home: Path) -> Path | None:
    """The path that ``source`` means on this machine (``home`` is COMPUTILITY_HOME); None for a hub name."""
    if not source.startswith(_LOCAL_PREFIXES):
        return None
    return Path(source.replace("$(HOME_DIR)", str(home))).expanduser()


def launch_source(source: str) -> str:
    """``source`` as a launched process should get it: ``~`` made absolute, ``$(HOME_DIR)`` kept."""
    return str(Path(source).expanduser()) if source.startswith("~") else source


def is_confined(source: str) -> bool:
    """Whether it is a hub name (``organisation/model``) or lies below ``$(HOME_DIR)/models``.

    Tenants may name these, because they lead to nothing of others.
    """
    return _CONFINED.fullmatch(source) is not None
