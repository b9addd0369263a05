"""What control and gateway tell each other."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.auth import Principal
from common.resources.people import Role
from common.units import MIB

REJECTED_FILE = "rejected.ndjson"
"""In each folder below ``spool/``: usage events that could not be posted, a line of JSON for each, with its
reason."""

JSON_LIMIT_BYTES = 4 * MIB
"""Of a JSON body that control takes."""
MULTIPART_OVERHEAD_BYTES = MIB
"""What a form adds to a file that is uploaded in it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RouteKey(_Part):
    """One API key that is in force."""

    digest: str
    name: str
    role: Role
    tenant: str | None = None
    project: str | None = None
    models: tuple[str, ...] = ()
    expires_ms: int | None = None

    @property
    def principal(self) -> Principal:
        return Principal(self.name, self.role, self.tenant, self.project, self.models)


class RouteReplica(_Part):
    """One engine that is ready. ``id`` is the workload's name."""

    id: str
    url: str
    role: Literal["", "prefill", "decode"] = Field("", description="empty: an engine that does both")
    endpoint: str = Field(
        "", description="project/name of its Endpoint: KV caches go from its prefill to its decode engines"
    )
    min_prompt_tokens: int = Field(0, description="a prefill engine is not given shorter prompts")
    device_class: str = ""
    model_identity: str = Field(description="project/name of the Model that it runs; prices go by it")
    model_shared: bool = Field(False, description="whether that Model is for all tenants")


class Route(_Part):
    """One name that clients can put in ``model``."""

    model: str
    backend_model: str = Field(description="what the engine calls it")
    base_model: str = Field(
        description="served name of the base, for information; equals model for a base model"
    )
    project: str
    tenant: str
    shared: bool = False
    tasks: tuple[str, ...] = ("chat", "completions")
    context_tokens: int | None = None
    created_ms: int = 0
    replicas: tuple[RouteReplica, ...] = ()


class RoutingTable(_Part):
    """All that a gateway must know. ``version`` changes with the content."""

    version: str
    keys: tuple[RouteKey, ...] = ()
    routes: tuple[Route, ...] = ()
