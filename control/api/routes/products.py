"""Products: what tenants can order. Platform-admins write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from billing.core.allotments import AllotmentUnit
from billing.core.products import MAX_PRICES, VOUCHER, Product, ShelfPrice
from billing.store.shelf import Shelf
from common.clock import rfc3339
from common.errors import InvalidInput
from common.resources import Tenant
from common.resources.fields import AdapterName, Name, Text
from common.resources.pool import DeviceClass
from common.vocabulary import MAX_LIST, NAME_CHARACTERS
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.usage_scope import time_ms
from control.context import ControlContext

router = APIRouter(
    prefix="/api/v1/products",
    tags=["usage"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)
ProductName = Annotated[str, Path(min_length=1, max_length=NAME_CHARACTERS)]


class ShelfPriceBody(BaseModel):
    """What a piece costs from ``effective_from`` on (null = ever), until the next price begins."""

    model_config = ConfigDict(extra="forbid")

    effective_from: str | None = Field(None, max_length=64, description="RFC 3339, a date or milliseconds")
    microcredits: StrictInt


class ProductRequest(BaseModel):
    """A product; one of the same name is replaced, and orders keep it as it was."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    unit: AllotmentUnit
    term_days: StrictInt = Field(description="how long an order holds, in days of 24 hours")
    prices: list[ShelfPriceBody] = Field(max_length=MAX_PRICES, description="of a piece, in their order")
    amount: StrictInt = Field(0, description="units in a piece; not for devices")
    display_name: Text = ""
    models: list[AdapterName] = Field(
        default_factory=list, max_length=MAX_LIST, description="project/name, or a shared name; empty = any"
    )
    device_class: DeviceClass | None = Field(None, description="vendor/model")
    devices_millis: StrictInt = Field(0, description="thousandths of devices that a piece has all the time")
    carry_percent: StrictInt = Field(0, description="of the amount that may be used later, where it is left")
    carry_days: StrictInt = Field(0, description="how much later")
    tenant: Name | None = Field(None, description="only for this one; null = for all")
    on_shelf: StrictBool = True
    refundable: StrictBool = Field(True, description="what is unused is given back by a cancellation")


class ProductBody(ProductRequest):
    """``microcredits`` is the price of a piece now; null = not for sale yet."""

    model_config = ConfigDict(extra="ignore")

    microcredits: int | None


class ProductList(BaseModel):
    """By name."""

    items: list[ProductBody]


@router.post(
    "",
    response_model=ProductBody,
    status_code=201,
    summary="Put a product on the shelf, change it, or take it off",
    responses={200: {"model": ProductBody, "description": "It was there before"}},
)
async def post_product(
    request: Request, response: Response, caller: FromCaller, body: ProductRequest
) -> ProductBody:
    caller.require("products", "write")
    context = context_of(request)
    product = product_of(body)
    if product.tenant and await context.store.find(Tenant, product.tenant) is None:
        raise InvalidInput(f"tenant: there is no Tenant {product.tenant!r}", param="tenant")
    response.status_code = 201 if await _shelf(context).put(product) else 200
    return _body(product, context.clock.now_ms())


@router.get("", response_model=ProductList, summary="Products that can be ordered")
async def list_products(request: Request, caller: FromCaller) -> ProductList:
    """Platform-admins see those that are off the shelf, too."""
    context = context_of(request)
    found = await _shelf(context).products(_seen_by(caller))
    now_ms = context.clock.now_ms()
    return ProductList(items=[_body(one, now_ms) for one in found])


@router.get("/{name}", response_model=ProductBody, summary="A product")
async def get_product(request: Request, caller: FromCaller, name: ProductName) -> ProductBody:
    context = context_of(request)
    found = await _shelf(context).product(name, _seen_by(caller))
    return _body(found, context.clock.now_ms())


@router.delete("/{name}", response_model=ProductBody, summary="Delete a product; orders keep it as it was")
async def delete_product(request: Request, caller: FromCaller, name: ProductName) -> ProductBody:
    caller.require("products", "delete")
    context = context_of(request)
    return _body(await _shelf(context).remove(name), context.clock.now_ms())


def product_of(body: ProductRequest) -> Product:
    """Raises ``InvalidInput`` that names the field."""
    if body.name == VOUCHER:
        raise InvalidInput(f"name: {VOUCHER} is what vouchers are called", param="name")
    given: Mapping[str, Any] = body.model_dump(exclude={"prices", "models", "device_class", "tenant"})
    prices = [
        ShelfPrice(time_ms(f"prices.{place}.effective_from", one.effective_from) or 0, one.microcredits)
        for place, one in enumerate(body.prices)
    ]
    return Product(
        **given,
        prices=tuple(prices),
        models=tuple(body.models),
        device_class=body.device_class or "",
        tenant=body.tenant or "",
    )


def _body(product: Product, now_ms: int) -> ProductBody:
    content = product.to_dict()
    content["prices"] = [
        {
            "effective_from": rfc3339(one.from_ms) if one.from_ms else None,
            "microcredits": one.microcredits,
        }
        for one in product.prices
    ]
    content["tenant"], content["device_class"] = product.tenant or None, product.device_class or None
    return ProductBody(**content, microcredits=product.price_at(now_ms))


def _seen_by(caller: Caller) -> str | None:
    """Whose products the caller is shown; None = all."""
    caller.require("products", "read")
    return None if caller.principal.is_platform_admin else caller.principal.tenant or ""


def _shelf(context: ControlContext) -> Shelf:
    return Shelf(context.ledger.database, context.clock)
