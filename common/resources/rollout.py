"""How a change of an Endpoint reaches the engines that serve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from common.resources.fields import Seconds, TimeMs
from common.resources.meta import Model as Part
from common.resources.scaling import MAX_ENGINES

WhenFull = Literal["replace", "wait"]


class EndpointRollout(Part):
    """What other engines a change needs, and in which order they come and go. Counts are of each role.

    An engine of the new spec is started beside the old ones; when it answers, an old one gets no more
    requests, and leaves when it has none.
    """

    max_surge: int = Field(
        1, ge=0, le=MAX_ENGINES, description="so many engines more than are wanted, for as long as it takes"
    )
    max_unavailable: int = Field(
        0, ge=0, le=MAX_ENGINES, description="so many fewer may answer meanwhile than are wanted"
    )
    when_full: WhenFull = Field(
        "replace",
        description="where the new engine finds no place for fullAfterSeconds: an old one makes room for it, "
        "which is an outage where it is the only one; or it waits for as long as it has to",
    )
    full_after_seconds: Seconds = Field(
        60.0, description="how long it waits for a place before whenFull counts"
    )
    restarted_ms: TimeMs = Field(
        0, description="engines that were started with another value are replaced; usually the time now"
    )

    @model_validator(mode="after")
    def _can_proceed(self) -> EndpointRollout:
        if not self.max_surge and not self.max_unavailable:
            raise ValueError("maxSurge and maxUnavailable must not both be 0")
        return self
