"""Two legs: what one engine read another one answers, and no fault of the first is the client's."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from common.resources.scaling import EngineRole
from common.wire import RoutingTable
from inference.gateway.metrics import LEGS
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MESSAGES: Any = [{"role": "user", "content": "one two three four"}]
PROMPT_TOKENS = 4
ANSWER_BYTES = 700
"""More than the answer of either leg, less than both."""


@dataclass
class Scene:
    """A gateway with prefill engines ``p0``…, decode engines ``d0``… and engines for both ``m0``…"""

    front: Serving
    engines: dict[str, FakeEngine] = field(default_factory=dict)

    def __getattr__(self, name: str) -> FakeEngine:
        return self.engines[name]

    async def nothing_is_kept(self) -> None:
        """No prefill engine keeps a cache, soon."""
        async with asyncio.timeout(5):
            while any(engine.kept for engine in self.engines.values()):
                await asyncio.sleep(0.01)

    async def chat(self, **options: Any) -> Any:
        options = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, **options}
        return await self.front.client().chat.completions.create(**options)


def role_of(name: str) -> EngineRole:
    roles: dict[str, EngineRole] = {"p": "prefill", "d": "decode", "m": ""}
    return roles[name[0]]


def routes(engines: dict[str, FakeEngine], min_prompt_tokens: int = 0) -> RoutingTable:
    made = table([(name, engine.url, role_of(name)) for name, engine in engines.items()])
    [route] = made.routes
    replicas = tuple(r.model_copy(update={"min_prompt_tokens": min_prompt_tokens}) for r in route.replicas)
    return made.model_copy(update={"routes": (route.model_copy(update={"replicas": replicas}),)})


@asynccontextmanager
async def scene(home: Path, *names: str, min_prompt_tokens: int = 0, **settings: Any) -> AsyncIterator[Scene]:
    started = [FakeEngine() for _ in names]
    for engine in started:
        await engine.start()
        engine.peers = [peer for peer in started if peer is not engine]
    # Of two that have as much to do, the one whose URL comes first is asked first.
    engines = dict(zip(names, sorted(started, key=lambda engine: engine.url), strict=True))
    try:
        async with serving(home, routes(engines, min_prompt_tokens), **settings) as front:
            yield Scene(front, engines)
    finally:
        for engine in engines.values():
            await engine.stop()


async def test_one_engine_reads_and_another_answers_under_one_id(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        on.p0.cached, on.d0.cached = 3, 4  # the decode engine has all of it: it was handed over
        for stream in (False, True):
            options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
            answer = await on.chat(logprobs=True, top_logprobs=2, **options)
            if stream:
                answer = [chunk async for chunk in answer][-1]
            told = answer.usage
            assert (told.prompt_tokens, told.completion_tokens) == (PROMPT_TOKENS, 5)
            assert told.prompt_tokens_details.cached_tokens == 3
        events = await on.front.billed(2)
        await on.nothing_is_kept()
        for position, event in enumerate(events):
            read, answered = on.p0.bodies[position], on.d0.bodies[position]
            assert on.p0.headers[position]["x-request-id"] == on.d0.headers[position]["x-request-id"]
            assert read["max_tokens"] == 1
            assert not read["stream"]
            assert not {"stream_options", "logprobs", "top_logprobs"} & set(read)
            assert answered["max_tokens"] == 5
            assert answered["cache_salt"] == read["cache_salt"] == "acme"
            assert answered["kv_transfer_params"]["remote_request_id"] in on.d0.fetched
            assert event["quantities"] == {
                "prompt_tokens": PROMPT_TOKENS,
                "cached_tokens": 3,
                "completion_tokens": 5,
            }
            assert (event["outcome"], event["resource"]) == ("completed", "d0")


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"extra_body": {"prompt_logprobs": 1}},
        {"extra_body": {"echo": True}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:,x"}]}]},
    ],
    ids=["choices", "prompt-logprobs", "echo", "media"],
)
async def test_what_cannot_be_parted_goes_to_one_decode_engine(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        await on.chat(**options)
        assert (len(on.p0.bodies), len(on.d0.bodies)) == (0, 1)
        assert "kv_transfer_params" not in on.d0.bodies[0]


async def test_several_prompts_and_short_ones_skip_the_first_leg(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0", min_prompt_tokens=100) as on:
        client = on.front.client()
        await client.completions.create(model="tiny", prompt="short")
        await client.completions.create(model="tiny", prompt=["word " * 200] * 2)
        assert not on.p0.bodies
        await client.completions.create(model="tiny", prompt="word " * 200)
        assert (len(on.p0.bodies), len(on.d0.bodies)) == (1, 3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["dead", "dies", "refuses", "full", "keeps nothing", "hangs"])
async def test_a_prompt_that_is_not_read_is_read_by_the_decode_engine(
    tmp_path: Path, fault: str, stream: bool
) -> None:
    async with scene(tmp_path, "p0", "d0", prefill_timeout_seconds=0.3) as on:
        if fault == "dead":
            await on.p0.stop()
        elif fault == "dies":
            on.p0.die_after_tokens = 0
        elif fault == "refuses":
            on.p0.fail_with = (400, {"error": {"message": "no"}})
        elif fault == "full":
            on.p0.fail_with = (503, {"error": {"message": "full"}})
        elif fault == "keeps nothing":
            on.p0.fail_with = (200, {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 1}})
        else:
            on.p0.token_seconds = 30.0
        answer = await on.chat(stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
        [event] = await on.front.billed()
        assert event["quantities"]["completion_tokens"] == 5
        assert event["quantities"]["cached_tokens"] == 1, "as the decode engine tells: it read the prompt"
        assert "kv_transfer_params" not in on.d0.bodies[0]


async def test_another_prefill_engine_reads_what_one_could_not(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "p1", "d0") as on:
        on.p0.die_after_tokens = 0
        await on.chat()
        assert on.d0.fetched
        assert not on.p1.kept
        [event] = await on.front.billed()
        assert event["quantities"]["prompt_tokens"] == PROMPT_TOKENS, "once, though two engines were asked"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["dead", "dies", "full"])
async def test_a_cache_is_given_to_one_decode_engine_only(tmp_path: Path, fault: str, stream: bool) -> None:
    async with scene(tmp_path, "p0", "d0", "d1") as on:
        if fault == "dead":
            await on.d0.stop()
        elif fault == "dies":
            on.d0.script = [None]
        else:
            on.d0.fail_with = (503, {"error": {"message": "full"}})
        answer = await on.chat(stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
        assert "kv_transfer_params" not in on.d1.bodies[0]
        await on.nothing_is_kept()
        assert len(on.d1.refused_caches) == 1
        [event] = await on.front.billed()
        assert event["quantities"] == {
            "prompt_tokens": PROMPT_TOKENS,
            "cached_tokens": 1,
            "completion_tokens": 5,
        }


@pytest.mark.parametrize("other", ["m0", "p0"])
async def test_a_cache_is_given_up_when_no_other_decode_engine_is_there(tmp_path: Path, other: str) -> None:
    async with scene(tmp_path, *dict.fromkeys(("p0", "d0", other))) as on:
        on.d0.script = [None]
        await on.chat()
        assert on.engines[other].bodies[-1]["max_tokens"] == 5
        await on.nothing_is_kept()


async def test_what_a_prefill_engine_answers_takes_no_room_from_answers(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0", answer_bytes_per_tenant=ANSWER_BYTES) as on:
        for _ in range(3):
            assert (await on.chat()).usage.completion_tokens == 5
        assert len(on.d0.fetched) == 3


async def test_a_table_that_is_replaced_is_not_kept(tmp_path: Path) -> None:
    """It is as large as the pool, and there is a new one whenever a key is made."""
    async with scene(tmp_path, "p0", "d0") as on:
        for version in ("2", "3", "4"):
            await on.chat()
            gone = weakref.ref(on.front.gateway.routes.index.routes[0])
            on.front.control.table = routes(on.engines).model_copy(update={"version": version})
            async with asyncio.timeout(5):
                while on.front.gateway.routes.index.version != version:
                    await asyncio.sleep(0.01)
            await on.chat()
            gc.collect()
            assert gone() is None


async def test_prefill_engines_answer_while_no_decode_engine_lives(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        await on.d0.stop()
        for _ in range(4):
            answer = await on.chat()
            assert answer.usage.completion_tokens == 5
        assert on.p0.bodies[-1]["max_tokens"] == 5
    async with scene(tmp_path / "other", "p0") as on:
        await on.chat()
        assert [body["max_tokens"] for body in on.p0.bodies] == [5], "there is nobody to hand a cache to"


async def test_engines_of_the_former_mode_answer_beside_the_new_ones(tmp_path: Path) -> None:
    async with scene(tmp_path, "m0", "p0") as on:
        await on.chat()
        assert (len(on.m0.bodies), len(on.p0.bodies)) == (1, 0)


async def test_no_engine_at_all_is_told_as_ever(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        await on.p0.stop()
        await on.d0.stop()
        with pytest.raises(openai.InternalServerError) as refused:
            await on.chat()
        assert refused.value.status_code == 503


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_while_its_prompt_is_read_stops_the_reading(
    tmp_path: Path, stream: bool
) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        on.p0.token_seconds = 0.5
        with pytest.raises(openai.APITimeoutError):
            await on.front.client(timeout=0.2).chat.completions.create(
                model="tiny", messages=MESSAGES, stream=stream
            )
        async with asyncio.timeout(5):
            while not on.p0.aborted:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.6)
        assert not on.p0.kept
        assert not on.d0.bodies
        assert not on.front.control.events


async def test_a_client_that_leaves_between_the_legs_leaves_no_cache_behind(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        on.p0.token_seconds, on.p0.abort_works = 0.5, False  # its abort comes too late
        with pytest.raises(openai.APITimeoutError):
            await on.front.client(timeout=0.2).chat.completions.create(model="tiny", messages=MESSAGES)
        async with asyncio.timeout(5):
            while not on.d0.refused_caches:
                await asyncio.sleep(0.01)
        await on.nothing_is_kept()
        assert not on.d0.fetched
        assert not on.front.control.events


async def test_a_client_that_leaves_while_it_is_answered_stops_the_answer(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        on.d0.token_seconds = 0.02
        stream = await on.chat(stream=True, max_tokens=500)
        await anext(stream)
        await stream.close()
        [event] = await on.front.billed()
        assert event["outcome"] == "cancelled"
        assert 0 < event["quantities"]["completion_tokens"] < 500
        assert on.d0.aborted


async def test_a_request_that_breaks_engines_is_not_tried_on_all_of_them(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "p1", "p2", "d0", "d1") as on:
        for engine in on.engines.values():
            engine.die_after_tokens = 0
        with pytest.raises(openai.InternalServerError):
            await on.chat()
        assert sum(len(engine.bodies) for engine in on.engines.values()) == 3


async def test_it_is_told_how_prompts_were_read(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        before = LEGS.labels("tiny", "handed_over")._value.get()
        await on.chat()
        assert LEGS.labels("tiny", "handed_over")._value.get() == before + 1
