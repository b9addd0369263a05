"""Odd names, numbers and bodies over HTTP: a clear refusal, and everything else goes on."""

import json
from typing import Any

import pytest

from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration

KEY = {"name": "ci", "role": "agent", "project": "search"}
ODD_SPECS: list[tuple[str, Any]] = [
    ("servedName", "a\tb"),
    ("servedName", "tiny\n"),
    ("servedName", "m" * 2000),
    ("priority", 10**9),
    ("devices", {"memoryBytes": 10**298}),
    ("devices", {"hostMemoryBytes": 10**30}),
    ("devices", {"models": ["x"] * 10_000}),
]
ODD_BODIES = {
    "infinity": '{"tflops": Infinity}',
    "1e400": '{"tflops": 1e400}',
    "400 digits": '{"memoryBytes": 1' + "0" * 400 + "}",
    "5000 digits": '{"cpuMillis": 1' + "0" * 5000 + "}",
    "half a pair": '{"models": ["\\ud800"]}',
    "a key twice": '{"count": 1, "count": 8}',
    "too deep": '{"models": ' + "[" * 2000 + "]" * 2000 + "}",
}


async def test_of_several_documents_the_one_that_is_refused_is_named(world: World) -> None:
    good = document("Model", "good", "search")
    for refused, status, param in (
        (document("Model", "m", "search", source="/etc"), 403, "[1].spec.source"),
        (document("Queue", "q"), 403, "[1]"),
        (document("Model", "m", "lab"), 404, "[1]"),
        (document("Endpoint", "e", "search", model="none"), 400, "[1].spec.model"),
    ):
        answer = await world.apply(good, refused, key="search-member")
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
        assert answer.json()["error"]["message"].startswith("[1]: ")


@pytest.mark.parametrize(("field", "value"), ODD_SPECS)
async def test_an_endpoint_that_would_stop_others_is_refused(world: World, field: str, value: Any) -> None:
    answer = await world.apply(document("Endpoint", "odd", "search", **{field: value}), key="search-member")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(f"spec.{field}")
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("devices", ODD_BODIES.values(), ids=ODD_BODIES.keys())
async def test_a_body_that_no_standard_knows_is_refused_and_lists_go_on(world: World, devices: str) -> None:
    whole = json.dumps(document("Endpoint", "odd", "search", devices="HERE"))
    body = whole.replace('"HERE"', devices)
    for path in ("/api/v1/apply", "/api/v1/endpoints/odd", "/api/v1/simulate"):
        method = "PUT" if path.endswith("odd") else "POST"
        answer = await world.request("search-member", method, path, content=body)
        assert answer.status_code == 400, answer.text
    listed = await world.request("admin", "GET", "/api/v1/endpoints")
    assert (listed.status_code, listed.json()["items"]) == (200, [])


@pytest.mark.parametrize(
    "more",
    [
        {"name": "free\n"},
        {"name": "k" * 64},
        {"models": ["\ud800"]},
        {"models": ["m\n"]},
        {"models": ["m"] * 257},
        {"expiresMs": 10**200},
        {"project": "search\n"},
    ],
)
async def test_a_key_has_a_name_and_models_like_everything_else(world: World, more: dict[str, Any]) -> None:
    answer = await world.request("acme-admin", "POST", "/api/v1/keys", content=json.dumps({**KEY, **more}))
    assert answer.status_code == 400, answer.text
    assert "error" in answer.json()


async def test_a_key_is_asked_for_in_json_as_the_standard_has_it(world: World) -> None:
    for body in (
        '{"name": "ci", "role": "member", "role": "agent", "project": "search"}',
        '{"name": "ci", "role": "agent", "project": "search", "expiresMs": NaN}',
        '{"name": "ci", "role": "agent", "project": "search", "expiresMs": 1' + "0" * 5000 + "}",
        "[" * 100_000,
    ):
        answer = await world.request(
            "acme-admin", "POST", "/api/v1/keys", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400, answer.text


async def test_a_number_in_a_query_is_bounded(world: World) -> None:
    for path in (
        "/api/v1/models/m?project=search&resourceVersion=1" + "0" * 30,
        "/api/v1/models/m?project=search&resourceVersion=1" + "0" * 5000,
    ):
        assert (await world.request("search-member", "DELETE", path)).status_code == 400
    many = ",".join(f"l{n}=x" for n in range(65))
    assert (await world.request("admin", "GET", f"/api/v1/models?labels={many}")).status_code == 400
    for text in ("\u0661" * 30, "9" * 5000, "2026-01-01\n"):
        answer = await world.request("admin", "GET", "/api/v1/usage", params={"from": text})
        assert answer.status_code == 400, answer.text


def test_the_openapi_document_shows_the_limits(world: World) -> None:
    schemas = world.app.openapi()["components"]["schemas"]
    endpoint = schemas["EndpointSpec"]["properties"]
    assert {"maxLength": 128, "type": "string"}.items() <= endpoint["servedName"]["anyOf"][0].items()
    assert endpoint["replicas"]["maximum"] == 1024
    devices = schemas["DeviceRequest"]["properties"]
    assert (devices["models"]["maxItems"], devices["models"]["items"]["maxLength"]) == (64, 128)
    assert devices["memoryBytes"]["maximum"] == 10**15
    written = schemas["Endpoint"]["properties"]["metadata"]["allOf"][1]["properties"]
    assert (written["name"]["maxLength"], written["labels"]["maxProperties"]) == (63, 64)
    key = schemas["KeyRequest"]["properties"]
    assert (key["name"]["maxLength"], key["models"]["maxItems"]) == (63, 256)
    body = world.app.openapi()["paths"]["/api/v1/apply"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["oneOf"][1]["maxItems"] == 500


async def test_only_platform_admins_see_what_is_set_aside(world: World) -> None:
    path = "/api/v1/set-aside"
    assert (await world.request("acme-admin", "GET", path)).status_code == 403
    assert (
        await world.request("search-member", "DELETE", f"{path}/Model/m?project=search")
    ).status_code == 403
    listed = await world.request("admin", "GET", path)
    assert (listed.status_code, listed.json()) == (200, {"items": []})
    assert (await world.request("admin", "DELETE", f"{path}/Nonsense/m")).status_code == 404
