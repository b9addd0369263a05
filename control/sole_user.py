"""One control process on an SQLite file: a second one is refused."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from common.errors import SetupError


def take_file(database: Path) -> IO[str]:
    """Take the file until what is returned is closed or the process ends, however it ends. Raises
    ``SetupError`` where another control process has it, or it cannot be taken."""
    database = Path(os.path.realpath(database))  # by whatever link it is named, it is one file
    lock = database.with_name(f"{database.name}-control")
    file = _open(lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = file.read(20).strip() or "?"
        file.close()
        raise SetupError(
            f"another control process (pid {pid}) works on {database}, and an SQLite file is for one only. "
            "Stop that one; or, for several control processes, give all of them the same PostgreSQL database "
            "with COMPUTILITY_STORE__URL=postgresql+asyncpg://<user>@<host>/<name>",
            code="home_in_use",
        ) from None
    except OSError as error:
        file.close()
        raise SetupError(
            f"{lock} cannot be locked: {error.strerror}; put the database on a disk of this machine with "
            "COMPUTILITY_STORE__URL=sqlite+aiosqlite:///<path>"
        ) from error
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def _open(lock: Path) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.fdopen(os.open(lock, flags, 0o600), "r+", errors="replace")
    except OSError as error:
        raise SetupError(
            f"cannot write {lock}: {error.strerror}; it has to be a file of this user's"
        ) from error
