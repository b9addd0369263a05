"""What engines are asked over HTTP, and what their answers mean."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from common.auth import engine_key
from common.errors import EngineFailed, InvalidInput, Unavailable
from inference.adapters.engine import VllmEngines
from inference.ports import LoadedModel

URL = "http://r0"
Answers = Callable[[httpx.Request], httpx.Response]


class Hub:
    """Engines whose answers the test gives; ``asked`` are the requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[httpx.Request] = []
        self.answer: httpx.Response | Exception = httpx.Response(200)
        self.answers: list[httpx.Response] = []
        """These before it."""
        made = httpx.AsyncClient
        transport = httpx.MockTransport(self._answer)
        monkeypatch.setattr(httpx, "AsyncClient", lambda **options: made(**options, transport=transport))
        self.engines = VllmEngines("token", timeout_seconds=5.0, load_timeout_seconds=120.0)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.answers:
            return self.answers.pop(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def last(self) -> tuple[str, str, Any]:
        """Method, path and JSON of the last request."""
        request = self.asked[-1]
        return request.method, request.url.path, json.loads(request.content) if request.content else None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


async def test_an_engine_tells_its_model_and_adapters(hub: Hub) -> None:
    base = {"id": "tiny", "root": "/m/tiny", "max_model_len": 2048, "parent": None}
    hub.answer = httpx.Response(200, json={"data": [base, {"id": "ft", "parent": "tiny", "root": "/a/1"}]})
    assert await hub.engines.loaded_models(URL) == [
        LoadedModel("tiny", None, "/m/tiny", 2048),
        LoadedModel("ft", "tiny", "/a/1", None),
    ]
    assert hub.last == ("GET", "/v1/models", None)
    assert hub.asked[0].headers["authorization"] == f"Bearer {engine_key('token')}"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"data": 7}', b'{"data": [{"root": "x"}]}'])
async def test_an_engine_that_lists_nonsense_is_named(hub: Hub, content: bytes) -> None:
    hub.answer = httpx.Response(200, content=content)
    with pytest.raises(EngineFailed, match="the engine at http://r0 lists its models in an unknown form"):
        await hub.engines.loaded_models(URL)


async def test_an_adapter_is_loaded_and_given_the_time_that_weights_take(hub: Hub) -> None:
    await hub.engines.load_adapter(URL, "ft", "/a/1")
    assert hub.last == ("POST", "/v1/load_lora_adapter", {"lora_name": "ft", "lora_path": "/a/1"})
    assert hub.asked[0].extensions["timeout"]["read"] == 120.0
    await hub.engines.unload_adapter(URL, "ft")
    assert hub.last == ("POST", "/v1/unload_lora_adapter", {"lora_name": "ft"})
    assert hub.asked[1].extensions["timeout"]["read"] == 5.0


@pytest.mark.parametrize("good", [True, False])
async def test_an_adapter_takes_the_place_of_another_once_it_is_known_to_be_loadable(
    hub: Hub, good: bool
) -> None:
    """What was loaded in place would be read again for every step of every request."""
    loaded = {"error": {"message": "The lora adapter 'ft' has already been loaded. If you want to load"}}
    broken = {"error": {"message": "rank 64 is over 16"}}
    answers = [(400, loaded), (200, {}), (200, {}), (200, {})] if good else [(400, loaded), (400, broken)]
    hub.answers = [httpx.Response(status, json=content) for status, content in answers]
    if good:
        await hub.engines.load_adapter(URL, "ft", "/a/2")
    else:
        with pytest.raises(InvalidInput, match="rank 64 is over 16"):
            await hub.engines.load_adapter(URL, "ft", "/a/2")
    plain = {"lora_name": "ft", "lora_path": "/a/2"}
    steps = [
        ("/v1/load_lora_adapter", plain),
        ("/v1/load_lora_adapter", {**plain, "load_inplace": True}),
        ("/v1/unload_lora_adapter", {"lora_name": "ft"}),
        ("/v1/load_lora_adapter", plain),
    ]
    assert [(one.url.path, json.loads(one.content)) for one in hub.asked] == steps[: len(answers)]


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_an_adapter_that_an_engine_refuses_says_why(hub: Hub, status: int) -> None:
    hub.answer = httpx.Response(status, json={"error": {"message": "rank 64 is over 16"}})
    with pytest.raises(InvalidInput, match="refused adapter ft at /a/1: rank 64 is over 16") as refused:
        await hub.engines.load_adapter(URL, "ft", "/a/1")
    assert refused.value.param == "path"


@pytest.mark.parametrize(
    ("content", "told"), [(b"<html>" + b"x" * 900, "<html>x"), (b"[1]", "[1]"), (b'{"error": "no"}', "no")]
)
async def test_an_engine_that_breaks_is_told_with_what_it_said(hub: Hub, content: bytes, told: str) -> None:
    hub.answer = httpx.Response(500, content=content)
    with pytest.raises(EngineFailed, match="the engine answered 500 to POST") as failed:
        await hub.engines.load_adapter(URL, "ft", "/a/1")
    assert told in failed.value.message
    assert len(failed.value.message) < 700


async def test_an_adapter_that_is_gone_already_is_unloaded(hub: Hub) -> None:
    hub.answer = httpx.Response(404, json={"error": {"message": "no such adapter"}})
    await hub.engines.unload_adapter(URL, "ft")
    hub.answer = httpx.Response(404, json={"detail": "Not Found"})
    with pytest.raises(EngineFailed):  # an engine that cannot unload at all
        await hub.engines.unload_adapter(URL, "ft")
    hub.answer = httpx.Response(409, json={"error": {"message": "busy"}})
    with pytest.raises(EngineFailed, match="answered 409"):
        await hub.engines.unload_adapter(URL, "ft")


@pytest.mark.parametrize("status", [300, 404, 503])
async def test_only_success_is_success(hub: Hub, status: int) -> None:
    hub.answer = httpx.Response(status)
    for asked in (hub.engines.loaded_models, hub.engines.load):
        with pytest.raises(EngineFailed):
            await asked(URL)


async def test_an_engine_that_does_not_answer_is_unavailable(hub: Hub) -> None:
    hub.answer = httpx.ConnectError("refused")
    with pytest.raises(Unavailable, match="did not answer GET http://r0/v1/models"):
        await hub.engines.loaded_models(URL)


async def test_load_without_statistics_names_the_engine(hub: Hub) -> None:
    hub.answer = httpx.Response(200, text="# nothing\n")
    with pytest.raises(EngineFailed, match="http://r0 tells no load: vllm:num_requests_running"):
        await hub.engines.load(URL)
    await hub.engines.close()
