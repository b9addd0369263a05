"""What every adapter of the port ``Engines`` does: the fake that unit tests trust, and real vLLM."""

import asyncio
import importlib.util
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from common.auth import engine_headers
from common.errors import EngineFailed, InvalidInput, Unavailable
from inference.adapters.engine import VllmEngines
from inference.engine_guard import ROUTES
from inference.ports import Engines, LoadedModel
from tests.fixtures.adapters import make_adapter
from tests.fixtures.engine import RealEngine
from tests.fixtures.engines import FakeEngines
from tests.fixtures.gateway import TOKEN
from tests.fixtures.ports import free_port

FT = "ft:tiny:acme:zoo:1"


@dataclass
class Subject:
    """An adapter of the port with an engine that is up; ``path`` makes a loadable adapter there."""

    engines: Engines
    url: str
    folder: Path

    def adapter(self, name: str = "a") -> str:
        path = self.folder / name
        if not path.exists():
            make_adapter(path)
        return str(path)

    async def adapters(self) -> dict[str, str]:
        models = await self.engines.loaded_models(self.url)
        return {model.name: model.path for model in models if model.base is not None}


@pytest.fixture(
    params=[
        "fake",
        pytest.param("vllm", marks=[pytest.mark.integration, pytest.mark.timeout(400)]),
    ]
)
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "fake":
        fake = FakeEngines()
        fake.start("http://fake")
        fake.refused.add(str(tmp_path / "gone"))
        yield Subject(fake, "http://fake", tmp_path)
        return
    url = request.getfixturevalue("real_engine").url
    engines = VllmEngines(TOKEN)
    made = Subject(engines, url, tmp_path)
    yield made
    for name in await made.adapters():
        await engines.unload_adapter(url, name)
    await engines.close()


async def test_the_base_model_is_listed_with_its_context(subject: Subject) -> None:
    (base,) = await subject.engines.loaded_models(subject.url)
    assert (base.name, base.base, base.context_tokens) == ("tiny", None, 2048)


async def test_an_adapter_is_listed_with_its_base_and_path_until_unloaded(subject: Subject) -> None:
    path = subject.adapter()
    await subject.engines.load_adapter(subject.url, FT, path)
    models = await subject.engines.loaded_models(subject.url)
    assert LoadedModel(FT, "tiny", path) in [
        LoadedModel(model.name, model.base, model.path) for model in models
    ]
    await subject.engines.unload_adapter(subject.url, FT)
    assert await subject.adapters() == {}


async def test_loading_again_replaces(subject: Subject) -> None:
    await subject.engines.load_adapter(subject.url, FT, subject.adapter("a"))
    await subject.engines.load_adapter(subject.url, FT, subject.adapter("a"))
    await subject.engines.load_adapter(subject.url, FT, subject.adapter("b"))
    assert await subject.adapters() == {FT: subject.adapter("b")}


async def test_an_adapter_that_is_not_there_is_refused_with_the_reason(subject: Subject) -> None:
    path = str(subject.folder / "gone")
    with pytest.raises(InvalidInput, match="gone"):
        await subject.engines.load_adapter(subject.url, FT, path)
    assert await subject.adapters() == {}


async def test_unloading_what_is_not_there_is_no_error_and_unloads_nothing(subject: Subject) -> None:
    path = subject.adapter()
    await subject.engines.load_adapter(subject.url, FT, path)
    await subject.engines.unload_adapter(subject.url, "ft:never")
    assert await subject.adapters() == {FT: path}


async def test_an_engine_tells_its_load(subject: Subject) -> None:
    load = await subject.engines.load(subject.url)
    assert (load.running, load.waiting) == (0, 0)
    assert 0.0 <= load.kv_cache_use <= 1.0
    bounds = [bound for bound, _ in load.first_token_buckets]
    counts = [count for _, count in load.first_token_buckets]
    assert bounds == sorted(bounds)
    assert bounds[-1] == float("inf")
    assert counts == sorted(counts)


async def test_an_engine_that_is_gone_is_unavailable(subject: Subject) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable):
        await subject.engines.loaded_models(url)
    with pytest.raises(Unavailable):
        await subject.engines.load_adapter(url, FT, "/a")
    with pytest.raises(Unavailable):
        await subject.engines.unload_adapter(url, FT)
    with pytest.raises(Unavailable):
        await subject.engines.load(url)


