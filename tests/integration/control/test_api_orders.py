"""Products are put on the shelf, ordered and cancelled; vouchers are issued once and redeemed once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.resources import Metadata, Price, Tenant
from common.resources.money import PriceItem, PriceSpec
from tests.integration.control.conftest import World, document, running_world
from tests.integration.control.test_api_streams import post_usage, usage_event

pytestmark = pytest.mark.integration

PRODUCTS, ORDERS, VOUCHERS = "/api/v1/products", "/api/v1/orders", "/api/v1/vouchers"
PACK = {"name": "pack", "unit": "tokens", "amount": 1000, "term_days": 30, "prices": [{"microcredits": 9000}]}
H100 = {
    "name": "half",
    "unit": "device_seconds",
    "devices_millis": 500,
    "device_class": "nvidia/H100",
    "term_days": 30,
    "prices": [{"microcredits": 9000}],
}
TENANT = document("Tenant", "buyer")
ITEMS = [
    PriceItem(meter="prompt_tokens", microcredits_per_million=1_000_000),
    PriceItem(meter="completion_tokens", microcredits_per_million=1_000_000),
]
GIFT = {"id": "gift", "microcredits": 500, "redeem_until": "2100-01-01"}


async def sent(world: World, key: str, method: str, path: str, status: int, body: Any = None) -> Any:
    answer = await world.request(key, method, path, **({} if body is None else {"json": body}))
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_product_is_ordered_used_and_cancelled(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        await sent(world, "admin", "POST", PRODUCTS, 201, PACK)
        await sent(world, "acme-admin", "POST", PRODUCTS, 403, PACK)
        [seen] = (await sent(world, "search-member", "GET", PRODUCTS, 200))["items"]
        assert (seen["name"], seen["microcredits"]) == ("pack", 9000)
        order = {"id": "po-1", "product": "pack", "quantity": 2}
        made = await sent(world, "acme-admin", "POST", ORDERS, 201, order)
        assert (made["granted"], made["price_microcredits"], made["state"]) == (2000, 18000, "active")
        dearer = {**PACK, "prices": [{"microcredits": 12000}]}
        await sent(world, "admin", "POST", PRODUCTS, 200, dearer)
        again = await sent(world, "acme-admin", "POST", ORDERS, 200, order)
        assert again == {**made, "repeated": True}
        later = {"id": "po-2", "product": "pack", "begins": str(world.clock.now_ms() + 5000)}
        upcoming = await sent(world, "acme-admin", "POST", ORDERS, 201, later)
        assert upcoming["state"] == "upcoming"
        world.clock.advance(60)
        assert (await sent(world, "acme-admin", "POST", ORDERS, 200, later))["repeated"]
        await sent(world, "acme-admin", "DELETE", f"{ORDERS}/po-2", 200)
        wrong = await sent(world, "acme-admin", "POST", ORDERS, 409, {**order, "quantity": 3})
        assert wrong["error"]["param"] == "id"
        spec = PriceSpec(effective_from="2020-01-01T00:00:00Z", items=ITEMS)
        await world.context.store.apply(Price(metadata=Metadata(name="standard"), spec=spec))
        at = world.clock.now_ms()
        await post_usage(world, usage_event("a", ended_ms=at + 1))
        used = (await sent(world, "search-member", "GET", f"{ORDERS}/po-1", 200))["used"]
        assert used == 15
        await sent(world, "globex-admin", "GET", f"{ORDERS}/po-1", 404)
        await sent(world, "globex-admin", "GET", f"{ORDERS}/po-1?tenant=acme", 404)
        await sent(world, "search-member", "DELETE", f"{ORDERS}/po-1", 403)
        await sent(world, "search-agent", "GET", ORDERS, 403)
        assert (await sent(world, "globex-admin", "GET", ORDERS, 200))["items"] == []
        done = await sent(world, "acme-admin", "DELETE", f"{ORDERS}/po-1", 200)
        assert done["refund_microcredits"] == 18000 - 9 * used
        balance = await world.context.ledger.trial_balance()
        assert balance.total_microcredits == 0
        assert balance.accounts["receivable:acme"] == 9 * used


async def test_who_orders_waits_for_who_deletes_the_tenant(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        await sent(world, "admin", "POST", "/api/v1/apply", 200, TENANT)
        await sent(world, "admin", "POST", PRODUCTS, 201, PACK)
        [voucher] = (await sent(world, "admin", "POST", VOUCHERS, 201, GIFT))["items"]
        order = {"id": "po-1", "product": "pack", "tenant": "buyer"}
        code = {"code": voucher["code"], "tenant": "buyer"}
        async with world.context.write_lock:  # as a deletion has it
            asked = [
                asyncio.create_task(sent(world, "admin", "POST", path, 404, body))
                for path, body in ((ORDERS, order), (f"{VOUCHERS}/redeem", code))
            ]
            _, waiting = await asyncio.wait(asked, timeout=0.5)
            assert len(waiting) == 2
            await world.context.store.delete(Tenant, "buyer")
        await asyncio.gather(*asked)


async def test_a_tenant_with_an_order_is_not_deleted(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        await sent(world, "admin", "POST", "/api/v1/apply", 200, TENANT)
        await sent(world, "admin", "POST", PRODUCTS, 201, PACK)
        body = {"id": "po-1", "product": "pack", "tenant": "buyer"}
        await sent(world, "admin", "POST", ORDERS, 201, body)
        refused = await sent(world, "admin", "DELETE", "/api/v1/tenants/buyer", 409)
        assert "po-1" in refused["error"]["message"]
        await sent(world, "admin", "DELETE", f"{ORDERS}/po-1?tenant=buyer", 200)
        await sent(world, "admin", "DELETE", "/api/v1/tenants/buyer", 200)
        await sent(world, "admin", "POST", "/api/v1/apply", 200, TENANT)
        await sent(world, "admin", "GET", f"{ORDERS}/po-1?tenant=buyer", 404)
        taken = await sent(world, "admin", "POST", ORDERS, 409, body)
        assert taken["error"]["param"] == "id"


TENANT = {
    "apiVersion": "computility.io/v1alpha1",
    "kind": "Tenant",
    "metadata": {"name": "buyer"},
    "spec": {},
}


async def test_codes_of_vouchers_are_shown_once_and_used_once(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        key = {"Idempotency-Key": "once"}
        answers = [await world.request("admin", "POST", VOUCHERS, json=GIFT, headers=key) for _ in "ab"]
        [[first], [second]] = [answer.json()["items"] for answer in answers]
        assert second["code"] is None
        assert first == {**second, "code": first["code"]}
        assert first["code"] not in (tmp_path / "state.db").read_bytes().decode("latin-1")
        await sent(world, "acme-admin", "GET", VOUCHERS, 403)
        redeem = {"code": first["code"]}
        made = await sent(world, "acme-admin", "POST", f"{VOUCHERS}/redeem", 201, redeem)
        assert (made["left"], made["voucher"], made["price_microcredits"]) == (500, "gift-1", 0)
        assert (await sent(world, "acme-admin", "POST", f"{VOUCHERS}/redeem", 200, redeem))["repeated"]
        used = await sent(world, "globex-admin", "POST", f"{VOUCHERS}/redeem", 409, redeem)
        assert used["error"]["param"] == "code"
        [listed] = (await sent(world, "admin", "GET", VOUCHERS, 200))["items"]
        assert (listed["order"], listed["code"]) == ("acme/voucher:gift-1", None)
        await sent(world, "acme-admin", "GET", f"{ORDERS}/voucher:gift-1", 200)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (PRODUCTS, {**PACK, "amount": -1}, "amount"),
    (PRODUCTS, {**PACK, "amount": 0}, "amount"),
    (PRODUCTS, {**PACK, "amount": 1.5}, "amount"),
    (PRODUCTS, {**PACK, "amount": 10**16}, "amount"),
    (PRODUCTS, {**PACK, "term_days": 0}, "term_days"),
    (PRODUCTS, {**PACK, "unit": "requests"}, "unit"),
    (PRODUCTS, {**PACK, "currency": "CNY"}, "currency"),
    (PRODUCTS, {**PACK, "prices": []}, "prices"),
    (PRODUCTS, {**PACK, "prices": [{"microcredits": -1}]}, "prices.0.microcredits"),
    (PRODUCTS, {**PACK, "prices": [{"microcredits": 1}, {"microcredits": 2}]}, "prices.1.effective_from"),
    (
        PRODUCTS,
        {**PACK, "prices": [{"microcredits": 1, "effective_from": "someday"}]},
        "prices.0.effective_from",
    ),
    (PRODUCTS, {**PACK, "carry_percent": 20}, "carry_days"),
    (PRODUCTS, {**PACK, "carry_percent": 101, "carry_days": 1}, "carry_percent"),
    (PRODUCTS, {**PACK, "device_class": "nvidia/H100"}, "device_class"),
    (PRODUCTS, {**PACK, "tenant": "nobody"}, "tenant"),
    (PRODUCTS, {**PACK, "name": "voucher"}, "name"),
    (PRODUCTS, {**H100, "device_class": None}, "device_class"),
    (PRODUCTS, {**H100, "device_class": "nvidia"}, "device_class"),
    (PRODUCTS, {**H100, "device_class": "nobody/X1"}, "device_class"),
    (PRODUCTS, {**H100, "devices_millis": 0}, "devices_millis"),
    (PRODUCTS, {**H100, "amount": 5}, "amount"),
    (PRODUCTS, {**H100, "carry_percent": 5, "carry_days": 5}, "carry_days"),
    (ORDERS, {"product": "no-such"}, "product"),
    (ORDERS, {"product": "off"}, "product"),
    (ORDERS, {"product": "later"}, "product"),
    (ORDERS, {"product": "theirs"}, "product"),
    (ORDERS, {"product": "pack", "quantity": 0}, "quantity"),
    (ORDERS, {"product": "pack", "quantity": -1}, "quantity"),
    (ORDERS, {"product": "pack", "quantity": 1001}, "quantity"),
    (ORDERS, {"product": "dear", "quantity": 2}, "quantity"),
    (ORDERS, {"product": "pack", "begins": "2020-01-01"}, "begins"),
    (ORDERS, {"product": "pack", "begins": "2200-01-01"}, "begins"),
    (ORDERS, {"product": "pack", "queue": "default"}, "queue"),
    (ORDERS, {"product": "half", "queue": "no-such"}, "queue"),
    (ORDERS, {"product": "half"}, "queue"),
    (VOUCHERS, {**GIFT, "microcredits": 0}, "microcredits"),
    (VOUCHERS, {**GIFT, "redeem_until": "2020-01-01"}, "redeem_until"),
    (VOUCHERS, {**GIFT, "redeem_until": "soon"}, "redeem_until"),
    (VOUCHERS, {**GIFT, "count": 101}, "count"),
    (VOUCHERS, {**GIFT, "term_days": 4000}, "term_days"),
    (VOUCHERS, {**GIFT, "tenant": "nobody"}, "tenant"),
    (f"{VOUCHERS}/redeem", {"code": "vc-none"}, "code"),
    (f"{VOUCHERS}/redeem", {"code": "two words"}, "code"),
]


async def test_bad_input_is_refused_with_its_path(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        for name, change in (
            ("pack", {}),
            ("off", {"on_shelf": False}),
            ("later", {"prices": [{"microcredits": 1, "effective_from": "2190-01-01"}]}),
            ("theirs", {"tenant": "globex"}),
            ("dear", {"prices": [{"microcredits": 10**15}]}),
        ):
            await sent(world, "admin", "POST", PRODUCTS, 201, {**PACK, "name": name, **change})
        await sent(world, "admin", "POST", PRODUCTS, 201, H100)
        for path, body, param in REFUSED:
            given = {"id": "po", "tenant": "acme", **body} if path == ORDERS else body
            given = {"tenant": "acme", **given} if path.endswith("redeem") else given
            refused = await sent(world, "admin", "POST", path, 400, given)
            assert refused["error"]["param"] == param, (path, body, refused)
            assert refused["error"]["message"].startswith(param), (path, body, refused)


async def test_usage_is_told_in_card_hours_of_the_reference_device(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        held = {
            "kind": "device",
            "device_class": "nvidia/H100-SXM",
            "quantities": {"device_seconds": 3600},
        }
        await post_usage(world, usage_event("held", model="", **held), usage_event("asked"))
        report = await sent(world, "acme-admin", "GET", "/api/v1/usage?group_by=kind", 200)
        assert report["compute_unit"] == "nvidia/A100"
        found = {row["kind"]: row["compute_unit_millis"] for row in report["rows"]}
        assert found == {"device": 3170, "inference": 0}
        assert report["total"]["compute_unit_millis"] == 3170
