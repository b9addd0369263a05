"""A terminal and ports of a job at the command line, against a session that is played here."""

import itertools
import json
import queue
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client import Client
from common.client_sessions import ENDED, NEXT_OFFSET, PIECE_BYTES, JobSession
from common.errors import InvalidInput, NotFound, TooManyRequests, Unavailable
from control.cli.work.forward import Forwarding, pair_of
from control.cli.work.screen import END_OF_INPUT, LEAVE, Screen, before_leave
from tests.unit.control.cli.test_commands import Answer, control, error, run

__all__ = ["control"]
Install = Callable[[Answer], list[httpx.Request]]


@dataclass
class Played:
    """The session of attempt 1 of a job, as control serves it: its terminal prints what is typed and ends at
    ``end`` or Ctrl-D; a connection answers what is sent."""

    busy: int = 0
    typed: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    windows: list[tuple[str, str]] = field(default_factory=list)
    connections: dict[int, tuple[bytearray, bool]] = field(default_factory=dict)
    slept: list[float] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        what = request.url.path.removeprefix("/api/v1/jobs/mine/")
        assert request.url.params["attempt"] == "1"
        assert request.url.params["project"] == "lab"
        with self.changed:
            answer: httpx.Response = getattr(self, f"_{what.replace('/', '_')}")(request, request.url.params)
            self.changed.notify_all()
        return answer

    def session(self) -> JobSession:
        client = Client("http://control", "ck", transport=httpx.MockTransport(self), sleep=self.slept.append)
        return JobSession(client, "mine", "lab", 1, sleep=self.slept.append)

    def _input(self, request: httpx.Request, params: httpx.QueryParams) -> httpx.Response:
        if self.busy:
            self.busy -= 1
            return error(429, "no_room_yet", "full")
        self.typed.append(request.content)
        self.numbers.append(int(params["number"]))
        return httpx.Response(204)

    def _window(self, request: httpx.Request, params: httpx.QueryParams) -> httpx.Response:
        self.windows.append((params["rows"], params["columns"]))
        return httpx.Response(204)

    def _output(self, request: httpx.Request, params: httpx.QueryParams) -> httpx.Response:
        offset = int(params["offset"])
        self.changed.wait_for(lambda: len(self._printed()) > offset or self._is_over(), timeout=0.05)
        data = self._printed()[offset:]
        return _bytes(data, offset, ended=self._is_over() and not data)

    def _printed(self) -> bytes:
        return b"$ " + b"".join(self.typed)

    def _is_over(self) -> bool:
        return b"end" in self._printed() or END_OF_INPUT in self._printed()

    def _connections(self, request: httpx.Request, params: httpx.QueryParams) -> httpx.Response:
        if request.method == "DELETE":
            self.connections.pop(int(params["connection"]), None)
            return httpx.Response(204)
        if params["port"] != "8888":
            return error(404, "not_found", "nothing listens on its port")
        self.connections[5] = bytearray(), False
        return httpx.Response(200, json={"connection": 5})

    def _connections_sent(self, request: httpx.Request, params: httpx.QueryParams) -> httpx.Response:
        data, _ = self.connections[int(params["connection"])]
        assert int(params["offset"]) == len(data)
        self.connections[5] = data + request.content, params.get("end") == "true"
        return httpx.Response(204)

    def _connections_received(self, request: httpx.Request, params: httpx.QueryParams) -> httpx.Response:
        offset = int(params["offset"])
        self.changed.wait_for(lambda: len(self.connections[5][0]) > offset or self.connections[5][1], 0.05)
        data, ended = self.connections[5]
        return _bytes(bytes(data[offset:]), offset, ended=ended)


def _bytes(data: bytes, offset: int, *, ended: bool) -> httpx.Response:
    headers = {NEXT_OFFSET: str(offset + len(data)), ENDED: "true" if ended else "false"}
    return httpx.Response(200, content=data, headers=headers)


