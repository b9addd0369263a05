"""Vouchers: a platform-admin issues codes, and a tenant redeems them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from billing.core.vouchers import MOST_AT_ONCE, Voucher
from billing.store.shelf import LIST_LIMIT, Issued, Shelf
from common.clock import rfc3339
from common.errors import InvalidInput
from common.resources import Tenant
from common.resources.fields import Name, Word
from common.store.answers import Replay, current_claim
from common.vocabulary import LONG_NAME_CHARACTERS
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.routes.orders import OrderBody, body_of, whose_orders
from control.api.usage_scope import time_ms
from control.context import ControlContext

router = APIRouter(
    prefix="/api/v1/vouchers",
    tags=["usage"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


class VoucherRequest(BaseModel):
    """Vouchers to be issued: ``count`` of them, each for the same money."""

    model_config = ConfigDict(extra="forbid")

    id: Word = Field(description="their names are `id-1`, `id-2`, …")
    count: StrictInt = Field(1, description=f"1 to {MOST_AT_ONCE}")
    microcredits: StrictInt = Field(description="of each")
    redeem_until: str = Field(
        max_length=64, description="RFC 3339 or a date; later the code is worth nothing"
    )
    term_days: StrictInt = Field(365, description="how long the money can be used, once it is redeemed")
    tenant: Name | None = Field(None, description="only this one can redeem them; null = any")


class VoucherBody(BaseModel):
    """``code`` is shown when it is issued and never again; null after that. ``order`` is ``tenant/id`` of
    what was made of it; null = not redeemed. ``voided`` null = good."""

    name: str
    code: str | None
    microcredits: int
    redeem_until: str
    term_days: int
    tenant: str | None
    issued: str
    order: str | None
    voided: str | None


class VoucherList(BaseModel):
    """Those that were issued last first."""

    items: list[VoucherBody]


class RedeemRequest(BaseModel):
    """A voucher's code, and for whom it is redeemed."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(max_length=LONG_NAME_CHARACTERS, pattern=r"^[!-~]+$")
    tenant: Name | None = Field(None, description="needed by platform-admins")


@router.post(
    "", response_model=VoucherList, status_code=201, summary="Issue vouchers; their codes are shown once"
)
async def issue_vouchers(request: Request, caller: FromCaller, body: VoucherRequest) -> VoucherList:
    """Only digests of the codes are kept. Where the answer is lost, void the vouchers and issue others."""
    caller.require("vouchers", "write")
    context = context_of(request)
    wanted = _wanted(body, context.clock.now_ms())
    if body.tenant is not None and await context.store.find(Tenant, body.tenant) is None:
        raise InvalidInput(f"tenant: there is no Tenant {body.tenant!r}", param="tenant")
    made = await _shelf(context).issue(wanted)
    await _keep_without_codes(context, VoucherList(items=[_body(one) for one, _ in made]))
    return VoucherList(items=[_body(one, code) for one, code in made])


@router.get("", response_model=VoucherList, summary="Vouchers, without their codes")
async def list_vouchers(
    request: Request, caller: FromCaller, limit: Annotated[int, Query(ge=1, le=LIST_LIMIT)] = LIST_LIMIT
) -> VoucherList:
    caller.require("vouchers", "read")
    return VoucherList(items=[_body(one) for one in await _shelf(context_of(request)).vouchers(limit)])


@router.delete("/{name}", response_model=VoucherBody, summary="Void a voucher that is not redeemed")
async def void_voucher(
    request: Request,
    caller: FromCaller,
    name: Annotated[str, Path(min_length=1, max_length=LONG_NAME_CHARACTERS)],
) -> VoucherBody:
    caller.require("vouchers", "delete")
    return _body(await _shelf(context_of(request)).void(name))


@router.post(
    "/redeem",
    response_model=OrderBody,
    status_code=201,
    summary="Redeem a voucher: its money is used before the tenant's own",
    responses={200: {"model": OrderBody, "description": "The tenant has redeemed it before"}},
)
async def redeem_voucher(
    request: Request, response: Response, caller: FromCaller, body: RedeemRequest
) -> OrderBody:
    context = context_of(request)
    async with context.write_lock:  # nobody deletes the tenant meanwhile
        whose = await whose_orders(caller, context, "write", body.tenant)
        placed = await _shelf(context).redeem(body.code, whose.tenant, whose.uid, caller.principal.key)
    response.status_code = 200 if placed.repeated else 201
    return body_of(placed, context.clock.now_ms())


def _wanted(body: VoucherRequest, now_ms: int) -> list[Voucher]:
    if not 1 <= body.count <= MOST_AT_ONCE:
        raise InvalidInput(f"count: must be from 1 to {MOST_AT_ONCE}, not {body.count}", param="count")
    until_ms = time_ms("redeem_until", body.redeem_until) or 0
    if until_ms <= now_ms:
        raise InvalidInput("redeem_until: must be in the future", param="redeem_until")
    return [
        Voucher(f"{body.id}-{number}", body.microcredits, until_ms, body.term_days, body.tenant or "")
        for number in range(1, body.count + 1)
    ]


async def _keep_without_codes(context: ControlContext, answer: VoucherList) -> None:
    """What a repeated Idempotency-Key gets: keeping the codes for it would be keeping them."""
    claim = current_claim()
    if claim is not None:
        await context.store.keep_answer(claim, Replay(201, answer.model_dump_json()))
        claim.kept = True


def _body(issued: Issued, code: str | None = None) -> VoucherBody:
    voucher = issued.voucher
    return VoucherBody(
        name=voucher.name,
        code=code,
        microcredits=voucher.microcredits,
        redeem_until=rfc3339(voucher.redeem_until_ms),
        term_days=voucher.term_days,
        tenant=voucher.tenant or None,
        issued=rfc3339(issued.issued_ms),
        order=issued.order_id,
        voided=None if issued.voided_ms is None else rfc3339(issued.voided_ms),
    )


def _shelf(context: ControlContext) -> Shelf:
    return Shelf(context.ledger.database, context.clock)
