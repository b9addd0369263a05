"""How much may be asked of models within a minute and at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.resources.meta import Model
from common.vocabulary import MAX_RATE

Rate = Annotated[int, Field(ge=1, le=MAX_RATE)]


class RateLimits(Model):
    """What one key, all keys of a project or tenant, or all who use an Endpoint may ask of models together;
    unset = no limit. Those of key, project, tenant and Endpoint all bind."""

    requests_per_minute: Rate | None = Field(
        None, description="renewed evenly: a minute's worth at once where none were made before"
    )
    tokens_per_minute: Rate | None = Field(
        None, description="of prompts and answers, as billed; what is asked for is set aside until it is"
    )
    concurrent_requests: Rate | None = Field(None, description="that are open at the same time")
    sequences_per_request: Rate | None = Field(
        None, description="answers that one request may ask for: choices times prompts"
    )
