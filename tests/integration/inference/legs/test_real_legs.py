"""With real engines: a KV cache goes from one to the other, and the answer is that of one engine."""

import asyncio
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from inference.adapters.engine import VllmEngines
from inference.gateway.engines import legs
from tests.fixtures.adapters import make_adapter
from tests.fixtures.gateway import OTHER_SECRET, TOKEN, Serving
from tests.fixtures.legs import LIMIT, STORY, Engines, chat, routes, text_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="NIXL is not installed"),
]


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


async def test_engines_that_hand_caches_over_do_not_all_compute_on_the_same_core(
    engines: Engines, front: Serving
) -> None:
    await chat(front, "cores ")
    for name in ("p0", "d0"):
        assert engines.cores(name) == os.sched_getaffinity(0)


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


async def test_an_adapter_answers_on_two_legs_as_on_one_engine(
    engines: Engines, front: Serving, tmp_path: Path
) -> None:
    make_adapter(tmp_path / "adapter")
    loading = VllmEngines(TOKEN)
    for name in ("p0", "d0"):
        await loading.load_adapter(engines.processes[name].url, "tuned", str(tmp_path / "adapter"))
    both = routes(engines, "p0", "d0")
    tuned = [
        route.model_copy(update={"model": model, "backend_model": "tuned"})
        for route, model in zip(both.routes, ("tuned", "tuned-mixed"), strict=True)
    ]
    await front.follow(both.model_copy(update={"version": "2", "routes": (*both.routes, *tuned)}))
    before = engines.fetched("d0")
    parted, alone, base = [await chat(front, "tuned ", model) for model in ("tuned", "tuned-mixed", "mixed")]
    assert parted.choices[0].message == alone.choices[0].message != base.choices[0].message
    async with asyncio.timeout(5):
        while engines.fetched("d0") == before:
            await asyncio.sleep(0.1)
    first, second, _ = await front.billed(3)
    assert first["quantities"] == second["quantities"]
    await engines.keep_nothing("p0", "d0")
    for name in ("p0", "d0"):
        await loading.unload_adapter(engines.processes[name].url, "tuned")
    await loading.close()


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
