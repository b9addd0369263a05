"""Where copies of an Endpoint's requests may go, and who may say so."""

from typing import Any

import httpx
import pytest

from inference.routes import build_routing_table
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"]["param"] if answer.status_code >= 400 else None


def endpoint(name: str, to: str | None = None, project: str = "search", **spec: Any) -> dict[str, Any]:
    more = {"shadow": {"endpoint": to}} if to is not None else {}
    return document("Endpoint", name, project, **{"model": "m", "servedName": name, **more, **spec})


@pytest.fixture
async def site(world: World) -> World:
    models = [document("Model", "m", project, source="org/m") for project in ("search", "lab")]
    answer = await world.apply(*models, endpoint("chat"), endpoint("next"), endpoint("theirs", project="lab"))
    assert answer.status_code == 200, answer.text
    return world


async def shadows(world: World) -> dict[str, str]:
    routes = (await build_routing_table(world.context.store)).routes
    return {route.model: route.shadow.model for route in routes if route.shadow is not None}


async def test_to_another_endpoint_of_the_project(site: World) -> None:
    who = "search-member"
    path = "spec.shadow.endpoint"
    assert refusal(await site.apply(endpoint("chat", "next"), key=who)) == (200, None)
    assert await shadows(site) == {"chat": "next"}
    assert refusal(await site.apply(endpoint("chat", "chat"), key=who)) == (400, path)
    assert refusal(await site.apply(endpoint("chat", "theirs"), key=who)) == (400, path)
    assert refusal(await site.apply(endpoint("chat", "none"), key=who)) == (400, path)
    assert refusal(await site.apply(endpoint("next", "chat"), key=who)) == (200, None), "a circle ends"
    for percent in (101, -1):
        wanted = endpoint("chat", shadow={"endpoint": "next", "percent": percent})
        assert refusal(await site.apply(wanted, key=who)) == (400, "spec.shadow.percent")


async def test_of_one_that_is_gone_there_are_no_copies(site: World) -> None:
    await site.apply(endpoint("chat", "next"))
    await site.request("admin", "DELETE", "/api/v1/endpoints/next?project=search")
    assert await shadows(site) == {}


async def test_of_a_shared_endpoint_it_is_the_platforms(site: World) -> None:
    await site.apply(endpoint("chat", shared=True))
    assert refusal(await site.apply(endpoint("chat", "next", shared=True), key="search-member")) == (
        403,
        "spec.shadow",
    )
