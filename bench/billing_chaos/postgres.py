"""A PostgreSQL server of the run's own, which is killed and started again. It writes as a production server
does: what it has committed is on disk.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from common.errors import SetupError
from control.supervisor.ports import free_ports

SERVER_USER = "postgres"
_DEBIAN = Path("/usr/lib/postgresql")
_GONE_SECONDS = 10.0


class PostgresServer:
    """The server in ``folder``; ``url`` names its database."""

    def __init__(self, folder: Path) -> None:
        self._programs, self._folder = _programs(), folder
        self._data, self._port = folder / "data", free_ports(1)[0]
        self.url = f"postgresql+asyncpg://{SERVER_USER}@127.0.0.1:{self._port}/computility"

    def make(self) -> None:
        """Its files, the server, and an empty database."""
        if os.geteuid() == 0:
            shutil.chown(self._folder, SERVER_USER)
        self._run("initdb", "-D", self._data, "-U", SERVER_USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "shared_buffers": "32MB",
        }
        with (self._data / "postgresql.conf").open("a") as config:
            config.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        self.start()
        command = f"CREATE DATABASE {self.url.rpartition('/')[2]}"
        self._run("psql", "-X", "-q", "-h", self._folder, "-p", self._port, "-U", SERVER_USER, "-c", command)

    def start(self) -> None:
        """Return when it takes connections."""
        self._run("pg_ctl", "-D", self._data, "-l", self._folder / "server.log", "-w", "-t", "60", "start")

    def kill(self) -> None:
        """SIGKILL to the server's first process, at which the others end; return when all are gone."""
        first = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        processes = [first, *first.children(recursive=True)]
        first.send_signal(signal.SIGKILL)
        _, left = psutil.wait_procs(processes, _GONE_SECONDS)
        for process in left:
            process.kill()
        psutil.wait_procs(left, _GONE_SECONDS)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *words: object) -> None:
        command = [str(self._programs / program), *map(str, words)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", SERVER_USER, "--", *command]
        with tempfile.TemporaryFile("w+") as output:  # a pipe would be held open by the server
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
            if done.returncode:
                output.seek(0)
                raise SetupError(f"{' '.join(command)} exited with {done.returncode}:\n{output.read()}")


@contextmanager
def serving() -> Iterator[PostgresServer]:
    """A server while entered; its files go with it. Raises ``SetupError`` where there is none to start."""
    folder = Path(tempfile.mkdtemp(prefix="computility-chaos-postgres-"))
    try:
        server = PostgresServer(folder)
        server.make()
        try:
            yield server
        finally:
            server.stop()
            time.sleep(0.1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(_DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*found, *([Path(on_path).resolve().parent] if on_path else [])]:
        if all((folder / program).exists() for program in ("initdb", "pg_ctl", "psql")):
            break
    else:
        raise SetupError("PostgreSQL's programs are not installed (Debian, Ubuntu: the package postgresql)")
    if os.geteuid() == 0 and not any(entry.pw_name == SERVER_USER for entry in pwd.getpwall()):
        raise SetupError(f"PostgreSQL does not run as root, and there is no user {SERVER_USER}")
    return folder
