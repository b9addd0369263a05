"""``DELETE /v1/models/{model}`` in OpenAI's shape: a fine-tuned model goes, a base model does not."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from common.errors import Forbidden, InvalidInput, NotFound
from common.resources import Adapter, Endpoint, Model
from common.store.port import Store
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import delete_resource
from control.context import ControlContext

router = APIRouter(prefix="/v1", tags=["models"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


class DeletedModel(BaseModel):
    """What OpenAI answers."""

    id: str
    object: str = "model"
    deleted: bool = True


@router.delete("/models/{model:path}", response_model=DeletedModel, summary="Delete a fine-tuned model")
async def delete_model(request: Request, model: str, caller: FromCaller) -> DeletedModel:
    """Remove the Adapter behind a ``ft:…`` name; engines let it go and its files are removed later."""
    caller.require("Adapter", "delete")
    context = context_of(request)
    adapter = await _adapter_of(context, caller, model, request.headers.get("openai-project"))
    await delete_resource(context, caller, Adapter, adapter.name, adapter.project)
    return DeletedModel(id=model)


async def _adapter_of(context: ControlContext, caller: Caller, model: str, project: str | None) -> Adapter:
    """The one Adapter that ``model`` means to the caller.

    Raises ``Forbidden`` for a base model that the caller sees, and ``NotFound`` for everything else.
    """
    store = context.store
    if caller.principal.may_use_model(model):
        found = [
            adapter
            for adapter in await store.list(Adapter, project=project or caller.principal.project)
            if adapter.spec.served_name == model and caller.sees(adapter, "delete")
        ]
        if len(found) > 1:
            raise InvalidInput(
                f"several projects have a model {model!r}; name one with the header OpenAI-Project",
                code="project_required",
                param="OpenAI-Project",
            )
        if found:
            return found[0]
        await _refuse_base_model(store, caller, model)
    raise NotFound(
        f"the model {model!r} does not exist or you do not have access to it",
        code="model_not_found",
        param="model",
    )


async def _refuse_base_model(store: Store, caller: Caller, model: str) -> None:
    served = [e for e in await store.list(Endpoint) if model in (e.spec.served_name, e.spec.model)]
    for base in (*served, *(m for m in await store.list(Model) if m.name == model)):
        if caller.sees(base):
            raise Forbidden(
                f"{model!r} is a base model: only fine-tuned models (ft:…) are deleted here. To stop serving "
                "it, delete its Endpoint with `computility delete endpoint`",
                code="model_not_deletable",
                param="model",
            )
