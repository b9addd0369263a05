"""The OpenAI-shaped paths behind control's keys, limits and errors."""

import json

import pytest

from tests.integration.control.conftest import World

pytestmark = pytest.mark.integration
LINE = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
DATASET = (json.dumps(LINE) + "\n").encode() * 10


async def upload(world: World, key: str, content: bytes = DATASET, repeat: str = "") -> tuple[int, str]:
    answer = await world.request(
        key,
        "POST",
        "/v1/files",
        files={"file": ("chat.jsonl", content)},
        data={"purpose": "fine-tune"},
        headers={"Idempotency-Key": repeat} if repeat else {},
    )
    body = answer.json()
    return answer.status_code, body.get("id") or body["error"]["code"]


async def test_a_file_exists_only_for_its_project(world: World) -> None:
    status, id_ = await upload(world, "search-member")
    assert status == 200
    assert (await world.request("search-member", "GET", f"/v1/files/{id_}")).status_code == 200
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        hidden = await world.request("lab-member", method, f"/v1/files/{id_}{path}")
        assert (hidden.status_code, hidden.json()["error"]["type"]) == (404, "not_found_error")
    assert (await world.request("lab-member", "GET", "/v1/files")).json()["data"] == []


async def test_an_upload_that_is_repeated_makes_one_file(world: World) -> None:
    # Every sending has another multipart boundary.
    answers = {(await upload(world, "search-member", repeat="up")) for _ in range(2)}
    assert len(answers) == 1
    assert len((await world.request("search-member", "GET", "/v1/files")).json()["data"]) == 1
    changed = await upload(world, "search-member", DATASET * 2, repeat="up")
    assert changed == (422, "idempotency_mismatch")


@pytest.mark.parametrize("size_bytes", [65 * 1024, 2 * 1024 * 1024])
async def test_a_file_over_the_limit_is_refused(world: World, size_bytes: int) -> None:
    assert await upload(world, "search-member", b"x" * size_bytes) == (413, "request_too_large")


async def test_agents_neither_upload_nor_train(world: World) -> None:
    assert await upload(world, "search-agent") == (403, "forbidden")
    for path in ("/v1/files", "/v1/fine_tuning/jobs"):
        assert (await world.request("search-agent", "GET", path)).status_code == 403
