"""A client that knows several control processes."""

from collections.abc import Callable

import httpx
import pytest

from common.client import Client
from common.errors import NO_LEADER, NOT_LEADING, Unavailable

A, B, C = "http://a:1", "http://b:1", "http://c:1"


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client(A, "ck-x", transport=httpx.MockTransport(answer), others=[B, C])


def test_the_next_is_asked_where_nothing_takes_a_connection_and_stays() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "a":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"items": []})

    with client(answer) as found:
        assert found.list("tenants") == []
        assert list(found.logs("w")) == ['{"items":[]}']
    assert asked == ["a", "b", "b"]


def test_a_write_that_broke_off_goes_to_the_next_with_the_same_key() -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append((request.url.host, request.headers["Idempotency-Key"]))
        if len(keys) == 1:
            raise httpx.ReadError("reset", request=request)
        if request.url.host == "a":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"results": [{}]})

    with client(answer) as found:
        found.apply({"kind": "Tenant"})
    assert [host for host, _ in keys] == ["a", "a", "b"]
    assert len({key for _, key in keys}) == 1


@pytest.mark.parametrize("code", [NO_LEADER, NOT_LEADING])
def test_a_write_waits_until_one_leads_and_is_the_same_write(code: str) -> None:
    keys: list[str] = []
    slept: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) < 4:
            return httpx.Response(503, json={"error": {"message": "wait", "code": code, "type": "x"}})
        return httpx.Response(200, json={"results": [{}]})

    with Client(A, transport=httpx.MockTransport(answer), sleep=slept.append) as found:
        found.apply({"kind": "Tenant"})
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert len(slept) == 3


@pytest.mark.parametrize(("code", "least_seconds"), [(NO_LEADER, 15.0), ("store_unavailable", 0.0)])
def test_a_wait_has_an_end_and_what_else_is_wrong_is_said_at_once(code: str, least_seconds: float) -> None:
    slept: list[float] = []
    body = {"error": {"message": "nobody leads", "code": code, "type": "x"}}
    transport = httpx.MockTransport(lambda _: httpx.Response(503, json=body))
    with (
        Client(A, transport=transport, sleep=slept.append) as found,
        pytest.raises(Unavailable, match="leads"),
    ):
        found.whoami()
    assert least_seconds <= sum(slept) <= 60
    assert bool(slept) == bool(least_seconds)


def test_where_none_is_there_it_says_so_once_each_was_tried() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        raise httpx.ConnectError("refused", request=request)

    with client(answer) as found, pytest.raises(Unavailable, match="computility up"):
        found.whoami()
    assert asked == ["a", "b", "c"]


@pytest.mark.parametrize(("others", "connect_seconds"), [([B], 5.0), ([], 30.0)])
def test_a_machine_that_is_off_is_not_waited_for_long_where_there_is_another(
    others: list[str], connect_seconds: float
) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, json={"items": [], "results": [{}]})

    with Client(A, transport=httpx.MockTransport(answer), others=others) as client:
        client.list("tenants")
        client.apply({})
        assert list(client.logs("a")) == ['{"items":[],"results":[{}]}']
    assert [limits["connect"] for limits in seen] == [connect_seconds] * 3
    assert [limits["read"] for limits in seen] == [30.0, 30.0, None]
