"""Whether the process works, its metrics, its version, and who the caller is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

from common.errors import ComputilityError
from common.loop import sort_of
from common.resources import API_VERSION
from common.telemetry import get_logger, render_metrics
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.routes.budgets import BalanceBody, binding_balances
from control.api.routes.pauses import PauseBody, pauses_of
from control.loops import LoopState

_log = get_logger("control.api")

router = APIRouter(tags=["about"])


class Version(BaseModel):
    """``api`` is the apiVersion of resources."""

    version: str
    api: str


class WhoAmI(BaseModel):
    """The key in use. ``budgets``: those that all of its requests are in; ``paused``: what keeps these from
    being answered."""

    key: str
    role: str
    tenant: str | None = None
    project: str | None = None
    models: list[str] = []
    budgets: list[BalanceBody] = []
    paused: list[PauseBody] = []


class LoopBody(BaseModel):
    """One loop of the process. ``failed_passes``: in a row, up to now. ``error``: the sort of the last error
    and where it was raised; its text is in the log alone. ``trouble``: empty while the loop is well."""

    name: str
    alive: bool
    restarts: int
    failed_passes: int
    seconds_since_good_pass: float
    error: str
    trouble: str


class Readiness(BaseModel):
    """``ready`` when the store answers, some control process leads, every loop runs, and the passes of each
    end well; one that does not lead runs none. ``leader``: where the one that leads is reached, empty where
    none is known. ``epoch``: of its lease."""

    ready: bool
    store: str
    role: Literal["leader", "follower"]
    leader: str
    epoch: int
    loops: list[LoopBody]


def product_version() -> str:
    """The version of the installed product."""
    try:
        return version("computility")
    except PackageNotFoundError:
        return "0"


@router.get("/healthz", response_class=PlainTextResponse, summary="The process answers")
async def healthz() -> str:
    return "ok\n"


@router.get(
    "/readyz", response_model=Readiness, responses={503: {"model": Readiness}}, summary="Ready to work"
)
async def readyz(request: Request) -> JSONResponse:
    context = context_of(request)
    try:
        await context.store.revision()
        store = "ok"
    except (ComputilityError, OSError) as error:
        store = f"unreachable: {sort_of(error)}"
    except Exception as error:  # noqa: BLE001 - a probe reports whatever the database driver raises
        _log.exception("store does not answer")
        store = f"unreachable: {type(error).__name__}"
    elector = context.elector
    leads, leader = elector is None or elector.leads, elector.leader_url if elector else ""
    body = Readiness(
        ready=store == "ok" and (leads or bool(leader)) and context.loops.all_well,
        store=store,
        role="leader" if leads else "follower",
        leader=leader,
        epoch=elector.lease.epoch if elector else 0,
        loops=[_loop(one) for one in context.loops.states.values()],
    )
    return JSONResponse(body.model_dump(), 200 if body.ready else 503)


def _loop(state: LoopState) -> LoopBody:
    health = state.health
    return LoopBody(
        name=state.name,
        alive=state.alive,
        restarts=state.restarts,
        failed_passes=health.failed_passes,
        seconds_since_good_pass=round(health.seconds_since_good_pass, 1),
        error=health.error or state.error,
        trouble=state.trouble,
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **ERROR_RESPONSES},
)
async def metrics() -> Response:
    body, content_type = render_metrics()
    return Response(body, media_type=content_type)


@router.get("/api/v1/version", response_model=Version, summary="Version of the server")
async def get_version() -> Version:
    return Version(version=product_version(), api=API_VERSION)


@router.get(
    "/api/v1/whoami",
    response_model=WhoAmI,
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    summary="The key in use",
)
async def whoami(request: Request, caller: FromCaller) -> WhoAmI:
    who, context = caller.principal, context_of(request)
    return WhoAmI(
        key=who.key,
        role=who.role,
        tenant=who.tenant,
        project=who.project,
        models=list(who.models),
        budgets=await binding_balances(context, who),
        paused=await pauses_of(context, who),
    )
