"""What clients of an Endpoint are to see, what comes, and how it is sent to engines."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.resources.fields import Name
from common.resources.meta import Model as Part

MAX_CONTEXT_TOKENS = 10**9
MIN_REQUESTS_PER_SECOND = 1e-6
MAX_REQUESTS_PER_SECOND = 10**7
Milliseconds = Annotated[float, Field(gt=0, le=10**9)]


class ServiceObjective(Part):
    """What clients are to see, in the mean at full load; unset = no limit."""

    ttft_milliseconds: Milliseconds | None = Field(None, description="time to the first token")
    inter_token_milliseconds: Milliseconds | None = Field(None, description="time between two tokens")


class TrafficProfile(Part):
    """What comes, in the mean. ``requests_per_second``: unset = as many as can be served."""

    prompt_tokens: int = Field(1000, ge=1, le=MAX_CONTEXT_TOKENS)
    output_tokens: int = Field(250, ge=1, le=MAX_CONTEXT_TOKENS)
    requests_per_second: float | None = Field(None, ge=MIN_REQUESTS_PER_SECOND, le=MAX_REQUESTS_PER_SECOND)


class ShadowSpec(Part):
    """Copies of requests, to see what another Endpoint does with them. Nobody is given its answers."""

    endpoint: Name = Field(description="another one of the project")
    percent: float = Field(5.0, ge=0, le=100, description="of requests that are copied")


Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class RoutingSpec(Part):
    """How much each part of a replica's cost counts when one is chosen for a request; 0 = not at all."""

    prefix: Weight = Field(1.0, description="of the prompt, what the replica has not in its cache")
    queue: Weight = Field(1.0, description="prompts that the replica has still to read")
    load: Weight = Field(1.0, description="requests that the replica works on")
    cache: Weight = Field(1.0, description="running requests hold nearly all of the replica's cache")
    adapter: Weight = Field(1.0, description="an adapter that is not at work there has to be taken in")
    session: Weight = Field(1.0, description="prompt_cache_key or user was on another replica before")
