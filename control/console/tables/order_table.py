"""Products, orders and vouchers as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from common.units import format_credits
from control.console.output import print_table
from control.console.tables.bars import bar

_PRODUCTS = ("NAME", "GRANTS", "FOR", "DAYS", "PRICE", "LATER", "ONLY FOR", "")
_ORDERS = ("ID", "TENANT", "PRODUCT", "PRICE", "GRANTED", "USED", "LEFT", "UNTIL", "STATE")
_VOUCHERS = ("NAME", "CREDITS", "REDEEM UNTIL", "DAYS", "ONLY FOR", "ORDER", "")
_UNITS = {"tokens": "tokens", "trained_tokens": "trained tokens", "device_seconds": "device-seconds"}
SECONDS_PER_HOUR, MILLIS = 3600, 1000


def print_products(out: Console, items: Sequence[Mapping[str, Any]]) -> None:
    """One row for each; what is off the shelf is marked."""
    if not items:
        out.print("there are no products that you may order", style="dim")
        return
    rows = [
        [
            one["name"],
            _grants(one),
            ", ".join(one["models"]) or one["device_class"] or "any",
            one["term_days"],
            "-" if one["microcredits"] is None else format_credits(one["microcredits"]),
            f"{one['carry_percent']} %, {one['carry_days']} days" if one["carry_days"] else "-",
            one["tenant"] or "-",
            "" if one["on_shelf"] else "off the shelf",
        ]
        for one in items
    ]
    print_table(_PRODUCTS, rows, out)


def print_orders(out: Console, items: Sequence[Mapping[str, Any]]) -> None:
    """One row for each, with a bar of what is used."""
    if not items:
        out.print("there are no orders that you may see", style="dim")
        return
    rows = [
        [
            one["id"],
            one["tenant"],
            one["product"],
            format_credits(one["price_microcredits"]),
            amount_of(one, "granted"),
            bar(one["used"], one["granted"]),
            amount_of(one, "left"),
            (one["carried_until"] or one["until"])[:16],
            one["state"],
        ]
        for one in items
    ]
    print_table(_ORDERS, rows, out)


def print_vouchers(out: Console, items: Sequence[Mapping[str, Any]]) -> None:
    """One row for each, with its code where it has just been issued."""
    if not items:
        out.print("there are no vouchers", style="dim")
        return
    coded = any(one["code"] for one in items)
    rows = [
        [
            one["name"],
            *([one["code"]] if coded else []),
            format_credits(one["microcredits"]),
            one["redeem_until"][:16],
            one["term_days"],
            one["tenant"] or "-",
            one["order"] or "-",
            "voided" if one["voided"] else "",
        ]
        for one in items
    ]
    headers = [_VOUCHERS[0], *(["CODE (shown once)"] if coded else []), *_VOUCHERS[1:]]
    print_table(headers, rows, out)


def amount_of(order: Mapping[str, Any], name: str) -> str:
    """``granted``, ``used`` or ``left`` in its unit: money in credits, device time in hours."""
    amount = order[name]
    if order["unit"] == "microcredits":
        return f"{format_credits(amount)} credits"
    if order["unit"] == "device_seconds":
        return f"{amount / SECONDS_PER_HOUR:,.1f} device-hours"
    return f"{amount:,} {_UNITS[order['unit']]}"


def _grants(product: Mapping[str, Any]) -> str:
    if product["unit"] == "device_seconds":
        return f"{product['devices_millis'] / MILLIS:g} devices"
    return amount_of(product, "amount")
