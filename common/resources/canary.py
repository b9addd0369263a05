"""A canary: engines of another Model that get part of an Endpoint's requests, and when they get none."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from common.resources.engines import RoleSpec
from common.resources.fields import EngineArgs, Message, Name, TimeMs
from common.resources.meta import Model as Part
from common.resources.scaling import MAX_ENGINES, AutoscalingSpec

ROLLED_BACK = "CanaryRolledBack"
"""The condition of an Endpoint that says whether its canary was taken back."""
StickyBy = Literal["key", "session", "none"]
Percent = Annotated[float, Field(ge=0, le=100)]
_TRIED = ("model", "canary", "engine", "devices", "nodes", "kv_cache")
"""What decides what is compared with what. The rest of a spec may change while a canary is judged."""


class RollbackSpec(Part):
    """When the canary gets no request any more by itself. It stays so until what is compared changes."""

    max_error_percent: Percent = Field(
        5.0, description="of the canary's requests that failed, beyond those of the stable side; 100 = never"
    )
    max_ttft_ratio: float = Field(
        2.0, ge=1, le=1000, description="of median times to the first token of streams, to the stable side's"
    )
    min_requests: int = Field(50, ge=1, le=10**6, description="of each side until its figures count")


class CanarySpec(Part):
    """Engines of another Model, on the Endpoint's devices and with its engine, beside those of the Endpoint's
    own, which are the stable side."""

    model: Name
    replicas: int = Field(1, ge=1, le=MAX_ENGINES)
    weight_percent: Percent = Field(10.0, description="of requests that the canary gets")
    sticky_by: StickyBy = Field(
        "session",
        description="what stays on one side while the weight is unchanged: a key; a session "
        "(prompt_cache_key, else user), or the key where a request names none; none = each request by itself",
    )
    args: EngineArgs = Field(default_factory=list, description="to vLLM, after those of engine")
    rollback: RollbackSpec = Field(default_factory=RollbackSpec)


class CanaryStatus(Part):
    """What came of a trial, which is of what is compared with what."""

    trial: str = ""
    rolled_back: bool = False
    reason: str = Field("", description="one CamelCase word")
    message: Message = ""
    since_ms: TimeMs = 0


def check_canary(
    mode: str | None, served_name: str | None, replicas: int, autoscaling: AutoscalingSpec | None
) -> None:
    """Raises ``ValueError`` where an Endpoint cannot have a canary."""
    if served_name is None:
        raise ValueError(
            "servedName: set it with a canary (to the model's name, if that is what clients use), so that "
            "they use it still when the canary's Model takes over"
        )
    if mode in ("disaggregated", "auto"):
        raise ValueError(f"canary: mode {mode} has none; use single or replicated, or leave it out")
    if not replicas or (autoscaling is not None and autoscaling.may_sleep):
        path = "replicas" if not replicas else "autoscaling.minReplicas"
        raise ValueError(f"{path}: with a canary at least 1, since one is compared with engines that serve")


def canary_role(canary: CanarySpec, stable: RoleSpec) -> RoleSpec:
    """Its engines: as those of the stable side, in a number of their own."""
    return RoleSpec(replicas=canary.replicas, devices=stable.devices, nodes=stable.nodes, args=canary.args)


def trial_of(spec: Part) -> str:
    """What tells one trial from the next: another one when what is compared has changed. What is left as it
    is by default has no part in it, so that a release that knows more fields takes up no trial anew."""
    compared: dict[str, Any] = spec.model_dump(mode="json", include=set(_TRIED), exclude_defaults=True)
    return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:16]
