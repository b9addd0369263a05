"""A key that may ask some models only gives their names to no others."""

from typing import Any

import pytest

from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    return document("Endpoint", name, "search", **spec)


def model(name: str, **spec: Any) -> dict[str, Any]:
    return document("Model", name, "search", **spec)


@pytest.fixture
async def limited(world: World) -> World:
    """Endpoints `small` and `big`; the keys `few` (a member) and `boss` (a tenant-admin) may ask `small`."""
    applied = await world.apply(
        model("small"), model("big"), endpoint("small", model="small"), endpoint("big", model="big")
    )
    assert applied.status_code == 200, applied.text
    await world.make_key("few", "member", project="search", models=["small"])
    await world.make_key("boss", "tenant-admin", tenant="acme", models=["small"])
    return world


@pytest.mark.parametrize("key", ["few", "boss"])
@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (endpoint("small", model="big"), "spec.model"),
        (endpoint("big", model="big", servedName="small"), "spec.model"),
        (endpoint("other", model="big", servedName="small"), "spec.model"),
        (endpoint("other", model="small"), "spec.model"),
        (model("small", source="org/other"), "spec.source"),
        (model("new"), "spec.source"),
    ],
    ids=[
        "another model",
        "the name taken over",
        "a second of the name",
        "a new one",
        "other weights",
        "new weights",
    ],
)
async def test_what_a_name_leads_to_is_not_for_a_limited_key_to_say(
    limited: World, key: str, wanted: dict[str, Any], path: str
) -> None:
    answer = await limited.apply(wanted, key=key)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (403, path)
    assert "may use only small" in error["message"]
    assert (await limited.apply(wanted, key="search-member")).status_code == 200


async def test_a_limited_key_may_change_all_else(limited: World) -> None:
    for wanted in (endpoint("small", model="small", replicas=2), model("small", tasks=["chat"])):
        answer = await limited.apply(wanted, key="few")
        assert answer.status_code == 200, answer.text
