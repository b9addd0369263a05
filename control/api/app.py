"""The HTTP application of the control process."""

from __future__ import annotations

from fastapi import FastAPI, Request

from batches.api.routes import build_router as build_batch_router
from batches.api.service import BatchService
from common.auth import Principal
from common.http_server.front import Front
from control.api.edge import Edge
from control.api.errors import ERROR_RESPONSES, install_error_handlers
from control.api.passing_on import PassingOn
from control.api.requests import KEY_REQUIRED, caller_of
from control.api.routes import (
    budgets,
    costs,
    doors,
    endpoints,
    events,
    guardrails,
    health,
    insight,
    internal,
    invoices,
    keys,
    leases,
    limits,
    margins,
    models,
    nodes,
    orders,
    organization,
    outcomes,
    pauses,
    plan,
    prices,
    products,
    reconciliation,
    reference,
    resources,
    sessions,
    set_aside,
    usage,
    vouchers,
    watch,
    workloads,
)
from control.api.routes.health import product_version
from control.context import ControlContext
from control.core.permissions import Verb
from finetune.api.routes import build_router as build_tuning_router

_THINGS = {"files": "files", "fine_tuning": "jobs", "batches": "batches"}
"""What the first part of a path is in the table of permissions."""
_VERBS: dict[str, Verb] = {"GET": "read", "HEAD": "read", "DELETE": "delete"}


def build_app(context: ControlContext) -> FastAPI:
    """All routes over the parts in ``context``."""
    app = FastAPI(
        title="Computility",
        version=product_version(),
        description="One pool, one API and one bill for a mixed fleet of accelerators.",
        separate_input_output_schemas=False,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; `reference` has its own
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.router.routes.extend(resources.build_router().routes)
    parts = (
        budgets,
        guardrails,
        keys,
        limits,
        watch,
        events,
        usage,
        organization,
        invoices,
        costs,
        products,
        orders,
        vouchers,
        outcomes,
        margins,
        workloads,
        sessions,
        endpoints,
        doors,
        nodes,
        insight,
        plan,
        leases,
        pauses,
        prices,
        reconciliation,
        models,
        reference,
        internal,
        health,
        set_aside,
    )
    for part in parts:
        app.include_router(part.router)
    if context.tuning is not None:
        batches = BatchService(context.store, context.tuning, context.settings, context.clock)
        routers = (
            build_tuning_router(context.tuning, authenticate_tuning),
            build_batch_router(batches, authenticate_tuning),
        )
        for router in routers:
            app.include_router(router, dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)
    install_error_handlers(app)
    app.add_middleware(Edge, context=context)
    if context.elector is not None:
        app.add_middleware(PassingOn, elector=context.elector, settings=context.settings)
    app.add_middleware(Front, cors_origins=context.settings.control.cors_origins)
    return app


async def authenticate_tuning(request: Request) -> Principal:
    """Who asks for ``/v1/files``, ``/v1/fine_tuning`` or ``/v1/batches``; ``Forbidden`` for roles that may
    not."""
    caller = caller_of(request)
    thing = _THINGS[request.url.path.split("/", 3)[2]]
    caller.require(thing, _VERBS.get(request.method, "write"))
    return caller.principal
