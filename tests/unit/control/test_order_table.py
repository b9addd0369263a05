"""Products, orders and vouchers as people see them."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from control.console.tables.order_table import amount_of, print_orders, print_products, print_vouchers

ORDER = {
    "id": "po-1",
    "tenant": "acme",
    "product": "pack",
    "price_microcredits": 8_500_000,
    "unit": "tokens",
    "granted": 10_000_000,
    "used": 2_500_000,
    "left": 7_500_000,
    "until": "2027-01-31T00:00:00.000Z",
    "carried_until": None,
    "state": "active",
}
PRODUCT = {
    "name": "half",
    "unit": "device_seconds",
    "amount": 0,
    "devices_millis": 500,
    "models": [],
    "device_class": "nvidia/H100",
    "term_days": 30,
    "microcredits": None,
    "carry_percent": 0,
    "carry_days": 0,
    "tenant": None,
    "on_shelf": False,
}
VOUCHER = {
    "name": "spring-1",
    "code": "vc-1",
    "microcredits": 100_000_000,
    "redeem_until": "2027-06-01T00:00:00.000Z",
    "term_days": 365,
    "tenant": None,
    "order": None,
    "voided": None,
}


def shown(show: Callable[[Console, list[Any]], None], items: list[Any]) -> str:
    out = io.StringIO()
    show(Console(file=out, width=200), items)
    return out.getvalue()


@pytest.mark.parametrize(
    ("show", "item", "words"),
    [
        (print_orders, ORDER, ("po-1", "8.5", "10,000,000 tokens", "7,500,000 tokens", "25", "active")),
        (print_products, PRODUCT, ("half", "0.5 devices", "nvidia/H100", "off the shelf")),
        (print_products, {**PRODUCT, "carry_percent": 20, "carry_days": 30}, ("20 %, 30 days",)),
        (print_vouchers, VOUCHER, ("spring-1", "vc-1", "CODE (shown once)", "2027-06-01T00:00")),
        (print_vouchers, {**VOUCHER, "voided": "2027-01-01"}, ("voided",)),
    ],
)
def test_a_row_says(show: Callable[[Console, list[Any]], None], item: Any, words: tuple[str, ...]) -> None:
    text = shown(show, [item])
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize("show", [print_orders, print_products, print_vouchers])
def test_where_there_is_nothing_it_says_so(show: Callable[[Console, list[Any]], None]) -> None:
    assert shown(show, []).startswith("there are no")


def test_codes_are_a_column_only_while_they_are_told() -> None:
    assert "CODE" not in shown(print_vouchers, [{**VOUCHER, "code": None}])


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        ("tokens", 1234, "1,234 tokens"),
        ("trained_tokens", 1234, "1,234 trained tokens"),
        ("device_seconds", 5400, "1.5 device-hours"),
        ("microcredits", 1_500_000, "1.500000 credits"),
    ],
)
def test_amounts_are_in_their_units(unit: str, amount: int, text: str) -> None:
    assert amount_of({"unit": unit, "used": amount}, "used") == text
