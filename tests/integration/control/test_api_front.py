"""What the control API is to any HTTP client: browsers, probes, compressing ones, and strangers."""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from common.units import MIB
from control.api.app import build_app
from tests.integration.control.conftest import METRICS_TOKEN, TOKEN, World, document

pytestmark = pytest.mark.integration

MODEL = json.dumps(document("Model", "m", "search", source="hub/m")).encode()
JSON = {"Content-Type": "application/json"}
PROJECT = {"OpenAI-Project": "search"}
PAGE = "https://console.example"


def code_of(answer: httpx.Response) -> Any:
    return answer.json()["error"]["code"]


async def test_head_is_get_without_the_body(world: World) -> None:
    for path in ("/healthz", "/readyz", "/api/v1/version", "/api/v1/models", "/api/v1/whoami", "/v1/files"):
        whole, bare = [await world.request("search-member", method, path) for method in ("GET", "HEAD")]
        assert (bare.status_code, bare.content) == (200, b""), path
        assert bare.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/apply", "POST"),
        ("HEAD", "/api/v1/simulate", "POST"),
        ("POST", "/api/v1/models/m", "DELETE, GET, HEAD, PUT"),
        ("PATCH", "/api/v1/keys", "GET, HEAD, POST"),
        ("PUT", "/v1/files", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/files/file-1", "DELETE, GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_all_the_right_ones(
    world: World, method: str, path: str, allowed: str
) -> None:
    answer = await world.request("search-member", method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert code_of(answer) == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/models", "/embeddings"])
async def test_a_client_of_models_is_told_where_the_gateway_is(world: World, path: str) -> None:
    answer = await world.request("search-agent", "POST", path, json={})
    assert answer.status_code == 404
    assert f"whose base URL is {world.context.settings.gateway_url}" in answer.json()["error"]["message"]
    other = await world.request("search-agent", "GET", "/api/v1/nothing")
    assert other.json()["error"]["message"] == "there is no GET /api/v1/nothing"


async def test_a_slash_at_the_end_changes_nothing(world: World) -> None:
    for path in ("/api/v1/models", "/v1/files", "/v1/fine_tuning/jobs", "/healthz"):
        answer = await world.request("search-member", "GET", f"{path}/")
        assert answer.status_code == 200, answer.text
        assert answer.content == (await world.request("search-member", "GET", path)).content
    answer = await world.request(
        None, "GET", "/internal/v1/routes/", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status_code == 200


async def test_nothing_is_redirected(world: World) -> None:
    for path in ("/api/v1/models/", "/v1/files/", "/docs", "/docs/", "//api/v1/models", "/"):
        answer = await world.request("search-member", "GET", path)
        assert answer.status_code in (200, 404)
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", gzip.compress(MODEL)), ("deflate", zlib.compress(MODEL)), ("identity", MODEL)],
)
async def test_a_compressed_body_is_understood(world: World, coding: str, body: bytes) -> None:
    headers = {**JSON, "Content-Encoding": coding, "Idempotency-Key": f"k-{coding}"}
    answers = [
        await world.request("search-member", "POST", "/api/v1/apply", headers=headers, content=body)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    assert answers[1].headers["idempotent-replayed"] == "true"


async def test_a_compressed_upload_is_kept_as_it_was(world: World) -> None:
    rows = b"".join(
        json.dumps({"messages": [{"role": r, "content": str(n)} for r in ("user", "assistant")]}).encode()
        + b"\n"
        for n in range(20)
    )
    form = httpx.Request("POST", "http://x", files={"file": ("a.jsonl", rows)}, data={"purpose": "fine-tune"})
    headers = {"Content-Type": form.headers["content-type"], "Content-Encoding": "gzip"}
    packed = gzip.compress(form.read())
    made = await world.request("search-member", "POST", "/v1/files", headers=headers, content=packed)
    assert made.status_code == 200, made.text
    kept = await world.request("search-member", "GET", f"/v1/files/{made.json()['id']}/content")
    assert kept.content == rows


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("br", MODEL, 415, "unsupported_content_encoding"),
        ("gzip", MODEL, 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(MODEL)[:-1], 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(bytes(400 * MIB), 9), 413, "request_too_large"),
    ],
)
async def test_a_compressed_body_is_refused_for_what_it_is(
    world: World, coding: str, body: bytes, status: int, code: str
) -> None:
    headers = {**JSON, **PROJECT, "Content-Encoding": coding}
    for path in ("/api/v1/apply", "/api/v1/keys", "/v1/fine_tuning/jobs"):
        answer = await world.request("acme-admin", "POST", path, headers=headers, content=body)
        assert (answer.status_code, code_of(answer)) == (status, code), path


async def test_a_body_of_another_type_is_told_what_would_be_taken(world: World) -> None:
    for path, right in (
        ("/api/v1/apply", "application/json"),
        ("/api/v1/keys", "application/json"),
        ("/api/v1/simulate", "application/json"),
        ("/v1/fine_tuning/jobs", "application/json"),
        ("/v1/files", "multipart/form-data"),
    ):
        headers = {**PROJECT, "Content-Type": "application/x-yaml"}
        answer = await world.request("acme-admin", "POST", path, headers=headers, content=MODEL)
        assert (answer.status_code, code_of(answer)) == (415, "unsupported_content_type"), path
        assert answer.headers["accept-post"] == right
        assert right in answer.json()["error"]["message"]


async def test_no_page_may_call_control_unless_it_is_named(world: World) -> None:
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    assert (await world.request(None, "OPTIONS", "/api/v1/models/m", headers=asks)).status_code == 401
    answer = await world.request("search-member", "GET", "/api/v1/models", headers={"Origin": PAGE})
    assert "access-control-allow-origin" not in answer.headers
    settings = world.context.settings
    control = settings.control.model_copy(update={"cors_origins": [PAGE]})
    world.context.settings = settings.model_copy(update={"control": control})
    world.app = build_app(world.context)
    preflight = await world.request(None, "OPTIONS", "/api/v1/models/m", headers=asks)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, PAGE)
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    other = await world.request(None, "GET", "/healthz", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


async def test_metrics_are_for_who_runs_the_platform(world: World) -> None:
    assert (await world.request(None, "GET", "/metrics")).status_code == 401
    for member in ("acme-admin", "search-member", "search-agent"):
        assert (await world.request(member, "GET", "/metrics")).status_code == 403
    for token in ("", METRICS_TOKEN + "x", TOKEN):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await world.request(None, "GET", "/metrics", headers=headers)).status_code == 401
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    assert "python_info" in (await world.request(None, "GET", "/metrics", headers=headers)).text
    for path in ("/api/v1/models", "/internal/v1/routes"):
        assert (await world.request(None, "GET", path, headers=headers)).status_code == 401


async def test_answers_are_not_kept_on_their_way_nor_guessed_at(world: World) -> None:
    for path in ("/api/v1/models", "/openapi.json", "/nothing"):
        headers = (await world.request("search-member", "GET", path)).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


async def test_made_up_methods_make_no_series(world: World) -> None:
    for method in ("MKCALENDAR", "BREW"):
        assert (await world.request("search-member", method, "/api/v1/models")).status_code == 405
    text = (await world.request("admin", "GET", "/metrics")).text
    assert 'method="other"' in text
    assert "BREW" not in text
