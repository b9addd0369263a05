"""invoice, costs: bills, and the cost rows that sum to them."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from common.errors import InvalidInput
from common.units import format_credits
from control.cli.asking.options import OutputOption, session_of
from control.console.formats import Output
from control.console.output import console, print_document, print_table

_NUMBER = re.compile(r"(?:(?:INV|CRN)-)?0*([1-9]\d{0,14})", re.ASCII)
invoice_app = typer.Typer(help="Issue, list and show invoices and credit notes.", no_args_is_help=True)


@invoice_app.command()
def issue(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose bill.")],
    month: Annotated[str, typer.Option("--month", help="Which month, like 2026-03. It has to be over.")],
    timezone: Annotated[
        str, typer.Option("--timezone", help="Where its midnights are; one for all bills of a tenant.")
    ] = "UTC",
    output: OutputOption = Output.TABLE,
) -> None:
    """Bill what a tenant's month has not been billed for yet (platform-admin).

    The first document is an invoice. Doing it again bills what came late, or credits what was taken back;
    where there is nothing new, nothing is issued.

    Example: computility invoice issue acme --month 2026-03 --timezone Asia/Shanghai
    """
    with session_of(context).client() as client:
        issued = client.issue_invoice(tenant, month, timezone)
    if output in (Output.YAML, Output.JSON):
        print_document(issued, output)
    elif issued["document"] is None:
        names = ", ".join(issued["earlier"])
        console().print(
            f"nothing new to bill; billed by {names}" if names else "nothing to bill", style="dim"
        )
    else:
        _print_document(issued["document"])


@invoice_app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the invoices and credit notes that you may see.

    Example: computility invoice list --tenant acme
    """
    items: list[Any] = []
    with session_of(context).client() as client:
        while more := client.invoices(tenant, items[-1]["number"] if items else 0):
            items += more
    if output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
        return
    rows = [
        [
            one["name"],
            one["tenant"],
            one["period"]["first_day"],
            one["period"]["last_day"],
            one["issued"][:10],
            format_credits(one["microcredits"]),
        ]
        for one in items
    ]
    print_table(["NAME", "TENANT", "FROM", "TO", "ISSUED", "CREDITS"], rows)


@invoice_app.command()
def show(
    context: typer.Context,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="Like INV-000012, or 12.")],
    html: Annotated[bool, typer.Option("--html", help="Print a page, to be read or printed.")] = False,
    language: Annotated[str, typer.Option("--language", help="Of the page: en or zh.")] = "en",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show an invoice or a credit note.

    Example: computility invoice show INV-000012 --html --language zh > invoice.html
    """
    found = _NUMBER.fullmatch(number)
    if found is None:
        raise InvalidInput(f"NUMBER: {number!r} is none; write INV-000012 or 12", param="NUMBER")
    with session_of(context).client() as client:
        if html:
            sys.stdout.write(client.invoice_page(int(found[1]), language))
            return
        document = client.invoice(int(found[1]))
    if output in (Output.YAML, Output.JSON):
        print_document(document, output)
    else:
        _print_document(document)


def costs(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose costs.")],
    month: Annotated[str, typer.Option("--month", help="Which month, like 2026-03.")],
    timezone: Annotated[
        str, typer.Option("--timezone", help="Where its midnights are, as the invoices have it.")
    ] = "UTC",
    currency: Annotated[
        str, typer.Option("--currency", help="ISO 4217; one unit of it is what a credit costs.")
    ] = "USD",
) -> None:
    """Print a tenant's month as FOCUS 1.2 cost rows, in CSV.

    Rows that name an invoice add up to it.

    Example: computility costs acme --month 2026-03 --currency CNY
    """
    with session_of(context).client() as client:
        sys.stdout.write(client.focus(tenant, month, timezone, currency))


def _print_document(document: dict[str, Any]) -> None:
    period = document["period"]
    console().print(
        f"{document['name']}  {document['tenant']}  {period['first_day']} to {period['last_day']} "
        f"({period['zone']})",
        style="bold",
        markup=False,
        highlight=False,
    )
    rows: list[list[object]] = [
        [
            line["project"],
            line["model"] or line["device_class"],
            line["meter"],
            line["quantity"],
            line["book"] if _is_of_order(line["meter"]) else _credits(line["microcredits_per_million"]),
            format_credits(line["microcredits"]),
        ]
        for line in document["lines"]
    ]
    rows.append(["total", "", "", "", "", format_credits(document["microcredits"])])
    print_table(["PROJECT", "MODEL OR DEVICE", "METER", "QUANTITY", "PER MILLION OR ORDER", "CREDITS"], rows)


def _is_of_order(meter: str) -> bool:
    return meter.startswith(("order", "covered_"))


def _credits(microcredits: int | None) -> str:
    return "no price" if microcredits is None else format_credits(microcredits)
