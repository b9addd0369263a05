"""Price books tried on past usage, and what is refused of them, through the API."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.control.conftest import World, document, running_world
from tests.integration.control.test_api_organization import START, used
from tests.integration.control.test_api_streams import post_usage

pytestmark = pytest.mark.integration

DRY_RUN = "/api/v1/prices/dry-run"
ITEM = {"meter": "prompt_tokens", "microcreditsPerMillion": 3_000_000}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world with usage of two tenants that no book had a price for."""
    async with running_world(tmp_path, "sqlite") as world:
        await post_usage(
            world, used("a", START), used("b", START), used("c", START, tenant="globex", project="lab")
        )
        yield world


def body(*documents: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"documents": list(documents), "from": str(START * 1000), "to": str(START * 1000 + 1), **more}


async def test_a_platform_admin_sees_the_difference_for_each_tenant(world: World) -> None:
    book = document("Price", "winter", items=[ITEM])
    answer = await world.request("admin", "POST", DRY_RUN, json=body(book))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [(one["tenant"], one["microcredits"]) for one in found["tenants"]] == [
        ("acme", 60),
        ("globex", 30),
    ]
    assert found["total"]["difference_microcredits"] == 90
    assert found["unpriced"] == ["completion_tokens of search/tiny"]
    own = document("Price", "contract", items=[ITEM], tenant="acme")
    answer = await world.request("admin", "POST", DRY_RUN, json=body(own))
    assert [one["tenant"] for one in answer.json()["tenants"]] == ["acme"]
    assert (await world.request("admin", "GET", "/api/v1/prices/winter")).status_code == 404


async def test_nobody_else_tries_prices_and_nothing_but_sound_prices_is_tried(world: World) -> None:
    book = document("Price", "winter", items=[ITEM])
    for key in ("acme-admin", "search-member"):
        assert (await world.request(key, "POST", DRY_RUN, json=body(book))).status_code == 403
    wrong = [
        (body(document("Price", "winter", items=[ITEM, ITEM])), "spec.items[1]"),
        (body(document("Queue", "q")), "documents"),
        (body(book, document("Price", "other", items=[ITEM])), "documents"),
        (body(book, to="1"), "to"),
        ({"documents": [book], "from": "yesterday"}, "from"),
    ]
    for asked, param in wrong:
        answer = await world.request("admin", "POST", DRY_RUN, json=asked)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
