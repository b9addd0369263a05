"""Which Model a client means when it asks to fine-tune a name."""

from __future__ import annotations

from dataclasses import dataclass

from common.auth import Principal
from common.errors import InvalidInput, NotFound
from common.resources import Adapter, Endpoint, Model
from common.store.port import Store


@dataclass(frozen=True)
class TuningTarget:
    """A Model that may be tuned. ``max_rank`` is the highest that its endpoints take; None: no endpoint."""

    model: Model
    max_rank: int | None


async def find_target(store: Store, principal: Principal, project: str, name: str) -> TuningTarget:
    """The Model behind a served name or Model name that the project can see; its own come before shared ones.

    Raises ``NotFound`` (``model_not_found``) when there is none for this principal, and ``InvalidInput``
    (``model_not_tunable``) when it cannot be tuned.
    """
    endpoints = await store.list(Endpoint)
    model = await _find_model(store, endpoints, project, name) if principal.may_use_model(name) else None
    if model is None:
        await _refuse_adapter(store, project, name)
        raise NotFound(
            f"the model {name!r} does not exist or you do not have access to it",
            code="model_not_found",
            param="model",
        )
    if "chat" not in model.spec.tasks:
        raise _not_tunable(f"model: {name!r} is no chat model, so it cannot be fine-tuned on chats")
    ready = model.status.condition("Ready")
    if ready is not None and ready.status == "False":
        raise _not_tunable(f"model: {name!r} cannot be used now: {ready.message}")
    key = (model.project, model.name)
    hosts = [e for e in endpoints if e.model_key == key and e.takes_adapters_of(project)]
    ranks = [e.spec.engine.max_adapter_rank for e in hosts if e.spec.engine.max_adapters]
    if hosts and not ranks:
        raise _not_tunable(f"model: no endpoint of {name!r} takes adapters (spec.engine.maxAdapters is 0)")
    return TuningTarget(model, max(ranks, default=None))


async def _find_model(store: Store, endpoints: list[Endpoint], project: str, name: str) -> Model | None:
    models = await store.list(Model)
    for mine in (True, False):
        for endpoint in endpoints:
            served = endpoint.spec.served_name or endpoint.spec.model
            if served == name and _sees(mine, project, endpoint.project, endpoint.spec.shared):
                owner, base = endpoint.model_key
                found = await store.find(Model, base, owner)
                if found is not None:
                    return found
        for model in models:
            if model.name == name and _sees(mine, project, model.project, model.spec.shared):
                return model
    return None


def _sees(mine: bool, project: str, owner: str | None, shared: bool) -> bool:
    return owner == project if mine else shared


async def _refuse_adapter(store: Store, project: str, name: str) -> None:
    for adapter in await store.list(Adapter, project=project):
        if adapter.spec.served_name == name:
            base = adapter.spec.model
            raise _not_tunable(f"model: {name!r} is a fine-tuned model already; fine-tune its base {base!r}")


def _not_tunable(message: str) -> InvalidInput:
    return InvalidInput(message, code="model_not_tunable", param="model")
