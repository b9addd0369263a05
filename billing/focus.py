"""The FOCUS 1.2 export: cost rows whose quantity times unit price is their cost, and that sum to the bill."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import Any

from billing.core.allotments import COVERED
from billing.core.invoicing import Document, InvoiceLine, Period, is_of_order
from billing.store.charges import ChargeRow
from billing.store.columns import DAY_MS
from billing.store.order_charges import OrderCharge
from billing.store.series import ALL_OTHER, OTHER
from common.clock import parse_rfc3339, rfc3339
from common.errors import InvalidInput

GROUPS = (
    *("tenant", "project", "key", "user", "endpoint", "model_identity", "model", "kind", "device_class"),
    *("tags", "day"),
)
"""What the charges of ``rows_of`` are grouped by."""
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit"),
    *("ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost"),
    *("ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice"),
    *("PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName"),
    *("RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory"),
    *("ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId"),
    *("SubAccountId", "SubAccountName", "SubAccountType", "Tags"),
)
_EFFECTIVE = ("EffectiveCost", "PricingCurrencyEffectiveCost")
_COSTS = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost")
_PRICES = (
    *("ContractedUnitPrice", "ListUnitPrice"),
    *("PricingCurrencyContractedUnitPrice", "PricingCurrencyListUnitPrice"),
)
DECIMALS = (*_COSTS, *_PRICES)
TIMES = ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart")
QUANTITIES = ("ConsumedQuantity", "PricingQuantity")
PLACES = 12
"""A price is whole micro-credits for a million units: 12 places hold every product exactly."""
_METERS: Mapping[str, str] = {
    "prompt_tokens": "Input Tokens",
    "cached_tokens": "Cached Input Tokens",
    "completion_tokens": "Output Tokens",
    "trained_tokens": "Trained Tokens",
    "device_seconds": "Device Seconds",
}
_SERVICES: Mapping[str, tuple[str, str, str]] = {
    "inference": ("AI and Machine Learning", "Generative AI", "Inference"),
    "training": ("AI and Machine Learning", "Generative AI", "Fine-tuning"),
    "device": ("Compute", "Other (Compute)", "Devices"),
}
_KINDS: Mapping[str, str] = {"trained_tokens": "training", "device_seconds": "device"}
ISSUER = "Computility"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Row = dict[str, Any]
"""Column -> text or ``Decimal``; None where it does not apply."""


@dataclass(frozen=True)
class Bill:
    """A tenant's month: ``display_name`` (empty without one) and the documents issued for it by now."""

    tenant: str
    display_name: str
    period: Period
    documents: Sequence[Document]
    currency: str

    @property
    def provisional(self) -> str:
        """What stands for the document that is to bill what none has billed yet."""
        return f"PROVISIONAL-{self.period.first_day}"


def rows_of(bill: Bill, charges: Sequence[ChargeRow], ordered: Sequence[OrderCharge] = ()) -> Iterator[Row]:
    """The rows of a tenant's month; ``charges`` are all that the ledger has of it, grouped by ``GROUPS``, and
    ``ordered`` what was charged for orders.

    Those that name a document add up to it, and all to the charges. What comes to a document by other ways
    than quantity times price, as the rounding of events, is a row of its own: an adjustment.
    """
    first = bill.documents[0] if bill.documents else None
    exact = Decimal(0)
    for row in _charged_rows(bill, charges, ordered, first):
        exact += row["BilledCost"]
        yield row
    charged = sum(one.microcredits for one in charges) + sum(one.microcredits for one in ordered)
    rest = charged
    for document in bill.documents:
        rest -= document.microcredits
    owed = first.microcredits if first else charged
    yield from _adjusted(bill, first, _credits(owed) - exact, "rounding, and what later documents settle")
    for document in bill.documents[1:]:
        yield from _corrections(bill, document)
    if first is not None:
        yield from _adjusted(bill, None, _credits(rest), "not yet billed by any document")


def _charged_rows(
    bill: Bill, charges: Sequence[ChargeRow], ordered: Sequence[OrderCharge], first: Document | None
) -> Iterator[Row]:
    for charge in charges:
        yield _usage_row(bill, charge, first)
    for one in ordered:
        yield _order_row(bill, one, first)


