"""A canary at the gateway: who is on its side, what fails there, what is counted, and what is billed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from common.wire import RouteCanary, RoutingTable
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SCRAPES, Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MESSAGES: Any = [{"role": "user", "content": "one two three"}]
VARIANT = "x-computility-variant"


@dataclass
class Scene:
    """A gateway, one engine of each side, and the table that names them."""

    front: Serving
    stable: FakeEngine
    canary: FakeEngine

    def table(self, weight: float, version: str = "1", canaries: int = 1, **canary: Any) -> RoutingTable:
        wanted = {"endpoint": "acme-bots/chat", "trial": "t", "salt": "s", "sticky_by": "session", **canary}
        engines: Any = [("chat-0", self.stable.url)]
        engines += [("chat-canary-0", self.canary.url, "canary")] * canaries
        made = table(engines, version, canary=RouteCanary(weight_percent=weight, **wanted))
        (route,) = made.routes
        told = tuple(
            one.model_copy(update={"model_identity": "acme-bots/tiny-v2"}) if one.role == "canary" else one
            for one in route.replicas
        )
        return made.model_copy(update={"routes": (route.model_copy(update={"replicas": told}),)})

    async def change(self, *args: Any, **options: Any) -> None:
        self.front.control.table = self.table(*args, **options)
        async with asyncio.timeout(10):
            while self.front.gateway.routes.index.version != self.front.control.table.version:
                await asyncio.sleep(0.01)

    async def ask(self, session: str = "", stream: bool = False, **options: Any) -> str:
        """Which side the client is told that it was answered by."""
        extra = {"user": session} if session else {}
        client = self.front.client()
        wish = {"model": "tiny", "messages": MESSAGES, "max_tokens": 4, "stream": stream, **extra, **options}
        answer = await client.chat.completions.with_raw_response.create(**wish)
        if stream:
            async for _ in answer.parse():
                pass
        return str(answer.headers.get(VARIANT))

    async def counted(self, requests: int) -> dict[str, Any]:
        """What control was told of the trial, once it is of so many requests."""
        async with asyncio.timeout(10):
            while True:
                trials = self.front.control.trials[-1]["trials"] if self.front.control.trials else []
                if trials and sum(trials[0][side]["requests"] for side in ("canary", "stable")) >= requests:
                    return dict(trials[0])
                await asyncio.sleep(0.02)

    async def outcomes(self) -> dict[tuple[str, str], int]:
        async with httpx.AsyncClient() as client:
            page = (await client.get(f"{self.front.url}/metrics", headers=SCRAPES)).text
        found = {}
        for line in page.splitlines():
            if line.startswith("computility_gateway_canary_requests_total{"):
                labels = dict(
                    part.split("=") for part in line[line.index("{") + 1 : line.index("}")].split(",")
                )
                assert labels["model"] == '"tiny"'
                key = (labels["variant"].strip('"'), labels["outcome"].strip('"'))
                found[key] = round(float(line.rpartition(" ")[2]))
        return found


@asynccontextmanager
async def scene(home: Path, weight: float, canaries: int = 1, **canary: Any) -> AsyncIterator[Scene]:
    engines = FakeEngine(), FakeEngine()
    for engine in engines:
        await engine.start()
    try:
        async with serving(home, table([], "0")) as front:
            made = Scene(front, *engines)
            await made.change(weight, canaries=canaries, **canary)
            yield made
    finally:
        for engine in engines:
            await engine.stop()


def fail(engine: FakeEngine, status: int = 503) -> None:
    engine.fail_with = (status, {"error": {"message": "broken", "code": status}})


async def test_a_session_stays_on_its_side_and_goes_to_the_canary_only_as_the_weight_grows(
    tmp_path: Path,
) -> None:
    sessions = [f"talk {number}" for number in range(40)]
    async with scene(tmp_path, 0) as on:
        sides = []
        for turn, weight in enumerate((0, 20, 20, 60, 100)):
            await on.change(weight, f"v{turn}")
            sides.append([await on.ask(session) for session in sessions])
        assert sides[1] == sides[2]
        for before, after in pairwise(sides):
            assert not any(
                one == "canary" and two == "stable" for one, two in zip(before, after, strict=True)
            )
        shares = [side.count("canary") for side in sides]
        assert shares[0] == 0 < shares[1] < shares[3] < shares[4] == 40
        assert len(on.canary.bodies) == sum(shares)
        assert Counter(await on.outcomes()) == {
            ("stable", "answered"): 200 - sum(shares),
            ("canary", "answered"): sum(shares),
        }


async def test_a_key_and_a_request_stay_together_where_the_endpoint_says_so(tmp_path: Path) -> None:
    async with scene(tmp_path, 50, sticky_by="key") as on:
        assert len({await on.ask(f"talk {number}") for number in range(20)}) == 1
        await on.change(50, "2", sticky_by="none")
        assert {await on.ask("the same talk") for _ in range(40)} == {"stable", "canary"}


async def test_two_gateways_agree_on_who_is_where(tmp_path: Path) -> None:
    sessions = [f"talk {number}" for number in range(20)]
    sides = []
    for home in ("a", "b"):
        async with scene(tmp_path / home, 50) as on:
            sides.append([await on.ask(session) for session in sessions])
    assert sides[0] == sides[1]
    assert set(sides[0]) == {"stable", "canary"}


async def test_the_bill_names_the_model_that_answered(tmp_path: Path) -> None:
    async with scene(tmp_path, 100) as on:
        assert await on.ask() == "canary"
        assert await on.ask(stream=True) == "canary"
        await on.change(0, "2")
        assert await on.ask(stream=True) == "stable"
        events = await on.front.billed(3)
        assert [event["model_identity"] for event in events] == [
            "acme-bots/tiny-v2",
            "acme-bots/tiny-v2",
            "acme-bots/tiny",
        ]
        assert {event["model"] for event in events} == {"tiny"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [503, 500, 400, 404])
async def test_a_canary_that_fails_is_no_clients_error(tmp_path: Path, status: int, stream: bool) -> None:
    async with scene(tmp_path, 100) as on:
        fail(on.canary, status)
        assert [await on.ask(stream=stream) for _ in range(8)] == ["stable"] * 8
        counts = await on.counted(16)
        assert (counts["canary"]["requests"], counts["canary"]["failed"]) == (8, 8)
        assert (counts["stable"]["requests"], counts["stable"]["failed"]) == (8, 0)
        assert {event["model_identity"] for event in await on.front.billed(8)} == {"acme-bots/tiny"}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_no_answer_though_its_status_says_so_is_no_clients_error(
    tmp_path: Path, stream: bool
) -> None:
    async with scene(tmp_path, 100) as on:
        if stream:
            on.canary.script = [
                b'data: {"error": {"message": "broken", "code": 500}}\n\n',
                b"data: [DONE]\n\n",
            ]
        else:
            fail(on.canary, 200)
        assert [await on.ask(stream=stream) for _ in range(3)] == ["stable"] * 3
        counts = await on.counted(6)
        assert (counts["canary"]["requests"], counts["canary"]["failed"]) == (3, 3)
        assert counts["stable"]["failed"] == 0


async def test_a_canary_that_breaks_more_engines_than_a_request_may_is_no_clients_error(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, 100) as on:
        other = FakeEngine(script=[None])
        await other.start()
        on.canary.script = [None]
        made = on.table(100, "2")
        (route,) = made.routes
        twin = route.replicas[-1].model_copy(update={"id": "chat-canary-1", "url": other.url})
        both = route.model_copy(update={"replicas": (*route.replicas, twin)})
        on.front.control.table = made.model_copy(update={"routes": (both,)})
        async with asyncio.timeout(10):
            while on.front.gateway.routes.index.version != "2":
                await asyncio.sleep(0.01)
        assert await on.ask(stream=True) == "stable"
        assert len(on.canary.bodies) == len(other.bodies) == 1
        await other.stop()


async def test_a_canary_that_is_gone_or_not_there_yet_is_no_clients_error(tmp_path: Path) -> None:
    async with scene(tmp_path, 100, canaries=0) as on:
        assert await on.ask() == "stable"
        assert await on.outcomes() == {("canary", "absent"): 1, ("stable", "answered"): 1}
        assert (await on.counted(1))["canary"]["requests"] == 0
        await on.change(100, "2")
        await on.canary.stop()
        assert [await on.ask(stream=True) for _ in range(6)] == ["stable"] * 6
        assert (await on.counted(13))["canary"]["failed"] == 6
        await on.canary.start()


async def test_a_mistake_of_the_client_is_counted_for_nobody(tmp_path: Path) -> None:
    async with scene(tmp_path, 100) as on:
        for engine in (on.canary, on.stable):
            fail(engine, 400)
        with pytest.raises(openai.BadRequestError):
            await on.ask()
        assert await on.outcomes() == {("canary", "refused"): 1, ("stable", "refused"): 1}
        on.canary.fail_with = on.stable.fail_with = None
        assert await on.ask() == "canary"
        assert (await on.counted(1))["canary"] == {"requests": 1, "failed": 0, "first_tokens": {}}


async def test_what_the_canary_may_not_have_is_never_its(tmp_path: Path) -> None:
    """The weight is a promise, also when the stable side has no engine."""
    async with scene(tmp_path, 0) as on:
        await on.stable.stop()
        with pytest.raises(openai.InternalServerError):
            await on.ask()
        assert not on.canary.bodies
        await on.stable.start()


async def test_a_stream_that_breaks_counts_against_its_side_and_first_tokens_are_timed(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, 100) as on:
        on.canary.die_after_tokens = 2
        with pytest.raises(openai.APIError):
            await on.ask(stream=True)
        on.canary.die_after_tokens = None
        await on.ask(stream=True)
        counts = (await on.counted(2))["canary"]
        assert (counts["requests"], counts["failed"], sum(counts["first_tokens"].values())) == (2, 1, 2)


async def test_who_leaves_before_a_first_token_has_waited_for_it(tmp_path: Path) -> None:
    async with scene(tmp_path, 100) as on:
        on.canary.token_seconds = 3.0
        asking = asyncio.create_task(on.ask(stream=True))
        async with asyncio.timeout(10):
            while not on.canary.bodies:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        counts = (await on.counted(1))["canary"]
        (step,) = map(int, counts["first_tokens"])
        assert counts["failed"] == 0
        assert 400 <= 2 ** (step / 4) <= 2000
        assert await on.outcomes() == {("canary", "left"): 1}


async def test_counts_are_told_until_control_hears_and_forgotten_with_the_trial(tmp_path: Path) -> None:
    async with scene(tmp_path, 100) as on:
        await on.front.control.stop()
        for _ in range(3):
            await on.ask()
        await asyncio.sleep(1.5)
        await on.front.control.start()
        assert (await on.counted(3))["canary"]["requests"] == 3
        await on.change(100, "2", trial="another")
        await on.ask()
        assert (await on.counted(1))["trial"] == "t"
        async with asyncio.timeout(10):
            while on.front.control.trials[-1]["trials"][0]["trial"] == "t":
                await asyncio.sleep(0.02)
        assert (await on.counted(1))["canary"]["requests"] == 1


async def test_without_a_canary_nothing_is_said_or_counted(tmp_path: Path) -> None:
    async with scene(tmp_path, 50) as on:
        on.front.control.table = table([("chat-0", on.stable.url)], "2")
        async with asyncio.timeout(10):
            while on.front.gateway.routes.index.version != "2":
                await asyncio.sleep(0.01)
        assert await on.ask() == "None"
        assert await on.outcomes() == {}
