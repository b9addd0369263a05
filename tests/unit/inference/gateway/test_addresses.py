"""Which of several control processes a gateway asks."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from yarl import URL

from common.clock import VirtualClock
from common.settings import ControlSettings, Settings
from inference.gateway.control_link import proxy as proxy_module
from inference.gateway.control_link import routes
from inference.gateway.control_link.addresses import ControlAddresses, trusted_url
from inference.gateway.control_link.proxy import ControlProxy
from inference.gateway.control_link.routes import RouteFollower

URLS = ["http://a:1", "http://b:1", "http://c:1"]


@pytest.fixture
def addresses(tmp_path: Path) -> ControlAddresses:
    return ControlAddresses(Settings(home=tmp_path, control=ControlSettings(urls=URLS)))


def ask(addresses: ControlAddresses, error: Exception | None = None) -> str:
    with addresses.asking("/x") as url:
        if error is not None:
            raise error
    return url


def test_one_that_answers_is_asked_again(addresses: ControlAddresses) -> None:
    assert [ask(addresses) for _ in range(3)] == ["http://a:1/x"] * 3


@pytest.mark.parametrize("error", [aiohttp.ServerDisconnectedError(), TimeoutError(), OSError("no route")])
def test_after_one_that_does_not_the_next_is_asked_round_and_round(
    addresses: ControlAddresses, error: Exception
) -> None:
    asked = []
    for _ in range(4):
        asked.append(addresses.url)
        with pytest.raises(type(error)):
            ask(addresses, error)
    assert asked == [*URLS, URLS[0]]


def test_a_mistake_of_ours_is_no_reason_to_move_on(addresses: ControlAddresses) -> None:
    with pytest.raises(KeyError):
        ask(addresses, KeyError("x"))
    assert addresses.url == URLS[0]


def test_two_that_fail_at_one_address_move_on_once(addresses: ControlAddresses) -> None:
    addresses.pass_over(URLS[0])
    addresses.pass_over(URLS[0])
    assert addresses.url == URLS[1]


def test_without_a_list_the_one_of_this_machine_is_asked(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert ControlAddresses(settings).url == trusted_url(settings) == settings.control_url


def test_others_are_trusted_as_authorities_say(tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:8001", "http://b:1"]
    assert trusted_url(Settings(home=tmp_path, control=ControlSettings(urls=urls))) == "http://b:1"


async def test_one_that_hangs_is_passed_over_by_the_request_that_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def hang(follower: RouteFollower, wait_seconds: float) -> bool:
        with follower._control.asking("") as url:
            asked.append(url)
            return await asyncio.Event().wait()

    monkeypatch.setattr(RouteFollower, "poll", hang)
    monkeypatch.setattr(routes, "RENEWAL_SECONDS", 0.0)
    settings = Settings(home=tmp_path, control=ControlSettings(urls=URLS))
    follower = RouteFollower(settings, cast(aiohttp.ClientSession, cast(Any, None)), VirtualClock())
    for _ in range(2):
        await follower.renewed()
    assert asked == URLS[:2]


@pytest.mark.parametrize("error", [aiohttp.ConnectionTimeoutError(), aiohttp.ServerDisconnectedError()])
async def test_only_what_was_not_sent_goes_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: aiohttp.ClientError
) -> None:
    asked = []

    def request(method: str, url: URL, **_: Any) -> None:
        asked.append(str(url.origin()))
        raise error

    proxy = ControlProxy(Settings(home=tmp_path, control=ControlSettings(urls=URLS)))
    monkeypatch.setattr(proxy._session, "request", request)
    monkeypatch.setattr(proxy_module, "_request_headers", lambda exchange: {})
    exchange = SimpleNamespace(method="GET")
    with pytest.raises(type(error)):
        await proxy._ask(cast(Any, exchange), "/v1/files")
    await proxy.close()
    assert asked == (URLS if isinstance(error, aiohttp.ConnectionTimeoutError) else URLS[:1])
