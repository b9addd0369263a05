"""What the client of the control API asks of the session of a job: its terminal, and ports in its cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from common.client_transport import query_of
from common.client_tuning import TuningClient
from common.errors import TooManyRequests
from common.ids import new_id

PIECE_BYTES = 64 * 1024
NO_ROOM_YET = "no_room_yet"
NEXT_OFFSET, ENDED = "Computility-Next-Offset", "Computility-Ended"
TRY_AGAIN_SECONDS = 0.2
ROOM_SECONDS = 60.0
"""So long the other end may take nothing."""
ANSWER_SECONDS = 15.0
"""So long control may be silent: it waits a few seconds itself, and who sits at a terminal not for long."""


class SessionClient(TuningClient):
    """The one question under all of a session."""

    def in_session(
        self,
        method: str,
        job: str,
        what: str,
        params: Mapping[str, object],
        data: bytes = b"",
    ) -> httpx.Response:
        """The answer about the session of a job. May be sent twice: whatever changes has a number or an
        offset."""
        path = f"/api/v1/jobs/{job}/{what}"
        headers = {"Content-Type": "application/octet-stream"} if data else {}
        patience = self._patience(ANSWER_SECONDS)
        response = self._send(
            method, path, params=query_of(params), content=data, headers=headers, timeout=patience
        )
        if response.is_error:
            self._answer(response)
        return response


@dataclass(frozen=True)
class Piece:
    """Bytes from an offset on, and the offset after them. ``ended``: none follow."""

    data: bytes
    next_offset: int
    ended: bool


@dataclass
class JobSession:
    """The session of one attempt of a job. Every method raises ``NotFound`` or ``Conflict`` where that is
    over, and ``Unavailable`` where control is away."""

    client: SessionClient
    job: str
    project: str
    attempt: int
    sleep: Callable[[float], None] = time.sleep
    _writer: str = field(default_factory=lambda: new_id("writer"))
    _number: int = 0

    def type(self, data: bytes) -> None:
        """Input, at most a piece. Raises ``TooManyRequests`` with the code ``no_room_yet`` while the terminal
        takes none. What raised an error may be typed again, as it was: it reaches the terminal once."""
        self._ask("POST", "input", {"writer": self._writer, "number": self._number + 1}, data)
        self._number += 1

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of the window."""
        self._ask("POST", "window", {"rows": rows, "columns": columns})

    def output(self, offset: int) -> Piece:
        """What the terminal shows from an offset on; waits some seconds for it."""
        return _piece(self._ask("GET", "output", {"offset": offset}))

    def open(self, port: int) -> int:
        """The number of a new connection to a port. Raises ``NotFound`` where nothing listens."""
        number: int = self._ask("POST", "connections", {"port": port}).json()["connection"]
        return number

    def send(self, connection: int, offset: int, data: bytes, *, end: bool = False) -> None:
        """Bytes for a connection, at most a piece; with ``end`` the last ones."""
        self._patiently("connections/sent", {"connection": connection, "offset": offset, "end": end}, data)

    def receive(self, connection: int, offset: int) -> Piece:
        """What comes of a connection from an offset on; waits some seconds for it."""
        where = {"connection": connection, "offset": offset}
        return _piece(self._ask("POST", "connections/received", where))

    def close(self, connection: int) -> None:
        """The connection is not needed any more."""
        self._ask("DELETE", "connections", {"connection": connection})

    def _patiently(self, what: str, params: Mapping[str, object], data: bytes) -> None:
        left_seconds = ROOM_SECONDS
        while True:
            try:
                self._ask("POST", what, params, data)
            except TooManyRequests as error:
                if error.code != NO_ROOM_YET or left_seconds <= 0:
                    raise
                left_seconds -= TRY_AGAIN_SECONDS
                self.sleep(TRY_AGAIN_SECONDS)
            else:
                return

    def _ask(self, method: str, what: str, params: Mapping[str, object], data: bytes = b"") -> httpx.Response:
        place: dict[str, object] = {"project": self.project, "attempt": self.attempt}
        return self.client.in_session(method, self.job, what, {**place, **params}, data)


def _piece(answer: httpx.Response) -> Piece:
    return Piece(answer.content, int(answer.headers[NEXT_OFFSET]), answer.headers[ENDED] == "true")
