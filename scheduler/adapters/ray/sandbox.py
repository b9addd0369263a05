"""The cell of a rank: with bubblewrap (``bwrap``) a process sees the system's programs, what its role names,
and nothing else of the node: no home of the platform, no token, no other process, and no network.

Namespaces of the kernel make it (user_namespaces(7)), so it needs no privilege where the system allows them.
Inside the process is nobody, without capabilities.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from glob import glob
from pathlib import Path

from common.environment import CELL_VARIABLE
from common.errors import SetupError
from common.settings.services import SandboxMode
from common.vendors import VENDORS

PROGRAM = "bwrap"
NOBODY = "65534"
PROBE_SECONDS = 10.0
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/sys")
SETTINGS = (
    *("/etc/alternatives", "/etc/ca-certificates", "/etc/group", "/etc/hosts", "/etc/ld.so.cache"),
    *("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd"),
    *("/etc/pki", "/etc/ssl", "/etc/vulkan", "/etc/OpenCL", "/etc/ascend_install.info"),
)
NETWORK_SETTINGS = ("/etc/resolv.conf", "/etc/gai.conf", "/etc/services")
_RESTORE = (
    "import os,signal,sys;"
    "signal.signal(signal.SIGTERM,signal.SIG_DFL);"
    "signal.signal(signal.SIGINT,signal.SIG_DFL);"
    "signal.signal(signal.SIGHUP,signal.SIG_DFL);"
    "os.execvp(sys.argv[1],sys.argv[1:])"
)
"""bwrap is started deaf to the signals that ask a rank to end, or it would end before the rank has; the rank
gets its hearing back."""
_DEAF = (
    "import os,signal,sys;"
    "signal.signal(signal.SIGTERM,signal.SIG_IGN);"
    "signal.signal(signal.SIGINT,signal.SIG_IGN);"
    "signal.signal(signal.SIGHUP,signal.SIG_IGN);"
    "os.execvp(sys.argv[1],sys.argv[1:])"
)


@dataclass(frozen=True)
class Cell:
    """What a rank sees beside the system. ``writable``: the first is where it starts."""

    home: str
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    network: bool
    vendors: frozenset[str]
    required: bool = False


def why_not() -> str:
    """Why no process can be put into a cell on this node; empty where it works."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed (Debian, Ubuntu: apt install bubblewrap)"
    cell = Cell("/nonexistent", (), (), network=False, vendors=frozenset())
    command = [PROGRAM, *_walls(cell), "--", sys.executable, "-S", "-E", "-c", ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{PROGRAM} cannot be run: {error}"
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return f"{PROGRAM} does not work here: {reason[0]}; the system has to allow user namespaces"
    return ""


def confined(command: list[str], cell: Cell, mode: SandboxMode, hindrance: str) -> list[str]:
    """The command within the walls of ``cell``; as it is where there are none and none are required.

    ``hindrance`` is what ``why_not`` said. Raises ``SetupError`` where walls are required, by the mode or by
    what is to run.
    """
    if not cell.required and (mode == "off" or (mode == "auto" and hindrance)):
        return command
    if hindrance:
        why = "it runs in a cell only" if cell.required else "sandbox.mode is require"
        raise SetupError(f"{why}, but {hindrance}")
    python = [sys.executable, "-S", "-E", "-c"]
    return [*python, _DEAF, PROGRAM, *_walls(cell), "--", *python, _RESTORE, *command]


def _walls(cell: Cell) -> list[str]:
    """The options of bwrap. A later one covers what an earlier one shows, so the home goes and its parts come
    back."""
    options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not cell.network:
        options.append("--unshare-net")
    options += no_more_namespaces()
    options += ["--uid", NOBODY, "--gid", NOBODY, "--die-with-parent", "--new-session"]
    options += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    shown = [*SYSTEM, *SETTINGS, *(NETWORK_SETTINGS if cell.network else ())]
    for path in shown:
        options += _show(path)
    for path in _of_python():
        options += ["--ro-bind", path, path]
    options += ["--tmpfs", cell.home]
    for path in (found for named in cell.readable for found in _with_targets(named)):
        options += ["--ro-bind-try", path, path]
    for path in cell.writable:
        os.makedirs(path, mode=0o700, exist_ok=True)
        options += ["--bind", path, path]
    for path in _device_files(cell.vendors):
        options += ["--dev-bind", path, path]
    options += ["--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp", "--setenv", "USER", "nobody"]
    options += ["--setenv", CELL_VARIABLE, "1"]
    return [*options, "--chdir", cell.writable[0] if cell.writable else "/"]


@cache
def no_more_namespaces() -> tuple[str, ...]:
    """The option by which a process inside makes no namespaces of its own, to be root to the kernel in them.

    Empty where bwrap does not know it (before 0.8), or may not write /proc/sys.
    """
    option = "--disable-userns"
    inside = ["--unshare-user", option, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    command = [PROGRAM, *inside, "--", sys.executable, "-S", "-E", "-c", ""]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return () if done.returncode else (option,)


def _show(path: str) -> list[str]:
    if os.path.islink(path) and not path.startswith("/etc/"):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind-try", path, path]


def _with_targets(path: str) -> list[str]:
    """The path, and the folders to which links in it lead: a hub's cache keeps files elsewhere."""
    targets = {os.path.realpath(path)}
    if os.path.isdir(path):
        links = (entry.path for entry in os.scandir(path) if entry.is_symlink())
        targets |= {os.path.dirname(os.path.realpath(link)) for link in links}
    return [path, *sorted(targets - {path})]


def _of_python() -> list[str]:
    """The folders of this Python and of everything that a new one imports from, none below another.

    Those of this process are more: Ray adds the folder where the driver was started, maybe somebody's home.
    """
    product = Path(__file__).resolve().parents[3]
    wanted = {sys.prefix, sys.base_prefix, str(product), *_import_folders()}
    real = {os.path.realpath(path) for path in wanted}
    return _outermost(path for path in (*wanted, *real) if path and path != "/")


@cache
def _import_folders() -> tuple[str, ...]:
    code = "import os, sys; print(*(p for p in sys.path if os.path.isdir(p)), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PROBE_SECONDS,
        check=False,
    )
    return tuple(done.stdout.splitlines())


def _outermost(paths: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted({os.path.abspath(path) for path in paths}):
        if not any(path == above or path.startswith(f"{above}/") for above in (*kept, *SYSTEM)):
            kept.append(path)
    return kept


def _device_files(vendors: frozenset[str]) -> list[str]:
    patterns = {
        pattern for vendor, row in VENDORS.items() if vendor in vendors for pattern in row.device_files
    }
    return sorted({path for pattern in patterns for path in glob(pattern)})
