"""With real engines: a KV cache goes from one to the other, the answer is that of one engine, and none of the
faults between them is the client's."""

import asyncio
import importlib.util
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.vendors import VENDORS
from common.wire import Route
from inference.core.body import engine_body
from inference.core.two_legs import told_cache
from inference.gateway import legs
from tests.fixtures.engine import OPTIONS, EngineProcess, RealEngine, engine_process
from tests.fixtures.gateway import OTHER_SECRET, Serving, serving, table

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="NIXL is not installed"),
]

STORY = "The quick fox tells a long story about a small town near the river. " * 16
LIMIT = 12
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


class Engines:
    """One that reads and two that answer; tests that kill some come last."""

    def __init__(self, processes: dict[str, EngineProcess]) -> None:
        self.processes = processes

    def of(self, name: str) -> RealEngine:
        return RealEngine(self.processes[name].url)

    def fetched(self, name: str) -> int:
        """Tokens of prompts whose KV cache came from another engine."""
        return self.of(name).counter("prompt_tokens_by_source", 'source="external_kv_transfer"')

    async def keep_nothing(self, *names: str) -> None:
        """All blocks of their caches are free, long before a lease ends."""
        async with asyncio.timeout(10):
            for name in names:
                while self.of(name).metric("kv_cache_usage_perc"):
                    await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    options = replace(
        OPTIONS,
        kv_connector=VENDORS["cpu"].kv_connector or "",
        env={"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        args=("--distributed-executor-backend", "uni", *TOOLS),
    )
    with ExitStack() as stack:
        names = ("p0", "d0", "d1")
        started = {name: stack.enter_context(engine_process(options)) for name in names}
        for process in started.values():
            process.wait_until_ready()
        yield Engines(started)


def routes(engines: Engines, *names: str) -> Any:
    """``tiny`` in two legs on engines of these names, and ``mixed`` on the last of them alone."""
    roles: Any = {"p": "prefill", "d": "decode"}
    urls = {name: engines.processes[name].url for name in names}
    made = table([(name, url, roles[name[0]]) for name, url in urls.items()], shared=True)
    [alone] = table([("alone", urls[names[-1]])], model="mixed", shared=True).routes
    alone = alone.model_copy(update={"backend_model": "tiny"})
    both: tuple[Route, ...] = (*made.routes, alone)
    return made.model_copy(update={"routes": both})


@pytest.fixture
async def front(engines: Engines, tmp_path: Path, request: Any) -> AsyncIterator[Serving]:
    names = getattr(request, "param", ("p0", "d0"))
    # All engines and the gateway work on the same cores here.
    async with serving(tmp_path, routes(engines, *names), connect_timeout_seconds=30.0) as front:
        yield front


async def chat(front: Serving, text: str, model: str = "tiny", **options: Any) -> Any:
    """Greedy; as another tenant for ``mixed``, whose cache is another one."""
    client = front.client(**({"secret": OTHER_SECRET} if model == "mixed" else {}))
    return await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text + STORY}],
        **{"max_tokens": LIMIT, "temperature": 0, **options},
    )


async def text_of(answer: Any, stream: bool) -> str:
    if not stream:
        choice = answer.choices[0]
        return str(choice.text if hasattr(choice, "text") else choice.message.content)
    parts = []
    async for chunk in answer:
        for choice in chunk.choices:
            parts.append(choice.text if hasattr(choice, "text") else choice.delta.content)
    return "".join(part or "" for part in parts)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("task", ["chat", "completions"])
async def test_a_cache_goes_from_one_engine_to_the_other_and_the_answer_is_the_same(
    engines: Engines, front: Serving, task: str, stream: bool
) -> None:
    start = f"{task} {stream} "
    texts, before, read = {}, engines.fetched("d0"), engines.of("p0").counter("prompt_tokens")
    for model in ("tiny", "mixed"):
        if task == "chat":
            answer = await chat(front, start, model, stream=stream)
        else:
            client = front.client(**({"secret": OTHER_SECRET} if model == "mixed" else {}))
            answer = await client.completions.create(
                model=model, prompt=start + STORY, max_tokens=LIMIT, temperature=0, stream=stream
            )
        texts[model] = await text_of(answer, stream)
    assert texts["tiny"] == texts["mixed"] != ""
    parted, alone = await front.billed(2)
    assert parted["quantities"] == alone["quantities"], "nothing cached, the prompt once, the answer once"
    prompt = parted["quantities"]["prompt_tokens"]
    assert prompt > 300
    async with asyncio.timeout(5):
        while engines.fetched("d0") < before + prompt - 1:
            await asyncio.sleep(0.1)
    assert engines.of("p0").counter("prompt_tokens") == read + prompt
    await engines.keep_nothing("p0", "d0")


