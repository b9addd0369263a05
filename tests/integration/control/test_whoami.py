"""What a key is told of itself: the budgets that bind it, and what keeps it from being answered."""

import pytest

from common.resources import API_VERSION
from tests.integration.control.conftest import World


async def _budget(world: World, name: str, enforcement: str = "hard", **scope: object) -> None:
    document = {
        "apiVersion": API_VERSION,
        "kind": "Budget",
        "metadata": {"name": name},
        "spec": {
            "scope": {"tenant": "acme", **scope},
            "limit": {"tokens": 100},
            "enforcement": enforcement,
        },
    }
    answer = await world.request("admin", "POST", "/api/v1/apply", json=[document])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("search-agent", ["a-tenant", "b-project", "c-key"]),
        ("search-member", ["a-tenant", "b-project", "f-soft"]),
        ("acme-admin", ["a-tenant", "f-soft"]),
        ("lab-member", []),
        ("admin", []),
    ],
)
async def test_a_key_is_told_the_budgets_that_all_its_requests_are_in(
    world: World, key: str, expected: list[str]
) -> None:
    await _budget(world, "a-tenant")
    await _budget(world, "b-project", project="search")
    await _budget(world, "c-key", key="search-agent")
    await _budget(world, "d-user", user="ada")
    await _budget(world, "e-tag", tags={"team": "x"})
    await _budget(world, "f-soft", "soft")
    told = (await world.request(key, "GET", "/api/v1/whoami")).json()
    assert [one["name"] for one in told["budgets"]] == expected
    assert all((one["limit"], one["spent"], one["left"]) == (100, 0, 100) for one in told["budgets"])
    assert all(one["inForce"] and one["resetsAt"] for one in told["budgets"])


async def test_a_key_is_told_what_is_paused_above_it(world: World) -> None:
    assert (await world.request("search-agent", "GET", "/api/v1/whoami")).json()["paused"] == []
    await world.request("admin", "PUT", "/api/v1/pauses/tenant/acme", json={"reason": "unpaid"})
    (told,) = (await world.request("search-agent", "GET", "/api/v1/whoami")).json()["paused"]
    assert (told["scope"], told["name"], told["by"], told["reason"]) == (
        "tenant",
        "acme",
        "platform-admin",
        "unpaid",
    )
    assert (await world.request("lab-agent", "GET", "/api/v1/whoami")).json()["paused"] == []
