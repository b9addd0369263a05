"""Processes that held leases before this one in its spool folder: they are dead, and once their usage is
posted control need not wait for the end of their leases."""

from __future__ import annotations

import json
from pathlib import Path

from common.durable import put_in_place
from common.telemetry import get_logger
from common.wire import MAX_LEASES

HOLDERS_FILE = "lease-holders.json"
_log = get_logger("gateway.budgets")


class Predecessors:
    """Who held leases with this spool ``folder``. ``started``: when what they had left was in the spool, in
    monotonic seconds. To be made by who holds the folder."""

    def __init__(self, folder: Path, started: float) -> None:
        self._file = folder / HOLDERS_FILE
        self._started = started
        self._dead = self._read()
        self._own: str | None = None

    def begin(self, holder: str) -> None:
        """This process is going to hold leases."""
        if self._own is None:
            self._own = holder
            self._write()

    def ended(self, posted_before: float) -> tuple[str, ...]:
        """Those that are dead and whose usage is posted; empty until all of it is."""
        return tuple(self._dead) if posted_before > self._started else ()

    def told(self, holders: tuple[str, ...]) -> None:
        """Control knows that these are dead."""
        if holders:
            self._dead = [holder for holder in self._dead if holder not in holders]
            self._write()

    def _read(self) -> list[str]:
        try:
            found = json.loads(self._file.read_text())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            _log.warning("earlier leases end by themselves", file=str(self._file), error=str(error))
            return []
        return [one for one in found if isinstance(one, str)][-MAX_LEASES:] if isinstance(found, list) else []

    def _write(self) -> None:
        """What cannot be written costs time only: leases end by themselves."""
        holders = self._dead + ([self._own] if self._own is not None else [])
        draft = self._file.with_suffix(".tmp")
        try:
            draft.write_text(json.dumps(holders))
            put_in_place(draft, self._file)
        except OSError as error:
            _log.warning("who holds leases cannot be noted", file=str(self._file), error=str(error))