def sit(played: Played, *typed: bytes, sizes: list[tuple[int, int]] | None = None) -> tuple[bool, bytes]:
    """Whether the job ended, and what was shown; typed one after the other, then nothing more comes."""
    keys, shown, left = queue.SimpleQueue[bytes](), list[bytes](), list(sizes or [])
    for piece in typed:
        keys.put(piece)

    def read(seconds: float) -> bytes | None:
        try:
            return keys.get(timeout=0.01)
        except queue.Empty:
            return None

    screen = Screen(
        played.session(),
        read=read,
        show=shown.append,
        size=lambda: left.pop() if left else None,
        sleep=played.slept.append,
    )
    return screen.join(), b"".join(shown)


def test_what_is_typed_goes_there_and_all_that_it_shows_comes_here() -> None:
    played = Played()
    assert sit(played, b"ls\n", b"end\n", sizes=[(24, 80)]) == (True, b"$ ls\nend\n")
    assert played.numbers == [1, 2]
    assert played.windows == [("24", "80")]


def test_who_leaves_leaves_it_running() -> None:
    played = Played()
    assert sit(played, b"sleep\n" + LEAVE + b"never")[0] is False
    assert played.typed == [b"sleep\n"]


def test_at_the_end_of_a_pipe_the_job_is_told() -> None:
    played = Played()
    assert sit(played, b"ls\n", b"")[0] is True
    assert played.typed == [b"ls\n", END_OF_INPUT]


def test_a_pipe_that_ends_within_a_line_ends_it_all_the_same() -> None:
    played = Played()
    assert sit(played, b"ls", b"")[0] is True
    assert b"".join(played.typed) == b"ls\n" + END_OF_INPUT


def test_a_terminal_that_takes_nothing_is_waited_for_and_nothing_is_typed_twice() -> None:
    played = Played(busy=3)
    assert sit(played, b"x" * (PIECE_BYTES + 1), b"end")[0] is True
    assert b"".join(played.typed) == b"x" * (PIECE_BYTES + 1) + b"end"
    assert max(map(len, played.typed)) <= PIECE_BYTES
    assert played.numbers == [*range(1, len(played.typed) + 1)]
    with pytest.raises(TooManyRequests):
        Played(busy=1).session().type(b"x")


def test_who_waits_for_a_terminal_that_takes_nothing_may_leave() -> None:
    played = Played(busy=10**6)
    assert sit(played, b"x", LEAVE)[0] is False
    assert played.typed == []


def test_where_nobody_looks_any_more_it_is_left() -> None:
    def broken(data: bytes) -> None:
        raise BrokenPipeError

    screen = Screen(Played().session(), read=lambda seconds: None, show=broken, size=lambda: None)
    assert screen.join() is False


@dataclass
class Away:
    """Control that is away for some requests; ``taken``: what it was asked reaches it, and the answer is
    lost."""

    played: Played
    path: str
    times: int
    taken: bool = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith(self.path) or not self.times:
            return self.played(request)
        self.times -= 1
        if self.taken and int(request.url.params["number"]) not in self.played.numbers:
            self.played(request)
        raise httpx.ConnectTimeout("away")

    def sit(self, *typed: bytes, clock: Callable[[], float]) -> bytes:
        keys, shown = [*reversed(typed)], list[bytes]()
        transport = httpx.MockTransport(self)
        client = Client("http://control", "ck", transport=transport, sleep=self.played.slept.append)
        screen = Screen(
            JobSession(client, "mine", "lab", 1),
            read=lambda seconds: keys.pop() if keys else (threading.Event().wait(0.01) and None) or None,
            show=shown.append,
            size=lambda: None,
            sleep=self.played.slept.append,
            clock=clock,
        )
        assert screen.join()
        return b"".join(shown)


@pytest.mark.parametrize("path", ["/output", "/input"])
def test_control_may_be_away_for_a_while(path: str) -> None:
    played = Played()
    assert Away(played, path, 3).sit(b"a", b"b", b"end", clock=lambda: 0.0) == b"$ abend"
    assert played.numbers == [*range(1, len(played.numbers) + 1)]


