"""Rates are limited by those who may, and who is limited gets around it by no other key or project."""

from typing import Any

import pytest

from tests.integration.control.conftest import World, document
from tests.integration.control.test_api_rights import project, refusal

pytestmark = pytest.mark.integration


async def test_only_the_platform_limits_rates_of_projects_and_what_is_shared(world: World) -> None:
    limits = {"requestsPerMinute": 60}
    assert refusal(await world.apply(project(rateLimits=limits), key="acme-admin")) == (
        403,
        "spec.rateLimits",
    )
    assert (await world.apply(project(rateLimits=limits))).status_code == 200
    assert (await world.apply(project(displayName="Search"), key="acme-admin")).status_code == 200
    kept = (await world.request("admin", "GET", "/api/v1/projects/search")).json()["spec"]["rateLimits"]
    assert kept == limits, "what others leave out stays"
    more = {"requestsPerMinute": 61}
    assert refusal(await world.apply(project(rateLimits=more), key="acme-admin")) == (403, "spec.rateLimits")
    assert (await world.apply(project("fresh", rateLimits={"tokensPerMinute": 9}))).status_code == 200
    answer = await world.request("acme-admin", "DELETE", "/api/v1/projects/fresh")
    assert answer.status_code == 403, "to make it anew is no way around them"
    for bad, path in (
        ({"requestsPerMinute": 0}, "spec.rateLimits.requestsPerMinute"),
        ({"tokensPerMinute": "many"}, "spec.rateLimits.tokensPerMinute"),
        ({"rpm": 1}, "spec.rateLimits.rpm"),
    ):
        wrong = await world.apply(project(rateLimits=bad))
        assert (wrong.status_code, wrong.json()["error"]["problems"][0]["path"]) == (400, path)


async def test_a_limited_key_makes_no_key_with_more(world: World) -> None:
    limits = {"requestsPerMinute": 60, "tokensPerMinute": 1000}
    await world.make_key("boss", "tenant-admin", tenant="acme", rateLimits=limits)
    wanted: dict[str, Any] = {"name": "made", "role": "agent", "project": "search"}
    for asked, path in (
        ({}, "rateLimits.requestsPerMinute"),
        ({"requestsPerMinute": 60}, "rateLimits.tokensPerMinute"),
        ({"requestsPerMinute": 60, "tokensPerMinute": 1001}, "rateLimits.tokensPerMinute"),
    ):
        answer = await world.request("boss", "POST", "/api/v1/keys", json={**wanted, "rateLimits": asked})
        assert refusal(answer) == (403, path)
    answer = await world.request("boss", "POST", "/api/v1/keys", json={**wanted, "rateLimits": limits})
    assert answer.status_code == 201
    assert answer.json()["resource"]["spec"]["rateLimits"] == limits


async def test_a_key_whose_data_are_bound_makes_no_key_that_lets_them_out(world: World) -> None:
    bound = {"dataClass": "confidential", "regions": ["eu", "us"]}
    await world.make_key("boss", "tenant-admin", tenant="acme", data=bound)
    wanted: dict[str, Any] = {"name": "made", "role": "agent", "project": "search"}
    for asked, path in (
        ({}, "data.dataClass"),
        ({"dataClass": "internal", "regions": ["eu"]}, "data.dataClass"),
        ({"dataClass": "confidential"}, "data.regions"),
        ({"dataClass": "confidential", "regions": ["eu", "cn"]}, "data.regions"),
    ):
        answer = await world.request("boss", "POST", "/api/v1/keys", json={**wanted, "data": asked})
        assert refusal(answer) == (403, path)
    for name, asked in (("made", bound), ("stricter", {"dataClass": "regulated", "regions": []})):
        answer = await world.request(
            "boss", "POST", "/api/v1/keys", json={**wanted, "name": name, "data": asked}
        )
        assert answer.status_code == 201, answer.text
        assert answer.json()["resource"]["spec"]["data"] == asked


@pytest.mark.parametrize("who", ["search-member", "acme-admin"])
async def test_the_limits_of_a_shared_endpoint_are_the_platforms(world: World, who: str) -> None:
    model = document("Model", "tiny", "search")
    shared = {"model": "tiny", "shared": True}
    assert (await world.apply(model, document("Endpoint", "chat", "search", **shared))).status_code == 200
    changed = document("Endpoint", "chat", "search", **shared, rateLimits={"tokensPerMinute": 1})
    assert refusal(await world.apply(changed, key=who)) == (403, "spec.rateLimits")
    assert (await world.apply(changed)).status_code == 200