def _corrections(bill: Bill, document: Document) -> Iterator[Row]:
    exact = Decimal(0)
    for line in document.lines:
        row = _correction_row(bill, document, line)
        exact += row["BilledCost"]
        yield row
    yield from _adjusted(bill, document, _credits(document.microcredits) - exact, "rounding")


def _usage_row(bill: Bill, charge: ChargeRow, document: Document | None) -> Row:
    group, price = charge.group, charge.price
    row = _row(bill, document)
    row.update(_where(bill, group), ChargeCategory="Usage")
    rate = price.item.microcredits_per_million if price else 0
    if charge.meter.startswith(COVERED):
        assert price is not None
        return _credited(row, f"Paid by order {price.book}", group["project"], charge.microcredits)
    model = group["model_identity"] or group["model"]
    _price(row, group["project"], model, group["device_class"], charge.meter, charge.quantity, rate)
    row["SkuPriceId"] = _price_id(row, price.book if price else "", price.version if price else 0, rate)
    return row


def _where(bill: Bill, group: Mapping[str, str]) -> Row:
    """On which day, by what, and for whom."""
    begin_ms = parse_rfc3339(f"{group['day']}T00:00:00Z")
    return {
        "ChargePeriodStart": rfc3339(max(begin_ms, bill.period.begin_ms)),
        "ChargePeriodEnd": rfc3339(min(begin_ms + DAY_MS, bill.period.end_ms)),
        "ResourceId": group["endpoint"] or None,
        "ResourceName": group["endpoint"] or None,
        "ResourceType": "Endpoint" if group["endpoint"] else None,
        "Tags": _tags(group),
        **_service(group["kind"]),
    }


def _correction_row(bill: Bill, document: Document, line: InvoiceLine) -> Row:
    key = line.key
    row = _row(bill, document)
    if is_of_order(key):
        row.update(_service("inference"), ChargeClass="Correction")
        return _credited(row, f"{key.meter} {key.book}", key.project, line.microcredits)
    rate = key.microcredits_per_million or 0
    row.update(ChargeCategory="Usage", ChargeClass="Correction")
    _price(row, key.project, key.model, key.device_class, key.meter, line.quantity, rate)
    row.update(_service("device" if key.meter == "device_seconds" else "inference"))
    row["SkuPriceId"] = _price_id(row, key.book, key.version, rate)
    return row


def _price_id(row: Row, book: str, version: int, rate: int) -> str:
    """A price is of one SKU, so it names it."""
    return f"{row['SkuId']}/{book}/{version}/{rate}" if book else f"{row['SkuId']}/none"