async def test_what_the_reading_engine_had_cached_is_on_the_bill_and_in_the_answer(
    engines: Engines, front: Serving
) -> None:
    answers = [await chat(front, "once more "), await chat(front, "once more ")]
    first, second = await front.billed(2)
    assert "cached_tokens" not in first["quantities"], "what was handed over was read, and is no cached token"
    assert 0 < second["quantities"]["cached_tokens"] < second["quantities"]["prompt_tokens"]
    told = [answer.usage.prompt_tokens_details.cached_tokens for answer in answers]
    assert told == [0, second["quantities"]["cached_tokens"]]
    await engines.keep_nothing("p0", "d0")


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


@pytest.mark.parametrize(
    "options",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}},
    ],
    ids=["structured", "tool"],
)
async def test_options_of_the_answer_hold_on_two_legs(
    engines: Engines, front: Serving, options: dict[str, Any]
) -> None:
    before = engines.fetched("d0")
    both = [await chat(front, f"{sorted(options)} ", model, **options) for model in ("tiny", "mixed")]
    [parted], [alone] = (answer.choices for answer in both)
    for choice in (parted, alone):
        for call in choice.message.tool_calls or ():
            call.id = "x"
    assert parted.message == alone.message
    async with asyncio.timeout(5):
        while engines.fetched("d0") == before:
            await asyncio.sleep(0.1)
    await engines.keep_nothing("p0", "d0")


async def test_several_choices_are_made_by_one_engine(engines: Engines, front: Serving) -> None:
    before = engines.of("p0").counter("prompt_tokens")
    answer = await chat(front, "choices ", n=2, temperature=1.0)
    assert len(answer.choices) == 2
    assert engines.of("p0").counter("prompt_tokens") == before


async def test_a_client_that_leaves_between_the_legs_leaves_no_blocks_behind(
    engines: Engines, front: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_leg, read = legs.Legs._first_leg, asyncio.Event()

    async def and_wait(self: legs.Legs, job: Any, readers: Any, watch: Any, begin: Any) -> Any:
        cache = await first_leg(self, job, readers, watch, begin)
        assert cache is not None
        assert engines.of("p0").metric("kv_cache_usage_perc") > 0, "it is kept for the second leg"
        read.set()
        while not watch.gone:
            await asyncio.sleep(0.01)
        return cache

    monkeypatch.setattr(legs.Legs, "_first_leg", and_wait)
    leaving = asyncio.create_task(chat(front, "leaving "))
    await read.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await engines.keep_nothing("p0", "d0")
    assert not front.control.events


@pytest.mark.parametrize("front", [("p0", "d0", "d1")], indirect=True)
async def test_a_decode_engine_that_is_killed_before_its_first_byte_is_replaced(
    engines: Engines, front: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await chat(front, "killed ", "mixed")
    hand_over, killed = legs.Legs._hand_over, []

    def and_stop(self: legs.Legs, cache: Any, replica: Any, sides: Any) -> Any:
        place = hand_over(self, cache, replica, sides)
        if place is not None:
            killed.append(replica.id)
            engines.processes[replica.id].signal(signal.SIGSTOP)
            asyncio.get_running_loop().call_later(0.3, engines.processes[replica.id].kill)
        return place

    monkeypatch.setattr(legs.Legs, "_hand_over", and_stop)
    parted = await chat(front, "killed ")
    assert parted.choices[0].message == alone.choices[0].message
    [other, event] = await front.billed(2)
    assert event["quantities"] == other["quantities"]
    assert {event["resource"], *killed} == {"d0", "d1"}
    if killed == ["d1"]:  # the one that lives is d1 from now on
        both = engines.processes
        both["d0"], both["d1"] = both["d1"], both["d0"]
    await engines.keep_nothing("p0", "d1")


@pytest.mark.parametrize("front", [("p0", "d1")], indirect=True)
async def test_a_transfer_that_fails_is_made_up_for(front: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(answer: bytes | None) -> dict[str, Any] | None:
        place = told_cache(answer)
        assert place is not None
        return {**place, "remote_engine_id": "00000000", "remote_port": 1}

    monkeypatch.setattr(legs, "told_cache", elsewhere)
    parted, alone = await chat(front, "nowhere "), await chat(front, "nowhere ", "mixed")
    assert parted.choices[0].message == alone.choices[0].message
    events = await front.billed(2)
    assert [event["outcome"] for event in events] == ["completed", "completed"]
    assert events[0]["quantities"]["completion_tokens"] == events[1]["quantities"]["completion_tokens"]


@pytest.mark.parametrize("front", [("p0", "d1")], indirect=True)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_prefill_engine_may_die_after_it_has_answered_or_before(
    engines: Engines, front: Serving, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """The first time the engine dies with the cache that it keeps; the second time it is dead."""

    def killing(request: Any, model: str, salt: str, place: Any = None) -> bytes:
        if place is not None:
            engines.processes["p0"].kill()
        return engine_body(request, model, salt, place)

    monkeypatch.setattr(legs, "engine_body", killing)
    parted = await text_of(await chat(front, f"dying {stream} ", stream=stream), stream)
    alone = await text_of(await chat(front, f"dying {stream} ", "mixed", stream=stream), stream)
    assert parted == alone
    first, second = await front.billed(2)
    assert first["quantities"] == second["quantities"]
    await engines.keep_nothing("d1")
