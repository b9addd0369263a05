"""What a control process that follows passes on to the one that leads, and what it answers itself."""

import asyncio
from typing import Any, cast

import aiohttp
import pytest
from multidict import CIMultiDict
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from common.leadership.elector import Elector
from common.settings import Settings
from control.api.passing_on import PassingOn, _headers, _kept, is_served_here


class _Follower:
    leads = False
    leader_url = "http://leader:8001"
    moved = asyncio.Event()


def _scope(method: str, path: str, *headers: tuple[bytes, bytes]) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
    }


async def _ask(monkeypatch: pytest.MonkeyPatch, scope: Scope) -> tuple[list[str], list[Message]]:
    """Who was asked, and what was answered."""
    asked: list[str] = []
    answer: list[Message] = []

    async def here(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append("here")

    async def exchange(self: PassingOn, url: str, scope: Scope, *more: Any) -> None:
        _headers(scope)
        asked.append(str(URL(url + scope["path"], encoded=True).host))

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        answer.append(message)

    monkeypatch.setattr(PassingOn, "_exchange", exchange)
    follower = PassingOn(here, cast(Elector, _Follower()), Settings())
    await follower(scope, receive, send)
    return asked, answer


@pytest.mark.parametrize(
    "path", ["*@elsewhere.example/latest", "*:80@elsewhere.example", "*", ".elsewhere.example/"]
)
async def test_no_request_target_leads_to_another_host(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    assert await _ask(monkeypatch, _scope("PUT", path)) == (["here"], [])


@pytest.mark.parametrize("path", ["/api/v1/apply", "//elsewhere.example/x", "/@elsewhere.example", "/"])
async def test_a_write_goes_to_the_leader(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    assert await _ask(monkeypatch, _scope("POST", path)) == (["leader"], [])


@pytest.mark.parametrize(
    ("method", "path", "here"),
    [
        ("GET", "/api/v1/tenants", True),
        ("GET", "/api/v1/overview", False),
        ("GET", "/api/v1/reconciliation", False),
        ("GET", "/api/v1/workloads/a/logs", False),
        ("GET", "/api/v1/jobs/a/output", False),
        ("GET", "/api/v1/jobs/a", True),
        ("OPTIONS", "*", True),
        ("POST", "/api/v1/simulate", False),
    ],
)
def test_reads_are_answered_here_but_for_those_of_the_leader(method: str, path: str, here: bool) -> None:
    assert is_served_here(method, path) is here


@pytest.mark.parametrize("key", [b"once", "jedes-Mal-für-sich".encode(), b""])
def test_a_header_is_the_same_to_the_leader(key: bytes) -> None:
    headers: CIMultiDict[str] = _headers(_scope("POST", "/api/v1/apply", (b"idempotency-key", key)))
    assert headers["Idempotency-Key"].encode() == key, "aiohttp writes UTF-8"


async def test_a_header_that_would_become_another_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scope = _scope("POST", "/api/v1/apply", (b"idempotency-key", b"f\xfcr"))
    asked, answer = await _ask(monkeypatch, scope)
    assert (asked, answer[0]["status"]) == ([], 400)
    assert b"idempotency-key has to be UTF-8" in answer[1]["body"]


def test_a_read_announces_no_body_as_none_is_sent() -> None:
    length = (b"content-length", b"5")
    assert "content-length" not in _headers(_scope("GET", "/api/v1/overview", length))
    assert _headers(_scope("POST", "/api/v1/apply", length))["content-length"] == "5"


def test_an_answer_keeps_what_guards_it() -> None:
    guard = (b"x-content-type-options", b"nosniff")
    assert _kept([guard, (b"Connection", b"close"), (b"date", b"today")]) == [guard]


@pytest.mark.parametrize(
    ("path", "seconds"), [("/api/v1/workloads/a/logs", None), ("/api/v1/overview", 700.0)]
)
async def test_a_log_that_is_followed_may_be_silent(
    monkeypatch: pytest.MonkeyPatch, path: str, seconds: float | None
) -> None:
    limits: list[aiohttp.ClientTimeout] = []

    def session(**options: Any) -> None:
        limits.append(options["timeout"])
        raise aiohttp.ClientError

    monkeypatch.setattr(aiohttp, "ClientSession", session)
    follower = PassingOn(cast(Any, None), cast(Elector, _Follower()), Settings())
    with pytest.raises(aiohttp.ClientError):
        await follower._exchange("http://leader:8001", _scope("GET", path), cast(Any, None), cast(Any, None))
    assert [one.sock_read for one in limits] == [seconds]


def test_authorities_are_read_once_for_each_leader() -> None:
    follower = PassingOn(cast(Any, None), cast(Elector, _Follower()), Settings())
    first = follower._trust("https://a:1")
    assert follower._trust("https://a:1") is first
    assert follower._trust("https://b:1") is not first
    assert follower._trust("http://c:1") is True