def routes_of_the_engine() -> list[tuple[str, str]]:
    """Method and path of every route that the installed engine's source declares."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "entrypoints"
    declared = re.compile(r"\.(get|post|put|delete|patch|api_route)\(\s*[\"'](/[^\"']*)[\"']")
    found = {
        ("GET" if method == "api_route" else method.upper(), re.sub(r"\{[^}]*\}", "x", path))
        for file in folder.rglob("*.py")
        for method, path in declared.findall(file.read_text())
    }
    return sorted(found)


@pytest.mark.integration
@pytest.mark.timeout(400)
@pytest.mark.parametrize("authorization", [None, "Bearer ck-alice", f"Bearer {TOKEN}"])
async def test_an_engine_answers_nobody_without_its_key(
    real_engine: RealEngine, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with httpx.AsyncClient(base_url=real_engine.url, headers=headers) as client:
        for path, method in ROUTES.items():
            expected = 200 if path == "/health" else 401
            assert (await client.request(method, path)).status_code == expected, path
    async with httpx.AsyncClient(base_url=real_engine.url, headers=engine_headers(TOKEN)) as client:
        assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.integration
@pytest.mark.timeout(400)
async def test_no_other_route_of_the_engine_is_open_even_with_the_key(real_engine: RealEngine) -> None:
    others = [route for route in routes_of_the_engine() if ROUTES.get(route[1]) != route[0]]
    assert {("POST", "/invocations"), ("POST", "/scale_elastic_ep")} <= set(others)
    async with httpx.AsyncClient(base_url=real_engine.url, headers=engine_headers(TOKEN)) as client:
        for method, path in [*others, ("POST", "/adapters"), ("DELETE", "/adapters/x")]:
            assert (await client.request(method, path, json={})).status_code == 404, (method, path)


@pytest.mark.integration
@pytest.mark.timeout(400)
async def test_an_engine_fetches_nothing_that_a_request_names(real_engine: RealEngine) -> None:
    fetched = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fetched.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x.png"
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": parts}], "max_tokens": 1}
    async with httpx.AsyncClient(base_url=real_engine.url, headers=engine_headers(TOKEN)) as client:
        assert (await client.post("/v1/chat/completions", json=body, timeout=30)).status_code == 400
    server.close()
    assert fetched == []


@pytest.mark.integration
@pytest.mark.timeout(400)
async def test_a_busy_engine_is_seen_to_be_busy(real_engine: RealEngine) -> None:
    engines = VllmEngines(TOKEN)
    before = await engines.load(real_engine.url)
    body = {"model": "tiny", "prompt": "a", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    headers = engine_headers(TOKEN)
    async with (
        httpx.AsyncClient(base_url=real_engine.url, headers=headers, timeout=60) as client,
        client.stream("POST", "/v1/completions", json=body) as answer,
    ):
        await anext(answer.aiter_lines())
        busy = await engines.load(real_engine.url)
    assert busy.running == 1
    assert busy.kv_cache_use > 0
    assert busy.first_token_buckets[-1][1] - before.first_token_buckets[-1][1] == 1
    await engines.close()


@pytest.mark.integration
@pytest.mark.timeout(400)
async def test_the_weights_of_an_adapter_are_read_when_it_is_loaded_and_not_for_each_token(
    real_engine: RealEngine, tmp_path: Path
) -> None:
    """Also of one that took the place of another."""
    engines, said = VllmEngines(TOKEN), []
    body = {"model": FT, "prompt": "Tell me a story", "max_tokens": 16, "temperature": 0}
    headers = engine_headers(TOKEN)
    async with httpx.AsyncClient(base_url=real_engine.url, headers=headers, timeout=60) as client:
        for seed in (1, 2):
            make_adapter(tmp_path / f"{seed}", seed)
            await engines.load_adapter(real_engine.url, FT, str(tmp_path / f"{seed}"))
            for salt in ("before", "after"):
                answer = await client.post("/v1/completions", json={**body, "cache_salt": salt})
                said.append(answer.json()["choices"][0]["text"])
                shutil.rmtree(tmp_path / f"{seed}")
                make_adapter(tmp_path / f"{seed}", 3)
    assert said[0] == said[1] != said[2] == said[3]
    await engines.unload_adapter(real_engine.url, FT)
    await engines.close()


@pytest.mark.integration
@pytest.mark.timeout(400)
async def test_an_adapter_call_that_is_refused_is_no_bad_input(real_engine: RealEngine) -> None:
    stranger = VllmEngines("another token")
    with pytest.raises(EngineFailed, match="401"):
        await stranger.load_adapter(real_engine.url, FT, "/a")
    await stranger.close()
