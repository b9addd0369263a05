"""A platform-admin issues bills, a tenant-admin reads its own, nobody those of others."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.integration.control.conftest import World, running_world
from tests.integration.control.test_api_streams import post_usage, usage_event

pytestmark = pytest.mark.integration

PATH = "/api/v1/invoices"
FOCUS = "/api/v1/focus?tenant=acme&month=2023-11"
ASK = {"tenant": "acme", "month": "2023-12"}


async def issue(world: World, key: str = "admin", **ask: Any) -> Any:
    return await world.request(key, "POST", PATH, json={**ASK, **ask})


async def test_bills_are_issued_and_read_by_those_who_may(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        at = world.clock.now_ms()
        await post_usage(
            world,
            usage_event("a", ended_ms=at + 1),
            usage_event("foreign", ended_ms=at + 1, tenant="globex", project="lab"),
        )
        assert (await issue(world, month="2023-11")).status_code == 400, "not over yet"
        world.clock.advance(60 * 24 * 3600)
        issued = (await issue(world, month="2023-11")).json()["document"]
        assert (issued["name"], issued["tenant"], len(issued["lines"])) == ("INV-000001", "acme", 2)
        again = (await issue(world, month="2023-11")).json()
        assert again == {"document": None, "earlier": ["INV-000001"]}
        assert (await issue(world, tenant="globex", month="2023-11")).json()["document"]["number"] == 2
        for who, seen in (("admin", [1, 2]), ("acme-admin", [1]), ("globex-admin", [2])):
            listed = (await world.request(who, "GET", PATH)).json()["items"]
            assert [one["number"] for one in listed] == seen
            assert "lines" not in listed[0]
        page = await world.request("acme-admin", "GET", f"{PATH}/1?format=html&language=zh")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "账单 INV-000001" in page.text
        assert (await world.request("acme-admin", "GET", f"{PATH}/1")).json() == issued
        for path in (f"{PATH}/2", f"{PATH}/3", f"{PATH}?tenant=globex"):
            assert (await world.request("acme-admin", "GET", path)).status_code == 404
        await _check_focus(world)
        for who in ("search-member", "search-agent"):
            assert (await world.request(who, "GET", PATH)).status_code == 403
            assert (await world.request(who, "GET", FOCUS)).status_code == 403
        assert (await issue(world, key="acme-admin")).status_code == 403


async def _check_focus(world: World) -> None:
    file = await world.request("acme-admin", "GET", FOCUS)
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert (file.status_code, {row["InvoiceId"] for row in rows}) == (200, {"INV-000001"}), file.text
    assert [(row["SkuMeter"], row["PricingQuantity"]) for row in rows] == [
        ("Output Tokens", "5.0"),
        ("Input Tokens", "10.0"),
    ]
    parquet = await world.request("acme-admin", "GET", f"{FOCUS}&format=parquet")
    assert parquet.status_code == 400 or parquet.content.startswith(b"PAR1")
    assert (await world.request("globex-admin", "GET", FOCUS)).status_code == 404
    assert (await world.request("admin", "GET", f"{FOCUS}&currency=us")).status_code in (400, 422)


async def test_a_wrong_question_is_refused_by_name(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        wrong = ({"month": "2023-13"}, {"month": "9999-12"}, {"month": 5}, {"timezone": "Mars/Olympus"})
        for ask in wrong:
            answer = await issue(world, **ask)
            assert answer.status_code == 400, answer.text
            assert next(iter(ask)) in answer.text
        assert (await issue(world, tenant="nobody")).status_code == 404
        for query in ("?after=-1", "?limit=0", "/0", "/x", "/1?language=fr"):
            assert (await world.request("admin", "GET", f"{PATH}{query}")).status_code in (400, 404, 422), (
                query
            )
