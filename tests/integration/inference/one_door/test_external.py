"""Models that others serve: what goes there, what comes back, and what is billed on both sides."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from common.wire import RouteData
from tests.fixtures.doors import PROJECT, door, doors, external, own
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SECRET, Serving, as_events, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MESSAGES: Any = [{"role": "user", "content": "one two three"}]
NEAR = {"external_private_addresses": True}


@asynccontextmanager
async def two_platforms(home: Path, **outside: Any) -> AsyncIterator[tuple[Serving, Serving, FakeEngine]]:
    """One whose own model sleeps, and another one that serves it from outside; and the engine of that."""
    engine = FakeEngine()
    await engine.start()
    try:
        async with serving(home / "far", table([("r0", engine.url)])) as far:
            keys = home / "keys"
            keys.mkdir()
            (keys / "far").write_text(f"{SECRET}\n")
            away = external("away", f"{far.url}/v1", secret="far", **outside)
            routes = doors(own("small"), away, door("smart", "small", "away"))
            async with serving(home / "near", routes, provider_keys_folder=keys, **NEAR) as near:
                yield near, far, engine
    finally:
        await engine.stop()


async def ask(front: Serving, model: str = "smart", **options: Any) -> Any:
    options = {"messages": MESSAGES, "max_tokens": 4, **options}
    return await front.client().chat.completions.with_raw_response.create(model=model, **options)


async def test_a_model_that_sleeps_falls_over_to_another_platform_and_back(tmp_path: Path) -> None:
    async with two_platforms(tmp_path) as (near, far, engine):
        plain = await ask(near)
        assert plain.headers["x-computility-route"] == "route=smart; model=away; tried=small:no_engine"
        assert plain.parse().model == "smart"
        stream = (await ask(near, stream=True)).parse()
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " w1 w2 w3 w4"
        assert all(chunk.usage is None for chunk in chunks)
        bills, theirs = await near.billed(2), await far.billed(2)
        assert [bill["quantities"] for bill in bills] == [bill["quantities"] for bill in theirs]
        assert engine.generated == sum(bill["quantities"]["completion_tokens"] for bill in bills)
        for bill in bills:
            assert (bill["model"], bill["model_identity"]) == ("away", f"{PROJECT}/away")
            assert bill["device_class"] == "external/elsewhere"
            assert bill["labels"]["usage"] == "provider"
            assert bill["labels"]["provider_request_id"]
        back = doors(own("small", engine.url), *near.control.table.routes[1:], version="2")
        await near.follow(back)
        assert (await ask(near)).headers["x-computility-route"] == "route=smart; model=small"
        assert len(far.control.events) == 2


async def test_no_secret_of_ours_and_no_key_of_a_client_goes_out(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        routes = doors(external("away", f"{provider.url}/v1"))
        async with serving(tmp_path, routes, **NEAR) as near:
            extra = {"Cookie": "a=b", "X-Computility-Data-Class": "internal", "X-Own": "1"}
            await ask(near, "away", extra_headers=extra, metadata={"team": "search"}, user="u")
            [headers] = provider.headers
            sent = {name.lower() for name in headers}
            assert sent == {"host", "content-length", "accept-encoding", "user-agent", "content-type"}
            assert provider.bodies[0].keys() == {"model", "messages", "max_tokens"}
            assert "cache_salt" not in provider.bodies[0]


def outside_alone(home: Path, provider: FakeEngine) -> Any:
    return serving(home, doors(external("away", f"{provider.url}/v1")), **NEAR)


class FakeProvider(FakeEngine):
    """An engine as a context."""

    async def __aenter__(self) -> "FakeProvider":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@pytest.mark.parametrize(
    ("bound", "said", "outside", "status"),
    [
        (None, None, "internal", 200),
        (None, None, "public", 403),
        (None, "public", "public", 200),
        (None, "regulated", "confidential", 403),
        (RouteData(data_class="regulated"), "public", "confidential", 403),
        (RouteData(data_class="public"), None, "public", 200),
        (RouteData(regions=("us",)), None, "regulated", 403),
        (RouteData(regions=()), None, "regulated", 403),
        (RouteData(regions=("eu",)), "regulated", "regulated", 200),
        (None, "secret", "regulated", 400),
    ],
)
@pytest.mark.parametrize("name", ["away", "smart"])
async def test_data_go_out_only_where_they_may(
    tmp_path: Path, bound: RouteData | None, said: str | None, outside: str, status: int, name: str
) -> None:
    async with FakeProvider() as provider:
        away = external("away", f"{provider.url}/v1", data_class=outside)
        routes = doors(own("small"), away, door("smart", "away"), bound=bound)
        async with serving(tmp_path, routes, **NEAR) as near:
            headers = {"x-computility-data-class": said} if said else {}
            if status == 200:
                await ask(near, name, extra_headers=headers)
                assert len(provider.bodies) == 1
                return
            with pytest.raises(openai.APIStatusError) as error:
                await ask(near, name, extra_headers=headers)
            assert error.value.status_code == status
            assert error.value.code == ("data_class_not_allowed" if status == 403 else "invalid_value")
            assert not provider.bodies


async def test_a_regulated_request_waits_for_its_own_engine_and_never_falls_over(tmp_path: Path) -> None:
    async with two_platforms(tmp_path, data_class="confidential") as (near, far, _):
        with pytest.raises(openai.APIStatusError) as error:
            await ask(near, extra_body={"metadata": {"data_class": "regulated"}})
        assert error.value.status_code == 503
        assert "regulated data may not go there" in error.value.message
        assert not far.control.events
        assert not near.control.events


async def test_an_address_of_the_inside_is_not_asked(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        port = provider.url.rpartition(":")[2]
        for url in (f"http://127.0.0.1:{port}/v1", f"https://localhost:{port}/v1"):
            async with serving(tmp_path / url[:5], doors(external("away", url))) as near:
                with pytest.raises(openai.APIStatusError) as error:
                    await ask(near, "away")
                assert error.value.status_code == 502
        assert not provider.bodies


async def test_what_a_provider_says_of_our_account_is_not_told(tmp_path: Path) -> None:
    async with FakeProvider() as provider, outside_alone(tmp_path, provider) as near:
        for theirs, ours in ((401, 502), (403, 502), (404, 502), (429, 429), (500, 502), (400, 400)):
            provider.fail_with = (theirs, {"error": {"message": "n must be less"}})
            with pytest.raises(openai.APIStatusError) as error:
                await ask(near, "away")
            assert error.value.status_code == ours
            assert ("n must be less" in error.value.message) == (theirs == 400)
        assert not near.control.events


def event(**content: Any) -> bytes:
    told = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "other-2026", **content}
    return b"data: " + json.dumps(told).encode() + b"\r\n\r\n"


def piece(text: str, ended: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": ended}])


EIGHT_BYTES = [piece("12345678"), piece("", "stop")]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.mark.parametrize(
    ("untold", "script", "tokens", "usage", "fails"),
    [
        ("refuse", [*EIGHT_BYTES, event(choices=[], usage=USAGE)], 3, "provider", False),
        ("estimate", EIGHT_BYTES, 2, "estimated", False),
        ("refuse", EIGHT_BYTES, 2, "estimated", True),
    ],
)
async def test_streams_of_others_are_counted(
    tmp_path: Path, untold: Any, script: list[bytes], tokens: int, usage: str, fails: bool
) -> None:
    async with FakeProvider() as provider:
        provider.script = [*script, b"data: [DONE]\r\n\r\n"]
        away = external("away", f"{provider.url}/v1", untold_usage=untold)
        async with serving(tmp_path, doors(away), **NEAR) as near:
            raw = await near.client().chat.completions.with_raw_response.create(
                model="away", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
            events = as_events(await raw.http_response.aread())
            assert events[0]["model"] == "away"
            assert ("error" in events[-2]) == fails
            [bill] = await near.billed()
            assert bill["quantities"]["completion_tokens"] == tokens
            assert bill["labels"]["usage"] == usage
            assert provider.bodies[0]["stream_options"] == {"include_usage": True}


async def test_a_provider_that_speaks_anthropics_api_is_asked_in_it(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        away = external("away", f"{provider.url}/v1", protocol="anthropic")
        body = {
            "model": "smart",
            "max_tokens": 4,
            "messages": MESSAGES,
            "metadata": {"user_id": "u", "t": "x"},
        }
        async with serving(tmp_path, doors(away, door("smart", "away")), **NEAR) as near:
            client = near.client()
            plain = await client.post("/messages", body=body, cast_to=dict[str, Any])
            assert plain["model"] == "smart"
            streamed = await client.post("/messages", body={**body, "stream": True}, cast_to=str)
            assert "message_stop" in streamed
            bills = await near.billed(2)
            assert [bill["labels"]["usage"] for bill in bills] == ["provider"] * 2
            assert sum(bill["quantities"]["completion_tokens"] for bill in bills) == provider.generated
            assert provider.headers[0]["anthropic-version"]
            assert "metadata" not in provider.bodies[0]
            with pytest.raises(openai.BadRequestError) as error:
                await ask(near)
            assert error.value.code == "no_candidate"
