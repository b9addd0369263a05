"""Vouchers: money that is given with a code. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.core.products import MAX_TERM_DAYS, VOUCHER, Order, Product, ShelfPrice, check_whole
from common.vocabulary import MAX_NUMBER, MAX_TIME_MS

MOST_AT_ONCE = 100


@dataclass(frozen=True)
class Voucher:
    """``microcredits`` for whoever redeems it before ``redeem_until_ms`` (``tenant``: only this one), for
    usage in ``term_days`` from then on. Raises ``InvalidInput`` that names the field."""

    name: str
    microcredits: int
    redeem_until_ms: int
    term_days: int
    tenant: str = ""

    def __post_init__(self) -> None:
        check_whole("microcredits", self.microcredits, 1, MAX_NUMBER)
        check_whole("redeem_until", self.redeem_until_ms, 0, MAX_TIME_MS)
        check_whole("term_days", self.term_days, 1, MAX_TERM_DAYS)

    def order(self, tenant: str, tenant_uid: str, at_ms: int, by: str) -> Order:
        """What is made of it by redeeming it."""
        product = Product(
            VOUCHER, "microcredits", self.term_days, (ShelfPrice(0, 0),), self.microcredits, refundable=False
        )
        id_ = f"{VOUCHER}:{self.name}"
        return Order(id_, tenant, tenant_uid, product, 1, at_ms, at_ms, by, voucher=self.name)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dict(vars(self))

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Voucher:
        """What ``to_dict`` made."""
        return Voucher(**content)
