"""Bring the database's tables to this version: ``python -m control.migrate [--wait-seconds 300]``.

Control does the same as it starts. Apart from that, this is for whoever installs: it waits for a database
that is not there yet, and a failure is seen before anything else changes. Several at once do no harm.

It ends with 0 when the tables are at the newest version, with 6 when the database was not reached in time,
and with 2 for settings that are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database
from common.errors import ComputilityError, Unavailable, mapping_of
from common.settings import load_settings
from common.telemetry import configure_logging, get_logger

PAUSE_SECONDS = 2.0
Pause = Callable[[float], Awaitable[None]]
_log = get_logger("migrate")


async def migrate(
    database: Database, wait_seconds: float, clock: Clock = SYSTEM_CLOCK, pause: Pause = asyncio.sleep
) -> None:
    """Migrate as soon as the database answers. Raises ``Unavailable`` when it does not within
    ``wait_seconds``."""
    deadline = clock.monotonic_seconds() + wait_seconds
    while True:
        try:
            await database.migrate()
            return
        except Unavailable as error:
            if clock.monotonic_seconds() >= deadline:
                raise
            _log.info("waiting for the database", error=error.message)
        await pause(PAUSE_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="control.migrate", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--wait-seconds", type=float, default=0.0, help="how long to wait for the database")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        configure_logging(settings, "migrate")
        asyncio.run(_run(Database(settings.store_url), options.wait_seconds))
    except ComputilityError as error:
        sys.stderr.write(f"error: {error}\n")
        return mapping_of(error).exit_code
    _log.info("the tables are at the newest version")
    return 0


async def _run(database: Database, wait_seconds: float) -> None:
    try:
        await migrate(database, wait_seconds)
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(main())
