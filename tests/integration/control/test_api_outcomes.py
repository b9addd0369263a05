"""Outcomes are recorded by those whose work it was, and shown beside its cost."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.control.conftest import World, running_world
from tests.integration.control.test_api_streams import post_usage, usage_event

pytestmark = pytest.mark.integration

PATH = "/api/v1/outcomes"
RETURNS = "/api/v1/returns"


async def record(world: World, key: str, status: int = 201, **body: Any) -> Any:
    answer = await world.request(key, "POST", PATH, json={"name": "answer", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def populate(world: World) -> None:
    """One task of each tenant, and the same name of a task in both."""
    at = world.clock.now_ms()
    await post_usage(
        world,
        usage_event("a", ended_ms=at + 1, tags={"task": "T-1", "team": "search"}),
        usage_event("b", ended_ms=at + 1, tags={"task": "T-2"}, tenant="globex", project="lab"),
    )
    world.clock.advance(60)


async def test_outcomes_are_recorded_and_seen_by_those_whose_work_it_was(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        await populate(world)
        made = await record(world, "search-member", task="T-1", value_microcredits=500, quality_millis=800)
        assert (made["id"], made["project"], made["tags"]) == (
            "T-1:answer",
            "search",
            {"task": "T-1", "team": "search"},
        )
        again = await record(
            world, "search-member", 200, task="T-1", value_microcredits=500, quality_millis=800
        )
        assert again == {**made, "repeated": True}
        wrong = await record(world, "search-member", 409, task="T-1", value_microcredits=501)
        assert wrong["error"]["param"] == "id"
        for key, body, status in (
            ("search-member", {"task": "T-2"}, 400),
            ("globex-admin", {"task": "T-1"}, 400),
            ("globex-admin", {"task": "T-2", "tenant": "acme"}, 404),
            ("search-member", {"task": "T-1", "project": "lab"}, 404),
            ("admin", {"task": "T-1"}, 400),
            ("search-agent", {"task": "T-1"}, 403),
        ):
            await record(world, key, status, id="other", **body)
        await record(world, "admin", tag={"team": "search"}, id="o-1", tenant="acme", name="sale")
        for key, seen in (("admin", 2), ("acme-admin", 2), ("search-member", 2), ("globex-admin", 0)):
            listed = (await world.request(key, "GET", PATH)).json()["items"]
            assert len(listed) == seen
        report = (await world.request("search-member", "GET", f"{RETURNS}?group_by=tag:team,outcome")).json()
        assert [(row["outcome"], row["outcomes"]) for row in report["rows"]] == [("answer", 1), ("sale", 1)]
        assert report["total"]["value_microcredits"] == 500
        for path in (f"{RETURNS}?tenant=acme", f"{PATH}?tenant=acme"):
            assert (await world.request("globex-admin", "GET", path)).status_code == 404
            assert (await world.request("search-agent", "GET", path)).status_code == 403
        for key, status in (("globex-admin", 404), ("search-agent", 403), ("search-member", 200)):
            assert (await world.request(key, "DELETE", f"{PATH}/T-1:answer")).status_code == status
        assert (await world.request("acme-admin", "GET", RETURNS)).json()["total"]["outcomes"] == 1


async def test_a_wrong_outcome_is_refused_by_name(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        await populate(world)
        for param, body in (
            ("task", {}),
            ("task", {"task": "T-1", "tag": {"team": "search"}}),
            ("tag", {"tag": {}}),
            ("tag", {"tag": {"a": "b", "c": "d"}}),
            ("id", {"tag": {"team": "search"}}),
            ("task", {"task": ""}),
            ("name", {"task": "T-1", "name": "x" * 65, "id": "o"}),
            ("count", {"task": "T-1", "count": "5"}),
            ("count", {"task": "T-1", "count": 0}),
            ("value_microcredits", {"task": "T-1", "value_microcredits": 0.5}),
            ("quality_millis", {"task": "T-1", "quality_millis": 1001}),
            ("at", {"task": "T-1", "at": "yesterday"}),
            ("at", {"task": "T-1", "at": "2200-01-01"}),
            ("worth", {"task": "T-1", "worth": 3}),
        ):
            refused = await record(world, "search-member", 400, **body)
            assert param in str(refused["error"]), refused
        unknown = await record(world, "search-member", 400, task="T-9")
        assert unknown["error"]["code"] == "unknown_work"
        for query in ("?group_by=task", "?from=x", "?tag=x", "?from=2026-02-01&to=2026-01-01"):
            assert (await world.request("admin", "GET", f"{RETURNS}{query}")).status_code == 400


async def test_only_platform_admins_see_what_devices_cost(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        await populate(world)
        answer = await world.request("admin", "GET", "/api/v1/margins?group_by=model_identity,month")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (len(found["rows"]), found["total"]["tokens"], found["devices"]) == (1, 30, [])
        for key in ("acme-admin", "search-member", "search-agent"):
            assert (await world.request(key, "GET", "/api/v1/margins")).status_code == 403
        for query in ("group_by=key", "from=x", "from=2026-02-01&to=2026-01-01"):
            assert (await world.request("admin", "GET", f"/api/v1/margins?{query}")).status_code == 400
