"""The part of the client that products, orders and vouchers are reached with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from common.client_sessions import SessionClient
from common.client_transport import Document, Documents


class OrderClient(SessionClient):
    """Calls to ``/api/v1/products``, ``/api/v1/orders`` and ``/api/v1/vouchers``."""

    def put_product(self, product: Mapping[str, Any]) -> Document:
        """Put a product on the shelf, or change it; parameters as of ``POST /api/v1/products``."""
        return self._write("POST", "/api/v1/products", product)

    def products(self) -> Documents:
        """Products that can be ordered; for platform-admins all."""
        items: Documents = self._read("/api/v1/products")["items"]
        return items

    def product(self, name: str) -> Document:
        """A product."""
        return self._read(f"/api/v1/products/{name}")

    def delete_product(self, name: str) -> Document:
        """Delete a product; orders keep it as it was."""
        return self._write("DELETE", f"/api/v1/products/{name}", None)

    def place_order(self, order: Mapping[str, Any]) -> Document:
        """Order a product; parameters as of ``POST /api/v1/orders``."""
        return self._write("POST", "/api/v1/orders", order)

    def orders(self, tenant: str | None = None, open_only: bool = False) -> Documents:
        """Orders, those that were placed last first."""
        params = {"tenant": tenant} if tenant else {}
        items: Documents = self._read("/api/v1/orders", open=open_only, **params)["items"]
        return items

    def order(self, id_: str, tenant: str | None = None) -> Document:
        """An order, and what is used of it."""
        params = {"tenant": tenant} if tenant else {}
        return self._read(f"/api/v1/orders/{quote(id_, safe='')}", **params)

    def cancel_order(self, id_: str, tenant: str | None = None) -> Document:
        """End an order now; what is unused is given back."""
        return self._write("DELETE", f"/api/v1/orders/{quote(id_, safe='')}", None, tenant=tenant)

    def issue_vouchers(self, wanted: Mapping[str, Any]) -> Documents:
        """New vouchers with their codes; parameters as of ``POST /api/v1/vouchers``."""
        items: Documents = self._write("POST", "/api/v1/vouchers", wanted)["items"]
        return items

    def vouchers(self) -> Documents:
        """Vouchers, without their codes."""
        items: Documents = self._read("/api/v1/vouchers")["items"]
        return items

    def void_voucher(self, name: str) -> Document:
        """Let a voucher be good no more."""
        return self._write("DELETE", f"/api/v1/vouchers/{quote(name, safe='')}", None)

    def redeem_voucher(self, code: str, tenant: str | None = None) -> Document:
        """The order that is made of a voucher."""
        body = {"code": code, **({"tenant": tenant} if tenant else {})}
        return self._write("POST", "/api/v1/vouchers/redeem", body)
