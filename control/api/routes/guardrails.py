"""What a Guardrail would do to a text."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from common.resources import Guardrail
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from inference.guardrails.masking import GuardedText
from inference.guardrails.policy import rules_of
from inference.guardrails.rules import Rules

MAX_CHARACTERS = 100_000

router = APIRouter(
    prefix="/api/v1",
    tags=["guardrails"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class TrialBody(_Body):
    """A ``text`` that would be sent to a model (``direction`` input), or come from it."""

    name: Annotated[str, Field(max_length=253, description="of the Guardrail")]
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)]
    direction: Literal["input", "output"] = "input"


class Found(_Body):
    """How often a guard found something."""

    guard: str
    action: str
    count: int


class TrialAnswer(_Body):
    """``text`` is what would go on; null where it is blocked, by the guard that ``blockedBy`` names."""

    hits: list[Found]
    blocked_by: str | None
    text: str | None


@router.post(
    "/guardrail-trials",
    response_model=TrialAnswer,
    summary="What a Guardrail would do to a text; the text is not kept",
)
async def post_trial(request: Request, caller: FromCaller, body: TrialBody) -> TrialAnswer:
    caller.require("Guardrail", "read")
    guardrail = await context_of(request).store.find(Guardrail, body.name)
    if guardrail is None or not caller.sees(guardrail):
        raise caller.hidden("Guardrail", body.name)
    return await asyncio.to_thread(tried, guardrail, body.text, body.direction)


def tried(guardrail: Guardrail, text: str, direction: Literal["input", "output"]) -> TrialAnswer:
    """What its guards find, and what would go on."""
    guards = [guard.to_dict() for guard in guardrail.spec.guards]
    rules = rules_of(guardrail.name, guards, direction)
    guarded = GuardedText(Rules(rules))
    passed = guarded.whole(text) if rules else text
    sums: dict[tuple[str, str], int] = {}
    for rule, count in guarded.hits.items():
        sums[rule.guard, rule.action] = sums.get((rule.guard, rule.action), 0) + count
    blocked = guarded.blocked
    return TrialAnswer(
        hits=[Found(guard=guard, action=action, count=n) for (guard, action), n in sums.items()],
        blocked_by=blocked.guard if blocked is not None else None,
        text=passed if blocked is None else None,
    )
