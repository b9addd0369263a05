"""Who may pause and resume what, what is told of it, and what a paused key may do."""

from typing import Any

import pytest

from common.resources import API_VERSION, ApiKey, parse_resource
from tests.integration.control.conftest import World, document


async def _pause(world: World, by: str, place: str, **query: Any) -> int:
    answer = await world.request(by, "PUT", f"/api/v1/pauses/{place}", json={"reason": "loops"}, params=query)
    return answer.status_code


async def _resume(world: World, by: str, place: str, **query: Any) -> int:
    return (await world.request(by, "DELETE", f"/api/v1/pauses/{place}", params=query)).status_code


@pytest.mark.parametrize("place", ["key/search-agent", "project/search", "tenant/acme"])
async def test_an_admin_stops_what_is_its_own_and_nobody_elses(world: World, place: str) -> None:
    for stranger, status in (
        ("search-agent", 403),
        ("search-member", 403),
        ("lab-member", 403),
        ("globex-admin", 404),
    ):
        assert await _pause(world, stranger, place) == status
    assert await _pause(world, "acme-admin", place) == 200
    assert await _pause(world, "acme-admin", place) == 200
    assert await _resume(world, "globex-admin", place) == 404
    assert await _resume(world, "acme-admin", place) == 200
    assert await _resume(world, "acme-admin", place) == 404


@pytest.mark.parametrize("place", ["key/search-agent", "project/search", "tenant/acme"])
async def test_what_the_platform_paused_only_the_platform_resumes(world: World, place: str) -> None:
    assert await _pause(world, "acme-admin", place) == 200
    assert await _pause(world, "admin", place) == 200
    assert await _pause(world, "acme-admin", place) == 200
    assert await _resume(world, "acme-admin", place) == 403
    assert await _resume(world, "admin", place) == 200


async def test_a_shared_model_is_its_owners_to_stop_and_locked_until_the_platform_resumes(
    world: World,
) -> None:
    applied = await world.apply(document("Model", "tiny", "search", shared=True))
    assert applied.status_code == 200, applied.text
    assert await _pause(world, "globex-admin", "model/tiny", project="search") == 404
    assert await _pause(world, "acme-admin", "model/tiny", project="search") == 200
    assert await _pause(world, "admin", "model/tiny", project="search") == 200
    path = "/api/v1/models/tiny?project=search"
    assert (await world.request("acme-admin", "DELETE", path)).status_code == 403
    assert (await world.apply(document("Model", "tiny", "search", shared=True))).status_code == 200
    answer = await world.request("acme-admin", "GET", "/api/v1/pauses")
    (told,) = answer.json()["items"]
    assert (told["scope"], told["name"], told["project"], told["by"]) == (
        "model",
        "tiny",
        "search",
        "platform-admin",
    )
    assert (await world.request("globex-admin", "GET", "/api/v1/pauses")).json()["items"] == []


async def test_a_paused_key_is_refused_by_control_too_and_its_name_stays_taken(world: World) -> None:
    assert await _pause(world, "acme-admin", "key/search-member") == 200
    answer = await world.request("search-member", "GET", "/api/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "paused")
    assert answer.json()["error"]["pause"]["reason"] == "loops"
    body = {"name": "search-member", "role": "member", "project": "search"}
    assert (await world.request("acme-admin", "POST", "/api/v1/keys", json=body)).status_code == 409
    assert await _resume(world, "acme-admin", "key/search-member") == 200
    assert (await world.request("search-member", "GET", "/api/v1/models")).status_code == 200


async def test_a_key_does_not_pause_itself_and_paused_tenants_still_reach_control(world: World) -> None:
    assert await _pause(world, "acme-admin", "key/acme-admin") == 400
    assert await _pause(world, "acme-admin", "tenant/acme") == 200
    assert (await world.request("acme-admin", "GET", "/api/v1/projects")).status_code == 200
    assert await _resume(world, "acme-admin", "tenant/acme") == 200


async def test_it_is_told_in_events_the_audit_log_and_the_routing_table(world: World) -> None:
    assert await _pause(world, "acme-admin", "key/search-agent") == 200
    _, table = await world.context.routes.current()
    assert [(one.scope, one.name) for one in table.pauses] == [("key", "search-agent")]
    events = await world.context.store.events(kind="ApiKey", name="search-agent", reason="Paused")
    assert [(one.reason, one.level, one.message) for one in events] == [
        ("Paused", "warning", "paused by the key acme-admin: loops")
    ]
    entry = (await world.context.store.audit_log(limit=1))[0]
    assert (entry.principal, entry.outcome) == ("acme-admin", "ok")
    assert "search-agent" in entry.target
    digest = (await world.context.store.get(ApiKey, "search-agent")).status.digest
    assert await _resume(world, "acme-admin", "key/search-agent") == 200
    assert (await world.context.store.get(ApiKey, "search-agent")).status.digest == digest


@pytest.mark.parametrize(
    ("place", "query", "status"),
    [
        ("key/nobody", {}, 404),
        ("queue/default", {}, 400),
        ("model/tiny", {}, 400),
        ("tenant/acme", {"project": "search"}, 400),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    world: World, place: str, query: dict[str, Any], status: int
) -> None:
    assert await _pause(world, "admin", place, **query) == status


async def test_what_is_paused_comes_in_pages(world: World) -> None:
    assert (await world.apply(document("Model", "tiny", "search", shared=True))).status_code == 200
    places = ["key/search-agent", "key/search-member", "project/search", "model/search/tiny"]
    for place in places:
        scope, *project, name = place.split("/")
        assert (
            await _pause(world, "acme-admin", f"{scope}/{name}", **({"project": "search"} if project else {}))
            == 200
        )
    asked: dict[str, Any] = {"limit": 1}
    for place in places:
        (told,) = (await world.request("acme-admin", "GET", "/api/v1/pauses", params=asked)).json()["items"]
        asked["after"] = "/".join(part for part in (told["scope"], told["project"], told["name"]) if part)
        assert asked["after"] == place
    whole = await world.request("acme-admin", "GET", "/api/v1/pauses")
    assert len(whole.json()["items"]) == len(places)
    assert (await world.request("acme-admin", "GET", "/api/v1/pauses", params=asked)).json()["items"] == []
    for odd in ("web/x", "key", "key/"):
        assert (
            await world.request("admin", "GET", "/api/v1/pauses", params={"after": odd})
        ).status_code == 400


async def test_balances_of_budgets_come_in_pages(world: World) -> None:
    for number, period in enumerate(("day", "week", "month")):
        spec = {"scope": {"tenant": "acme"}, "limit": {"tokens": 9}, "period": period}
        made = {"kind": "Budget", "metadata": {"name": f"b-{number}"}, "spec": spec}
        await world.context.store.apply(parse_resource({"apiVersion": API_VERSION, **made}))
    asked: dict[str, Any] = {"limit": 2}
    pages = []
    for _ in range(2):
        answer = await world.request("acme-admin", "GET", "/api/v1/budget-balances", params=asked)
        pages.append([one["name"] for one in answer.json()["items"]])
        asked["after"] = pages[-1][-1]
    assert pages == [["b-0", "b-1"], ["b-2"]]
