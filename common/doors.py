"""What control tells gateways of Routes and of models that others serve."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.data_class import DataClass

Protocol = Literal["openai", "anthropic"]
"""The API that an external model speaks."""
Fault = Literal["overload", "error", "no_engine", "budget", "deadline", "context"]
"""Why a candidate does not serve a request that it might have served."""
Check = Literal["truncation", "refusal", "format"]
"""What an answer may fail, so that the next candidate is asked."""
Untold = Literal["refuse", "estimate"]
"""What becomes of an answer whose provider tells no usage."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RouteExternal(_Part):
    """Where a model of others is. ``name`` is project/name of the ExternalModel; ``secret`` names the key,
    which only gateways have."""

    name: str
    protocol: Protocol = "openai"
    url: str
    secret: str = ""
    region: str
    data_class: DataClass
    provider: str = ""
    tools: bool = True
    vision: bool = False
    untold_usage: Untold = "refuse"


class RouteConditions(_Part):
    """Which requests a candidate is for; unset = all."""

    min_prompt_tokens: int | None = None
    max_prompt_tokens: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    data_classes: tuple[DataClass, ...] = ()
    hours: str = ""


class RouteCandidate(_Part):
    """One of the models that a Route may ask: the route of that ``project`` and ``model``; ``project`` is
    empty where the Route's project sees none of the name."""

    model: str
    project: str = ""
    order: int = 0
    weight: int = 1
    when: RouteConditions = RouteConditions()
    max_price: int | None = Field(
        None, description="micro-credits for a million tokens, of prompt or answer, whichever costs more"
    )


class RouteDoor(_Part):
    """A Route. ``name`` is its project/name."""

    name: str
    candidates: tuple[RouteCandidate, ...]
    falls_back_on: tuple[Fault, ...] = ()
    sticky_by: Literal["key", "session", "none"] = "none"
    deadline_ms: int | None = None
    checks: tuple[Check, ...] = ()
    zone: str = "UTC"
