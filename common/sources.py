"""Where models and adapters lie: a path on disk, or a name on a model hub."""

from __future__ import annotations

import re
from pathlib import Path

from common.private import at_home

_ON_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_IN_MODELS = re.compile(r"\$\(HOME_DIR\)/models/(\w[\w.-]*)((?:/\w[\w.-]*)*)/?", re.ASCII)
_LOCAL_PREFIXES = ("/", "~", "./", "../", "$(HOME_DIR)")


def local_path(source: str, home: Path) -> Path | None:
    """The path that ``source`` means on this machine (``home`` is COMPUTILITY_HOME); None for a hub name."""
    if not source.startswith(_LOCAL_PREFIXES):
        return None
    return at_home(source.replace("$(HOME_DIR)", str(home)))


def launch_source(source: str) -> str:
    """``source`` as a launched process should get it: ``~`` made absolute, ``$(HOME_DIR)`` kept."""
    return str(at_home(source)) if source.startswith("~") else source


def is_open_to(project: str | None, source: str) -> bool:
    """Whether the members of a project may name the source: a hub name (``organisation/model``), or a folder
    of the project. Every other folder is the platform's or another project's."""
    return _ON_HUB.fullmatch(source) is not None or is_of_project(project, source)


def is_of_project(project: str | None, source: str) -> bool:
    """Whether it lies below ``$(HOME_DIR)/models/<project>``."""
    found = _IN_MODELS.fullmatch(source)
    return found is not None and found[1] == project and bool(found[2])
