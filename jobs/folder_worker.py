"""Work on the folder of one job, in a process of its own:

    python -m jobs.folder_worker < order.json

What was done is written as JSON, or as the error with its code; whatever a tenant's files
make of it, it takes no more than it was given, and nothing from the process that asks.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.durable import is_no_room
from common.errors import NO_ROOM, ComputilityError, InvalidInput, TooLarge
from common.folder_archive import Bounds, files_below, pack, size_of, unpack
from common.niceness import bind_process
from jobs.rank import FILES_FOLDER, ORDER_FILE

NO_MEMORY = "no_memory"


def prepare(folder: Path, archive: str | None, order: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
    """Make the folder of a job, whole or not at all: its files and what its ranks are to run."""
    if folder.exists():
        return {}
    work = folder.with_name(f".{folder.name}")  # what a killed process left there is made anew
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700, parents=True)
    try:
        if archive is None:
            (work / FILES_FOLDER).mkdir(mode=0o700)
        else:
            unpack(Path(archive), work / FILES_FOLDER, bounds, links=True)
        (work / ORDER_FILE).write_text(json.dumps(order))
        os.sync()  # one for all files; the workload that is stored next counts on them
        os.rename(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return {}


def collect(folder: Path, paths: list[str], target: Path, bounds: Bounds) -> dict[str, Any]:
    """Pack what a job left at these paths into ``target``; ``files`` says how many were found."""
    files = folder / FILES_FOLDER
    found = [file for path in paths for file in files_below(files, path, bounds)]
    if not found:
        return {"files": 0}
    with target.open("wb") as archive:
        return {"files": pack(files, found, archive, bounds)}


def measure(folder: Path, bounds: Bounds) -> dict[str, Any]:
    """``bytes`` that the folder takes."""
    return {"bytes": size_of(folder, bounds)}


def work(order: Mapping[str, Any]) -> dict[str, Any]:
    """Do what the order says."""
    folder, bounds = Path(order["folder"]), Bounds(order["max_bytes"], order["max_entries"])
    if order["do"] == "prepare":
        return prepare(folder, order["archive"], order["order"], bounds)
    if order["do"] == "collect":
        return collect(folder, order["paths"], Path(order["target"]), bounds)
    return measure(folder, bounds)


def main() -> int:
    """Command line; returns the exit code."""
    order = json.load(sys.stdin)
    bind_process(order["cpu_seconds"], order["memory_bytes"])
    try:
        told: dict[str, Any] = work(order)
    except (InvalidInput, TooLarge) as error:
        told = {"error": "too_large" if isinstance(error, TooLarge) else "invalid", "message": error.message}
    except MemoryError:
        told = {"error": NO_MEMORY, "message": "takes too much memory"}
    except OSError as error:
        if not is_no_room(error):
            raise
        told = {"error": NO_ROOM, "message": "there is no room on the disk"}
    except ComputilityError as error:
        told = {"error": error.code, "message": error.message}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
