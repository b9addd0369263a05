"""One control process on an SQLite file: a second one is refused."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from common.errors import SetupError


def take_file(database: Path) -> IO[str]:
    """Take the file until what is returned is closed or the process ends, however it ends. Raises
    ``SetupError`` where another control process has it."""
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = database.with_name(f"{database.name}-control")
    file = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = file.read(20).strip() or "?"
        file.close()
        raise SetupError(
            f"another control process (pid {pid}) works on {database}, and an SQLite file is for one only. "
            "Stop that one; or, for several control processes, give all of them the same PostgreSQL database "
            "with COMPUTILITY_STORE__URL=postgresql+asyncpg://<user>@<host>/<name>",
            code="home_in_use",
        ) from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file
