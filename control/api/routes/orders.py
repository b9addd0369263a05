"""Orders: what a tenant has bought, what is used of it, and what is given back; and vouchers, which become
orders when they are redeemed."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from billing.core.allotments import AllotmentUnit
from billing.core.products import DAY_MS, Order, Product
from billing.store.orders import LIST_LIMIT, Orders, Placed, State
from billing.store.shelf import Shelf
from common.clock import rfc3339
from common.errors import InvalidInput, NotFound
from common.resources import Tenant
from common.resources.fields import Name, Word
from common.vocabulary import LONG_NAME_CHARACTERS
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.usage_scope import time_ms
from control.context import ControlContext
from control.core.permissions import Verb

router = APIRouter(
    prefix="/api/v1/orders",
    tags=["usage"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)
OrderId = Annotated[str, Path(min_length=1, max_length=LONG_NAME_CHARACTERS)]
MOST_AHEAD_DAYS = 366


class OrderRequest(BaseModel):
    """An order. It costs what the product does now."""

    model_config = ConfigDict(extra="forbid")

    id: Word = Field(description="the client's; the same again is placed once")
    product: Name
    quantity: StrictInt = Field(1, description="how many pieces")
    tenant: Name | None = Field(None, description="needed by platform-admins")
    begins: str | None = Field(None, max_length=64, description="RFC 3339; null = now")
    queue: Name | None = Field(None, description="of the tenant, whose quota devices raise")


class OrderBody(BaseModel):
    """An order as it stands: of ``granted`` units ``used`` are taken and ``left`` can be taken now, or later.
    ``repeated``: it was there before, and nothing was written now. Times are RFC 3339; null = does not
    apply."""

    id: str
    tenant: str
    product: str
    quantity: int
    unit: AllotmentUnit
    granted: int
    used: int
    left: int
    price_microcredits: int
    refund_microcredits: int
    state: State
    ordered: str
    begins: str
    until: str
    carried_until: str | None
    ended: str | None
    models: list[str]
    device_class: str | None
    devices_millis: int
    queue: str | None
    voucher: str | None
    by: str
    repeated: bool


class OrderList(BaseModel):
    """Those that were placed last first."""

    items: list[OrderBody]


class Whose(NamedTuple):
    """A tenant that the caller may act for."""

    tenant: str
    uid: str
    born_ms: int
    queues: tuple[str, ...]


@router.post(
    "",
    response_model=OrderBody,
    status_code=201,
    summary="Order a product",
    responses={200: {"model": OrderBody, "description": "It was placed before"}},
)
async def post_order(
    request: Request, response: Response, caller: FromCaller, body: OrderRequest
) -> OrderBody:
    context = context_of(request)
    async with context.write_lock:  # nobody deletes the tenant meanwhile
        whose = await whose_orders(caller, context, "write", body.tenant)
        order = await _order_of(context, caller, whose, body)
        placed = await orders_of(context).place(order)
    response.status_code = 200 if placed.repeated else 201
    return body_of(placed, context.clock.now_ms())


@router.get("", response_model=OrderList, summary="Orders, those that were placed last first")
async def list_orders(
    request: Request,
    caller: FromCaller,
    tenant: str | None = None,
    open: Annotated[bool, Query(description="only those that are neither cancelled nor closed")] = False,
    limit: Annotated[int, Query(ge=1, le=LIST_LIMIT)] = LIST_LIMIT,
) -> OrderList:
    context = context_of(request)
    caller.require("orders", "read")
    born_ms = 0
    if not caller.principal.is_platform_admin:
        whose = await whose_orders(caller, context, "read", tenant)
        tenant, born_ms = whose.tenant, whose.born_ms
    found = await orders_of(context).latest(tenant, born_ms, open, limit)
    now_ms = context.clock.now_ms()
    return OrderList(items=[body_of(one, now_ms) for one in found])


@router.get("/{id}", response_model=OrderBody, summary="An order, and what is used of it")
async def get_order(
    request: Request, caller: FromCaller, id: OrderId, tenant: str | None = None
) -> OrderBody:
    context = context_of(request)
    whose = await whose_orders(caller, context, "read", tenant)
    found = await orders_of(context).find(whose.tenant, whose.uid, id)
    return body_of(found, context.clock.now_ms())


@router.delete("/{id}", response_model=OrderBody, summary="Cancel an order; what is unused is given back")
async def cancel_order(
    request: Request, caller: FromCaller, id: OrderId, tenant: str | None = None
) -> OrderBody:
    """Usage from now on, and usage that is posted from now on, is charged in money."""
    context = context_of(request)
    whose = await whose_orders(caller, context, "delete", tenant)
    done = await orders_of(context).cancel(whose.tenant, whose.uid, id)
    return body_of(done, context.clock.now_ms())


async def whose_orders(caller: Caller, context: ControlContext, verb: Verb, tenant: str | None) -> Whose:
    """Raises ``Forbidden``, ``NotFound``, and ``InvalidInput`` where nobody says whose."""
    caller.require("orders", verb)
    tenant = tenant or caller.principal.tenant
    if tenant is None:
        raise InvalidInput("tenant: required; whose orders are these?", param="tenant")
    caller.require_tenant(tenant)
    found = await context.store.find(Tenant, tenant)
    if found is None:
        raise caller.hidden("Tenant", tenant)
    return Whose(tenant, found.metadata.uid, found.metadata.created_ms, tuple(found.spec.queues))


def orders_of(context: ControlContext) -> Orders:
    return Orders(context.ledger.database, context.clock)


async def _order_of(context: ControlContext, caller: Caller, whose: Whose, body: OrderRequest) -> Order:
    """Raises ``InvalidInput`` that names the field. An order of before is the same whatever its product has
    become."""
    now_ms, begins_ms = context.clock.now_ms(), time_ms("begins", body.begins)
    before = await _placed_before(context, whose, body)
    if before is not None:
        now_ms, product = before.ordered_ms, before.product
        queue = before.queue if body.queue is None else body.queue
    else:
        product = await _on_shelf(context, whose, body.product, now_ms)
        queue = _queue_of(product, whose, body.queue)
        if begins_ms is not None and not now_ms <= begins_ms <= now_ms + MOST_AHEAD_DAYS * DAY_MS:
            raise InvalidInput(f"begins: must be from now to {MOST_AHEAD_DAYS} days from now", param="begins")
    return Order(
        id=body.id,
        tenant=whose.tenant,
        tenant_uid=whose.uid,
        product=product,
        pieces=body.quantity,
        ordered_ms=now_ms,
        begins_ms=begins_ms or now_ms,
        by=caller.principal.key,
        queue=queue,
    )


async def _placed_before(context: ControlContext, whose: Whose, body: OrderRequest) -> Order | None:
    """The order of that id, where it is of the same product."""
    try:
        found = (await orders_of(context).find(whose.tenant, whose.uid, body.id)).order
    except NotFound:
        return None
    return found if found.product.name == body.product else None


async def _on_shelf(context: ControlContext, whose: Whose, name: str, now_ms: int) -> Product:
    try:
        product = await Shelf(context.ledger.database, context.clock).product(name, whose.tenant)
    except NotFound as error:
        raise InvalidInput(f"product: {error.message}", param="product") from error
    if not product.on_shelf:
        raise InvalidInput(f"product: {name} is off the shelf", param="product")
    if product.price_at(now_ms) is None:
        raise InvalidInput(f"product: {name} is not for sale yet", param="product")
    return product


def _queue_of(product: Product, whose: Whose, queue: str | None) -> str:
    """The queue whose quota the order raises; empty for what is no device."""
    if product.unit != "device_seconds":
        if queue is not None:
            raise InvalidInput("queue: only for devices", param="queue")
        return ""
    if queue is None and len(whose.queues) == 1:
        return whose.queues[0]
    if queue is None or queue not in whose.queues:
        own = ", ".join(whose.queues) or "none; a platform-admin names one in the Tenant's spec.queues"
        raise InvalidInput(f"queue: one of the tenant's own is needed: {own}", param="queue")
    return queue


def body_of(placed: Placed, now_ms: int) -> OrderBody:
    """The order as the API tells it."""
    order, terms = placed.order, placed.order.allotment
    state = placed.state(now_ms)
    is_open = state not in ("over", "cancelled")
    return OrderBody(
        id=order.id,
        tenant=order.tenant,
        product=order.product.name,
        quantity=order.pieces,
        unit=terms.unit,
        granted=terms.granted,
        used=placed.taken.used,
        left=placed.taken.room(terms, now_ms >= terms.until_ms) if is_open else 0,
        price_microcredits=order.price_microcredits,
        refund_microcredits=placed.refund_microcredits,
        state=state,
        ordered=rfc3339(order.ordered_ms),
        begins=rfc3339(order.begins_ms),
        until=rfc3339(terms.until_ms),
        carried_until=rfc3339(terms.carried_until_ms) if terms.carried_until_ms else None,
        ended=None if placed.ended_ms is None else rfc3339(placed.ended_ms),
        models=list(terms.models),
        device_class=terms.device_class or None,
        devices_millis=order.product.devices_millis * order.pieces,
        queue=order.queue or None,
        voucher=order.voucher or None,
        by=order.by,
        repeated=placed.repeated,
    )