def test_what_may_have_been_typed_is_sent_again_under_its_number() -> None:
    played = Played()
    away = Away(played, "/input", 1, taken=True)
    taken = played._input

    def once(request: httpx.Request, params: httpx.QueryParams) -> httpx.Response:
        if int(params["number"]) in played.numbers:
            return httpx.Response(204)  # as an agent does
        return taken(request, params)

    played._input = once  # type: ignore[method-assign]
    assert away.sit(b"a", b"b", b"end", clock=lambda: 0.0) == b"$ abend"


@pytest.mark.parametrize("path", ["/output", "/input"])
def test_who_cannot_reach_control_for_long_is_told(path: str) -> None:
    seconds = itertools.count(step=50)
    with pytest.raises(Unavailable):
        Away(Played(), path, 10**6).sit(b"a", clock=lambda: float(next(seconds)))


@given(st.binary(max_size=50))
def test_ctrl_and_bracket_is_all_that_leaves(data: bytes) -> None:
    typed, leaves = before_leave(data)
    assert leaves == (LEAVE in data)
    assert data.startswith(typed)
    assert LEAVE not in typed


@pytest.mark.parametrize(
    ("text", "pair"), [("8888", (8888, 8888)), ("9000:8888", (9000, 8888)), ("0:80", (0, 80))]
)
def test_pairs_of_ports(text: str, pair: tuple[int, int]) -> None:
    assert pair_of(text) == pair


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,6}(:[0-9]{0,6})?", fullmatch=True))
def test_what_is_no_pair_is_said(text: str) -> None:
    try:
        local, remote = pair_of(text)
    except InvalidInput:
        assert not re.fullmatch(r"[1-9][0-9]{0,3}", text)
    else:
        assert 0 <= local <= 65_535
        assert 0 < remote <= 65_535


def carried(played: Played, port: int = 8888) -> socket.socket:
    """One end of a connection to the port; the other is carried until it ends."""
    here, there = socket.socketpair()
    here.settimeout(30)
    serve = Forwarding(played.session, port, threading.BoundedSemaphore(1))
    threading.Thread(target=serve.carry, args=(there,), daemon=True).start()
    return here


def test_a_port_answers_through_control_in_order() -> None:
    played, data = Played(), bytes(range(256)) * 500
    with carried(played) as here:
        here.sendall(data)
        here.shutdown(socket.SHUT_WR)
        found = b""
        while piece := here.recv(100_000):
            found += piece
    assert found == data


def test_where_nothing_listens_the_connection_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with carried(Played(), 1) as here:
        assert here.recv(1) == b""
    assert "nothing listens" in capsys.readouterr().err


def test_an_attempt_that_is_over_is_no_session() -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        return error(404, "not_found", "it does not run")

    client = Client("http://control", "ck", transport=httpx.MockTransport(gone))
    with pytest.raises(NotFound):
        JobSession(client, "mine", "lab", 1).open(80)


def job(phase: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "mine", "project": "lab", "uid": "u"},
        "spec": {"command": ["bash"], **more.pop("spec", {})},
        "status": {"phase": phase, "attempts": 1, **more},
    }


def test_a_shell_is_a_job_of_its_own(control: Install, tmp_path: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/whoami":
            return httpx.Response(200, json={"project": "lab"})
        if request.url.path == "/api/v1/apply":
            return httpx.Response(200, json={"results": [{"outcome": "created", "resource": {}}]})
        return httpx.Response(200, json=job("Failed", exitCode=7, message="exit code 7 of rank 0"))

    seen = control(answer)
    assert run("shell", "--no-folder", "--name", "mine", "--idle", "30m", "--ports") == 7
    [applied] = [one for one in seen if one.url.path == "/api/v1/apply" and "dryRun" not in one.url.params]
    spec = json.loads(applied.content)["spec"]
    assert spec["session"] == {"terminal": True, "ports": True, "idleSeconds": 1800}
    assert (spec["command"], spec["retries"]) == (["bash"], 0)


@pytest.mark.parametrize(
    "words", [("shell", "--attach", "mine"), ("port-forward", "mine", "8888"), ("port-forward", "mine", "x")]
)
def test_a_job_without_a_session_is_refused(control: Install, words: tuple[str, ...]) -> None:
    control(lambda request: httpx.Response(200, json={**job("Running"), "items": [job("Running")]}))
    assert run(*words) == 2
