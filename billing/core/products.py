"""Products: what can be ordered, at which price from when on; and orders, which pin all of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from billing.core.allotments import UNITS, Allotment, AllotmentUnit
from common.errors import InvalidInput
from common.vocabulary import MAX_NUMBER, MAX_TIME_MS, quoted

DAY_MS = 24 * 3_600_000
MAX_TERM_DAYS = 3660
MAX_CARRY_DAYS = 366
MAX_PERCENT = 100
MAX_PRICES = 100
MAX_PIECES = 1000
MAX_DEVICES_MILLIS = 10**9
MILLIS = 1000
VOUCHER = "voucher"
"""The product of orders that are made of a voucher."""


@dataclass(frozen=True)
class ShelfPrice:
    """What a piece costs from ``from_ms`` on, until the next price begins."""

    from_ms: int
    microcredits: int


@dataclass(frozen=True)
class Product:
    """Something to be ordered by the piece. Raises ``InvalidInput`` that names the field.

    A piece grants ``amount`` of ``unit`` for ``term_days`` (of 24 hours) to usage of ``models`` (empty =
    any). One of devices grants ``devices_millis`` thousandths of ``device_class`` all the time, and has no
    ``amount``. Of what is unused at the end ``carry_percent`` of the grant holds for ``carry_days`` more.
    ``tenant``: for this one alone. What is not ``on_shelf`` cannot be ordered; what is not ``refundable``
    gives nothing back when it is cancelled.
    """

    name: str
    unit: AllotmentUnit
    term_days: int
    prices: tuple[ShelfPrice, ...]
    amount: int = 0
    display_name: str = ""
    models: tuple[str, ...] = ()
    device_class: str = ""
    devices_millis: int = 0
    carry_percent: int = 0
    carry_days: int = 0
    tenant: str = ""
    on_shelf: bool = True
    refundable: bool = True

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InvalidInput(
                f"unit: must be one of {', '.join(UNITS)}, not {quoted(self.unit)}", param="unit"
            )
        check_whole("term_days", self.term_days, 1, MAX_TERM_DAYS)
        self._check_grant()
        check_whole("carry_percent", self.carry_percent, 0, MAX_PERCENT)
        check_whole("carry_days", self.carry_days, 0, MAX_CARRY_DAYS)
        if (self.carry_percent > 0) != (self.carry_days > 0):
            raise InvalidInput(
                "carry_days: set it together with carry_percent, or neither", param="carry_days"
            )
        self._check_prices()

    def _check_grant(self) -> None:
        if self.unit != "device_seconds":
            check_whole("amount", self.amount, 1, MAX_NUMBER)
            for name in ("device_class", "devices_millis"):
                if getattr(self, name):
                    raise InvalidInput(f"{name}: only for the unit device_seconds", param=name)
            if self.models and self.unit == "microcredits":
                raise InvalidInput("models: money is for any; leave them out", param="models")
            return
        check_whole("devices_millis", self.devices_millis, 1, MAX_DEVICES_MILLIS)
        if "/" not in self.device_class:
            raise InvalidInput("device_class: must be one model, like nvidia/H100", param="device_class")
        if self.models or self.amount:
            name = "models" if self.models else "amount"
            raise InvalidInput(f"{name}: not for devices, which are granted by their time", param=name)
        if self.carry_days:
            raise InvalidInput(
                "carry_days: device time that has passed cannot be used later", param="carry_days"
            )

    def _check_prices(self) -> None:
        if not 1 <= len(self.prices) <= MAX_PRICES:
            raise InvalidInput(f"prices: from 1 to {MAX_PRICES}, not {len(self.prices)}", param="prices")
        for place, price in enumerate(self.prices):
            check_whole(f"prices.{place}.effective_from", price.from_ms, 0, MAX_TIME_MS)
            check_whole(f"prices.{place}.microcredits", price.microcredits, 0, MAX_NUMBER)
            if place and price.from_ms <= self.prices[place - 1].from_ms:
                path = f"prices.{place}.effective_from"
                raise InvalidInput(f"{path}: must be after that of the price before it", param=path)

    def price_at(self, at_ms: int) -> int | None:
        """Of a piece, in micro-credits; None before the first price begins."""
        begun = [price for price in self.prices if price.from_ms <= at_ms]
        return begun[-1].microcredits if begun else None

    @property
    def units(self) -> int:
        """What a piece grants. Of devices: all of their time, in whole seconds."""
        if self.unit != "device_seconds":
            return self.amount
        return max(1, self.devices_millis * self.term_days * DAY_MS // (MILLIS * MILLIS))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**vars(self), "prices": [dict(vars(one)) for one in self.prices], "models": list(self.models)}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Product:
        """What ``to_dict`` made."""
        prices = tuple(ShelfPrice(**one) for one in content["prices"])
        return Product(**{**content, "prices": prices, "models": tuple(content["models"])})


@dataclass(frozen=True)
class Order:
    """Pieces of a product as they were ordered; nothing in it ever changes. ``id`` is the client's word,
    ``by`` who ordered. It begins at ``begins_ms``, and costs what the product did at ``ordered_ms``.
    ``queue`` is whose quota devices raise; ``voucher`` the name of the voucher that it was made of."""

    id: str
    tenant: str
    tenant_uid: str
    product: Product
    pieces: int
    ordered_ms: int
    begins_ms: int
    by: str = ""
    queue: str = ""
    voucher: str = ""

    @property
    def price_microcredits(self) -> int:
        """Of all pieces, as of the moment of the order."""
        return (self.product.price_at(self.ordered_ms) or 0) * self.pieces

    @property
    def allotment(self) -> Allotment:
        """What it grants."""
        product, granted = self.product, self.product.units * self.pieces
        until_ms = self.begins_ms + product.term_days * DAY_MS
        return Allotment(
            id=f"{self.tenant}/{self.id}",
            tenant=self.tenant,
            unit=product.unit,
            granted=granted,
            price_microcredits=self.price_microcredits,
            from_ms=self.begins_ms,
            until_ms=until_ms,
            carried=granted * product.carry_percent // MAX_PERCENT,
            carried_until_ms=until_ms + product.carry_days * DAY_MS if product.carry_days else 0,
            models=product.models,
            device_class=product.device_class,
        )

    def check(self) -> Order:
        """The order itself. Raises ``InvalidInput`` where it is more than the ledger can hold."""
        check_whole("quantity", self.pieces, 1, MAX_PIECES)
        for what, value in (("units", self.allotment.granted), ("micro-credits", self.price_microcredits)):
            if value > MAX_NUMBER:
                raise InvalidInput(f"quantity: {value} {what} are more than {MAX_NUMBER}", param="quantity")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**vars(self), "product": self.product.to_dict()}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Order:
        """What ``to_dict`` made."""
        named = {one.name: content[one.name] for one in fields(Order)}
        return Order(**{**named, "product": Product.from_dict(content["product"])})


def check_whole(path: str, value: object, least: int, most: int) -> None:
    """Raises ``InvalidInput`` that names the path."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(
            f"{path}: must be a whole number from {least} to {most}, not {quoted(value)}", param=path
        )