def _order_row(bill: Bill, charge: OrderCharge, document: Document | None) -> Row:
    order, name = charge.order, charge.order.allotment.id
    row = _row(bill, document)
    row.update(_service(_KINDS.get(order.product.unit, "inference")))
    row.update(ChargePeriodStart=rfc3339(charge.at_ms), ChargePeriodEnd=rfc3339(charge.at_ms + 1))
    if charge.is_refund:
        return _credited(row, f"Refund of order {name}", "", charge.microcredits)
    row.update(
        ChargeCategory="Purchase",
        ChargeFrequency="One-Time",
        ChargeDescription=f"Order {name}: {order.product.name}",
        PricingQuantity=_decimal(order.pieces),
        PricingUnit="Pieces",
        PricingCategory="Standard",
        SkuId=order.product.name,
        SkuMeter="Pieces",
        SkuPriceId=f"{order.product.name}/{order.ordered_ms}",
    )
    row.update(dict.fromkeys(_PRICES, _credits(charge.microcredits // order.pieces)))
    row.update(dict.fromkeys(_COSTS, _credits(charge.microcredits)))
    row.update(dict.fromkeys(_EFFECTIVE, Decimal(0)))  # as FOCUS has it of what covers later usage
    return row


def _credited(row: Row, why: str, project: str, microcredits: int) -> Row:
    """An amount without a price of its own: what an order has paid for, or what is given back for it."""
    row.update(ChargeCategory="Credit", ChargeDescription=why)
    if project:
        row.update(_of_project(project))
    row.update(dict.fromkeys(_COSTS, _credits(microcredits)))
    return row


def _adjusted(bill: Bill, document: Document | None, amount: Decimal, why: str) -> Iterator[Row]:
    if not amount:
        return
    row = _row(bill, document)
    row.update(_service("inference"), ChargeCategory="Adjustment", ChargeDescription=f"Adjustment: {why}")
    row.update(dict.fromkeys(_COSTS, amount))
    yield row


def _row(bill: Bill, document: Document | None) -> Row:
    """What all rows of a bill have."""
    begin, end = rfc3339(bill.period.begin_ms), rfc3339(bill.period.end_ms)
    row: Row = dict.fromkeys(COLUMNS)
    row.update(
        BillingAccountId=bill.tenant,
        BillingAccountName=_name_of(bill),
        BillingAccountType="Tenant",
        BillingCurrency=bill.currency,
        BillingPeriodStart=begin,
        BillingPeriodEnd=end,
        ChargePeriodStart=begin,
        ChargePeriodEnd=end,
        ChargeFrequency="Usage-Based",
        InvoiceId=document.name if document else bill.provisional,
        InvoiceIssuerName=ISSUER,
        PricingCurrency=bill.currency,
        ProviderName=ISSUER,
        PublisherName=ISSUER,
    )
    return row


def _name_of(bill: Bill) -> str:
    """FOCUS has ASCII only: who is called otherwise is named by the tenant's own name."""
    return bill.display_name if bill.display_name and bill.display_name.isascii() else bill.tenant


def _price(
    row: Row, project: str, model: str, device_class: str, meter: str, quantity: int, rate: int
) -> None:
    """``rate`` is micro-credits for a million units."""
    unit = "Seconds" if meter == "device_seconds" else "Tokens"
    sold = _ascii(device_class if meter == "device_seconds" else model)
    row.update(
        ChargeDescription=f"{_METERS[meter]} of {sold or 'unknown'}",
        ConsumedQuantity=_decimal(quantity),
        ConsumedUnit=unit,
        PricingQuantity=_decimal(quantity),
        PricingUnit=unit,
        PricingCategory="Standard",
        SkuId=f"{sold}/{meter}",
        SkuMeter=_METERS[meter],
    )
    row.update(_of_project(project))
    row.update(dict.fromkeys(_PRICES, Decimal(rate).scaleb(-PLACES)))
    row.update(dict.fromkeys(_COSTS, Decimal(rate * quantity).scaleb(-PLACES)))


def _of_project(name: str) -> Row:
    return {"SubAccountId": name, "SubAccountName": name, "SubAccountType": "Project"}


def _service(kind: str) -> Row:
    category, subcategory, name = _SERVICES[kind]
    return {"ServiceCategory": category, "ServiceSubcategory": subcategory, "ServiceName": name}


def _tags(group: Mapping[str, str]) -> str:
    """The tags of requests, and with a prefix of ours who asked."""
    own = {"computility/key": group["key"], "computility/user": group["user"]}
    told = {"computility/tags": OTHER} if group["tags"] == ALL_OTHER else json.loads(group["tags"] or "{}")
    return json.dumps({**told, **{name: value for name, value in own.items() if value}})


def _ascii(text: str) -> str:
    """What clients call a model may hold any character."""
    return text.encode("ascii", "backslashreplace").decode()


def _decimal(quantity: int) -> Decimal:
    """With a place: whoever reads the file takes a column of whole numbers for one of integers."""
    return Decimal(10 * quantity).scaleb(-1)


def _credits(microcredits: int) -> Decimal:
    return Decimal(microcredits).scaleb(-6)


def csv_of(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of the file, its header first."""
    yield _line(COLUMNS)
    for row in rows:
        yield _line([_text(row[name]) for name in COLUMNS])


def _line(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _text(value: Any) -> str:
    """As a cell. A text that a spreadsheet would take for a formula gets an apostrophe: what tenants are
    called, or call a model, is their own."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = value or ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def parquet_of(rows: Iterable[Row]) -> bytes:
    """The rows as a Parquet file. Raises ``InvalidInput`` where pyarrow is not installed."""
    try:
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise InvalidInput("format: parquet needs pyarrow, which is not installed", param="format") from error
    kinds = {
        **dict.fromkeys(COLUMNS, pa.string()),
        **dict.fromkeys(TIMES, pa.timestamp("ms", tz="UTC")),
        **dict.fromkeys(QUANTITIES, pa.decimal128(38, 1)),
        **dict.fromkeys(DECIMALS, pa.decimal128(38, PLACES)),
    }
    made = [{**row, **{name: parse_rfc3339(row[name]) for name in TIMES}} for row in rows]
    table = pa.Table.from_pylist(made, schema=pa.schema(list(kinds.items())))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())
