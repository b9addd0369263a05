"""What control asks engines and reads of files about them, in drawn worlds, is what was approved."""

import json
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from common.errors import ComputilityError, InvalidInput
from inference import measurements, model_config, model_files
from inference.adapters.engine import VllmEngines
from inference.adapters.engine_metrics import read_load
from inference.measurements import read_measurements
from inference.model_config import find_config
from tests.unit.inference.approved.accidents import each_changed
from tests.unit.inference.drawn.worlds import Worlds, check_worlds

Patch = pytest.MonkeyPatch
URL = "http://e:9000"
CARDS: tuple[Any, ...] = (
    {"id": "tiny", "root": "/m", "max_model_len": 64},
    {"id": "a", "parent": "tiny", "root": "/1"},
    {"id": 7, "root": None},
    {"root": "/x"},
    "odd",
)
PAGE = (
    'vllm:num_requests_running{engine="0"} 3.0',
    'vllm:num_requests_running{engine="1"} 2.6',
    'vllm:num_requests_waiting{engine="0"} 1.0',
    'vllm:kv_cache_usage_perc{engine="0"} 0.25',
    'vllm:kv_cache_usage_perc{engine="1"} 0.5',
    'vllm:time_to_first_token_seconds_bucket{le="0.5"} 2.0',
    'vllm:time_to_first_token_seconds_bucket{le="0.1"} 1.0',
    'vllm:time_to_first_token_seconds_bucket{le="+Inf"} 4.0',
    'vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1"} 5.0',
    'vllm:request_success_total{finished_reason="stop"} 8.0',
    'vllm:request_success_total{finished_reason="length"} 1.0',
    "vllm:other 5.0",
    "vllm:num_requests_running{",
)


def _page(rng: random.Random) -> str:
    whole = [PAGE[0], PAGE[2], PAGE[3]] if rng.random() < 0.7 else []
    more = rng.sample(PAGE[:-1] if rng.random() < 0.9 else PAGE, rng.randrange(8))
    return "\n".join(dict.fromkeys(whole + more))


async def _engines(rng: random.Random, _: Patch, __: Path) -> str:
    """What an engine is asked, with which patience, and what is made of its answers."""
    lines: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        timeout = request.extensions["timeout"]
        told = {name: one for name, one in sorted(request.headers.items()) if name != "user-agent"}
        lines.append(f"{request.method} {request.url} {told} {request.content!r} {timeout}")
        if rng.random() < 0.1:
            raise rng.choice((httpx.ConnectError("refused"), httpx.ReadTimeout("late")))
        cards = [rng.choice((*CARDS[:3] * 3, *CARDS)) for _ in range(rng.randrange(3))]
        contents: tuple[Any, ...] = (
            {"data": cards},
            {"data": cards},
            {"error": {"message": "no such adapter"}},
            {"error": {}},
            {"error": "words"},
            {"detail": "not found"},
            [],
        )
        text = rng.choice((json.dumps(rng.choice(contents)), _page(rng), "x" * 600))
        return httpx.Response(rng.choice((200,) * 8 + (201, 299, 300, 400, 404, 404, 422, 500)), text=text)

    engines = VllmEngines("internal", rng.choice((3.0, 5.0)), rng.choice((60.0, 120.0)))
    engines._client._transport = httpx.MockTransport(answer)
    for _number in range(40):
        acts: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: engines.loaded_models(URL),
            lambda: engines.load_adapter(URL, "a", "/1"),
            lambda: engines.unload_adapter(URL, "a"),
            lambda: engines.load(URL),
        )
        try:
            lines.append(str(await rng.choice(acts)()))
        except ComputilityError as error:
            lines.append(f"{type(error).__name__} {error.param}: {error.message}")
    await engines.close()
    return "\n".join([*lines, str(engines._client.is_closed)])


async def _pages(rng: random.Random, _: Patch, __: Path) -> str:
    """The load that a page tells."""
    try:
        return str(read_load(_page(rng)))
    except ValueError as error:
        return str(error)


ROW = {
    "model": "p/m",
    "deviceClass": "nvidia/H100",
    "tensorParallel": 2,
    "pipelineParallel": 1,
    "batch": 8,
    "promptTokens": 100,
    "outputTokens": 10,
    "ttftMilliseconds": 50,
    "interTokenMilliseconds": 5.5,
    "by": "bench",
}


async def _measurements(rng: random.Random, patch: Patch, home: Path) -> str:
    """Rows with every mistake, and files that are none."""
    patch.setattr(measurements, "MAX_ROWS", 3)
    measurements._read.cache_clear()
    path, lines = home / "measured.yaml", list[str]()
    changed = list(each_changed(ROW))
    for _number in range(8):
        rows: Any = [rng.choice((ROW, rng.choice(changed))) for _ in range(rng.randrange(5))]
        content = yaml.safe_dump(rng.choice((rows, rows, rows, {"a": 1}, None)))
        path.write_text(rng.choice((content,) * 8 + ("[", "\x00")))
        os.utime(path, (1e9, 1e9 + _number))
        try:
            found = read_measurements(path)
            lines.append(f"{found} {read_measurements(path) is found}")
        except InvalidInput as error:
            lines.append(f"{error.param}: {error}")
    path.unlink()
    with pytest.raises(InvalidInput, match="measured"):
        read_measurements(path)
    return "\n".join(lines)


async def _configs(rng: random.Random, patch: Patch, home: Path) -> str:
    """Where a Model's config is looked for, and what is said of one that is none."""
    patch.setattr(model_config, "MAX_BYTES", 40)
    patch.setattr(model_files, "at_home", lambda path: home / "cache")
    known = home / "known.json" if rng.random() < 0.3 else None
    patch.setattr(model_config, "known_config_file", lambda source: known)
    (home / "known.json").write_text('{"known": 1}')
    texts = ('{"a": 1}', "{", "[]", '{"a": "' + "x" * 32 + '"}', '{"a": "' + "x" * 31 + '"}')
    for number in range(rng.choice((0, 1, 2))):
        folder = home / "cache" / "models--org--name" / "snapshots" / f"s{number}"
        folder.mkdir(parents=True)
        if rng.random() < 0.8:
            (folder / "config.json").write_text(json.dumps({"s": number}))
            os.utime(folder / "config.json", (1e9 + rng.choice((-5, 5, number)),) * 2)
    own, other = home / "models" / "p" / "m", home / "models" / "q"
    for folder in (own, other):
        folder.mkdir(parents=True)
    (other / "config.json").write_text('{"q": 1}')
    kind = rng.random()
    if kind < 0.6:
        (own / "config.json").write_text(rng.choice(texts))
    elif kind < 0.8:
        (own / "config.json").symlink_to(other / "config.json")
    source = rng.choice(("$(HOME_DIR)/models/p/m", "$(HOME_DIR)/models/p/m", "org/name", "org/none"))
    try:
        return str(find_config(source, home, rng.choice(("p", "q", None))))
    except InvalidInput as error:
        return f"{error.param}: {error}"


WORLDS: Worlds = {
    "engines": (_engines, 8, 1),
    "pages": (_pages, 300, 4),
    "measurements": (_measurements, 30, 1),
    "configs": (_configs, 120, 4),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_the_side_of_engines_is_as_approved(name: str, tmp_path: Path) -> None:
    await check_worlds(Path(__file__), name, WORLDS, tmp_path)
