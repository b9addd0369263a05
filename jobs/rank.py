"""Starts the command of a job as one of its ranks, within its cell:

    python -m jobs.rank FOLDER

``FOLDER/job.json`` says what to run. It is read here, not passed by the platform's own processes, so that
nothing that a tenant wrote (an environment least of all) reaches a process outside of the cell.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from common.environment import CELL_VARIABLE, variables

ORDER_FILE = "job.json"
FILES_FOLDER = "files"
CANNOT_RUN, NOT_FOUND = 126, 127
"""Exit codes, as of shells."""
_PATH = "/usr/local/bin:/usr/bin:/bin"
_OURS_ONLY = ("PYTHONSAFEPATH", CELL_VARIABLE)
_OOM_FIRST = "1000"


def environment_of(
    base: Mapping[str, str], asked: Mapping[str, str], python: str, output: str, port: int
) -> dict[str, str]:
    """What the command gets: the node's, the rank's place, the folder for results, what the job asks for.

    A rank alone has the same variables as one of many; ``port`` is free for it.
    """
    alone = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    base = {name: value for name, value in base.items() if name not in _OURS_ONLY}
    ranked = base if "WORLD_SIZE" in base else {**base, **alone}
    path = f"{os.path.dirname(python)}:{base.get('PATH') or _PATH}"
    return {**ranked, "PATH": path, "PYTHONUNBUFFERED": "1", "COMPUTILITY_OUTPUT": output, **asked}


def bind(file_bytes: int, processes: int, *, in_cell: bool) -> None:
    """Bound this process and all that it starts: the size of one file, and no dumps of memory; where memory
    runs out they end before the platform's own processes.

    ``processes`` (threads count) holds in a cell only, where no others are of its user; root is not held to
    it.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST)
    bounds = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, file_bytes)]
    for kind, bound in [*bounds, (resource.RLIMIT_NPROC, processes)][: 3 if in_cell else 2]:
        hard = resource.getrlimit(kind)[1]
        most = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (most, most))


def main(arguments: list[str]) -> int:
    """Does not return where the command starts; else the exit code."""
    folder = Path(arguments[0])
    try:
        order = json.loads((folder / ORDER_FILE).read_text())
    except (OSError, ValueError) as error:
        return _tell(
            f"the folder of the job cannot be read on this node ({error}); nodes need control's "
            "COMPUTILITY_HOME at the same place",
            CANNOT_RUN,
        )
    bind(order["file_bytes"], order["processes"], in_cell=CELL_VARIABLE in variables())
    files = folder / FILES_FOLDER
    output = files / order["output"]
    os.chdir(files)
    os.makedirs(output, exist_ok=True)
    environment = environment_of(variables(), order["env"], sys.executable, str(output), _free_port())
    command = order["command"]
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        return _tell(f"{command[0]}: not found; it is neither on PATH nor a file of the job", NOT_FOUND)
    except OSError as error:
        return _tell(f"{command[0]}: cannot be run: {error.strerror}", CANNOT_RUN)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tell(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
