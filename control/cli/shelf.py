"""product, voucher: what tenants can order, and money that is given with a code."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from common.errors import InvalidInput
from common.units import parse_fixed
from control.cli.asking.options import OutputOption, session_of
from control.cli.orders import TenantOption
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.order_table import amount_of, print_products, print_vouchers

CREDIT_PLACES, MILLI_PLACES = 6, 3
product_app = typer.Typer(help="Write and list what tenants can order.", no_args_is_help=True)
voucher_app = typer.Typer(help="Issue vouchers, and redeem them.", no_args_is_help=True)
ProductArgument = Annotated[str, typer.Argument(metavar="PRODUCT", help="Its name.")]
_WHERE = {
    "tokens": ("amount", 0),
    "trained_tokens": ("amount", 0),
    "microcredits": ("amount", CREDIT_PLACES),
    "device_seconds": ("devices_millis", MILLI_PLACES),
}
"""Unit -> the field that says how much, and the places that it is written with."""


@product_app.command()
def put(
    context: typer.Context,
    name: ProductArgument,
    unit: Annotated[
        str, typer.Option("--unit", help="tokens, trained_tokens, device_seconds or microcredits.")
    ],
    amount: Annotated[
        str, typer.Option("--amount", help="In a piece: tokens, credits, or devices (like 0.5).")
    ],
    price: Annotated[
        list[str], typer.Option("--price", help="Credits for a piece; CREDITS@FROM from a time on. Several.")
    ],
    days: Annotated[int, typer.Option("--days", min=1, help="How long an order holds.")] = 30,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Only for this one: project/name, or a shared name.")
    ] = None,
    device_class: Annotated[
        str | None, typer.Option("--device-class", help="Of devices, like nvidia/H100.")
    ] = None,
    carry: Annotated[
        str | None, typer.Option("--carry", help="PERCENT:DAYS, of what is unused that may be used later.")
    ] = None,
    display_name: Annotated[str, typer.Option("--display-name", help="For people.")] = "",
    tenant: Annotated[str | None, typer.Option("--only-for", help="Only this tenant can order it.")] = None,
    refundable: Annotated[
        bool, typer.Option("--refundable/--no-refund", help="Whether a cancellation gives back the unused.")
    ] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a product on the shelf, in place of the one of its name (platform-admin). Orders keep theirs.

    Examples: computility product put tokens-10m --unit tokens --amount 10000000 --price 8.5 --carry 20:30;
    computility product put half --unit device_seconds --amount 0.5 --device-class nvidia/H100 --price 900
    """
    if unit not in _WHERE:
        raise InvalidInput(f"--unit: one of {', '.join(_WHERE)}, not {unit[:40]!r}", param="--unit")
    field, places = _WHERE[unit]
    percent, _, carry_days = (carry or "0:0").partition(":")
    said: dict[str, Any] = {
        "name": name,
        "unit": unit,
        field: _fixed(amount, places, "--amount"),
        "prices": [_price(one) for one in price],
        "term_days": days,
        "models": model or [],
        "device_class": device_class,
        "carry_percent": _fixed(percent, 0, "--carry"),
        "carry_days": _fixed(carry_days or "0", 0, "--carry"),
        "display_name": display_name,
        "tenant": tenant,
        "refundable": refundable,
    }
    with session_of(context).client() as client:
        _show([client.put_product(said)], output)


@product_app.command("list")
def list_products(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show what can be ordered, and at which price.

    Example: computility product list
    """
    with session_of(context).client() as client:
        _show(client.products(), output)


@product_app.command("shelve")
def shelve(
    context: typer.Context,
    name: ProductArgument,
    off: Annotated[bool, typer.Option("--off", help="Take it off the shelf.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a product be ordered again, or (--off) no more (platform-admin). Orders go on.

    Example: computility product shelve tokens-10m --off
    """
    with session_of(context).client() as client:
        found = client.product(name)
        del found["microcredits"]
        _show([client.put_product(found | {"on_shelf": not off})], output)


@product_app.command("delete")
def delete(context: typer.Context, name: ProductArgument) -> None:
    """Delete a product (platform-admin); orders keep it as it was.

    Example: computility product delete tokens-10m
    """
    with session_of(context).client() as client:
        client.delete_product(name)
    console().print(f"product {name} deleted", markup=False, highlight=False)


@voucher_app.command()
def issue(
    context: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Vouchers are called ID-1, ID-2, …")],
    credits_: Annotated[str, typer.Option("--credits", help="Of each, like 100.")],
    until: Annotated[str, typer.Option("--redeem-until", help="Later the code is worth nothing.")],
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 1,
    days: Annotated[int, typer.Option("--days", min=1, help="How long the money can be used.")] = 365,
    tenant: Annotated[str | None, typer.Option("--only-for", help="Only this tenant can redeem it.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Issue vouchers (platform-admin). Their codes are shown now and never again.

    Example: computility voucher issue spring --credits 100 --redeem-until 2027-06-01 --count 3
    """
    said = {
        "id": id_,
        "count": count,
        "microcredits": _fixed(credits_, CREDIT_PLACES, "--credits"),
        "redeem_until": until,
        "term_days": days,
        "tenant": tenant,
    }
    with session_of(context).client() as client:
        _show_vouchers(client.issue_vouchers(said), output)


@voucher_app.command("list")
def list_vouchers(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the vouchers that were issued, without their codes (platform-admin).

    Example: computility voucher list
    """
    with session_of(context).client() as client:
        _show_vouchers(client.vouchers(), output)


@voucher_app.command()
def void(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="Like spring-2.")]
) -> None:
    """Let a voucher that is not redeemed be good no more (platform-admin).

    Example: computility voucher void spring-2
    """
    with session_of(context).client() as client:
        client.void_voucher(name)
    console().print(f"voucher {name} voided", markup=False, highlight=False)


@voucher_app.command()
def redeem(
    context: typer.Context,
    code: Annotated[str, typer.Argument(metavar="CODE", help="As it was given.")],
    tenant: TenantOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Redeem a voucher: from now on its money is used before the tenant's own.

    Example: computility voucher redeem vc-…
    """
    with session_of(context).client() as client:
        order = client.redeem_voucher(code, tenant)
    if output in (Output.YAML, Output.JSON):
        print_document(order, output)
        return
    done = "was redeemed before:" if order["repeated"] else "redeemed"
    text = f"{done} {order['voucher']}: {amount_of(order, 'left')} until {order['until'][:16]}"
    console().print(text, markup=False, highlight=False)


def _show(items: list[dict[str, Any]], output: Output) -> None:
    if output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
    else:
        print_products(console(), items)


def _show_vouchers(items: list[dict[str, Any]], output: Output) -> None:
    if output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
    else:
        print_vouchers(console(), items)


def _price(text: str) -> dict[str, Any]:
    """``8.5``, or ``8.5@2027-01-01``."""
    amount, _, begins = text.partition("@")
    return {"effective_from": begins or None, "microcredits": _fixed(amount, CREDIT_PLACES, "--price")}


def _fixed(text: str, places: int, option: str) -> int:
    try:
        return parse_fixed(text, places)
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}", param=option) from error
