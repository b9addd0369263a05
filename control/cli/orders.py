"""order: what is bought, and what is used of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from common.units import format_credits
from control.cli.asking.options import OutputOption, session_of
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.order_table import amount_of, print_orders

order_app = typer.Typer(help="Order products, and show what is used of orders.", no_args_is_help=True)
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Whose; unset = that of the key.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `order list` shows it.")]


@order_app.command()
def place(
    context: typer.Context,
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="As `product list` shows it.")],
    id_: Annotated[str, typer.Option("--id", help="Your word for it: the same again is placed once.")],
    quantity: Annotated[int, typer.Option("--quantity", min=1, help="How many pieces.")] = 1,
    begins: Annotated[
        str | None, typer.Option("--begins", help="When it begins to hold; unset = now.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", help="Whose quota devices raise; unset = the tenant's only one.")
    ] = None,
    tenant: TenantOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Order a product, at its price of now.

    Example: computility order place tokens-10m --id po-2027-01
    """
    said = {"id": id_, "product": product, "quantity": quantity}
    more = {"begins": begins, "queue": queue, "tenant": tenant}
    with session_of(context).client() as client:
        placed = client.place_order(said | {name: one for name, one in more.items() if one is not None})
    _tell("was ordered before:" if placed["repeated"] else "ordered", placed, output)


@order_app.command("list")
def list_(
    context: typer.Context,
    tenant: TenantOption = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List orders, with what is used of them.

    Example: computility order list --open
    """
    with session_of(context).client() as client:
        items = client.orders(tenant, open_only)
    if output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
    else:
        print_orders(console(), items)


@order_app.command()
def get(
    context: typer.Context, id_: IdArgument, tenant: TenantOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show an order.

    Example: computility order get po-2027-01
    """
    with session_of(context).client() as client:
        found = client.order(id_, tenant)
    if output in (Output.YAML, Output.JSON):
        print_document(found, output)
    else:
        print_orders(console(), [found])


@order_app.command()
def cancel(
    context: typer.Context, id_: IdArgument, tenant: TenantOption = None, output: OutputOption = Output.TABLE
) -> None:
    """End an order now; what is unused is given back, where its product says so.

    Example: computility order cancel po-2027-01
    """
    with session_of(context).client() as client:
        done = client.cancel_order(id_, tenant)
    _tell("was cancelled before:" if done["repeated"] else "cancelled", done, output)


def _tell(done: str, order: dict[str, Any], output: Output) -> None:
    if output in (Output.YAML, Output.JSON):
        print_document(order, output)
        return
    text = f"{done} {order['id']}: {amount_of(order, 'granted')} until {order['until'][:16]}"
    if order["state"] == "cancelled":
        text = f"{done} {order['id']}: {format_credits(order['refund_microcredits'])} credits are given back"
    console().print(text, markup=False, highlight=False)
