"""What control and gateway tell each other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.auth import Principal
from common.data_class import DataClass
from common.doors import RouteDoor, RouteExternal
from common.resources.people import Role
from common.units import MIB
from common.vocabulary import MAX_NUMBER

REJECTED_FILE = "rejected.ndjson"
"""In each folder below ``spool/``: usage events that could not be posted, a line of JSON for each, with its
reason."""

JSON_LIMIT_BYTES = 4 * MIB
"""Of a JSON body that control takes."""
MULTIPART_OVERHEAD_BYTES = MIB
"""What a form adds to a file that is uploaded in it."""
MAX_DEMANDS = 5000
"""Endpoints that one report tells of."""
MAX_LEASES = 500
"""Of budgets that one report tells of."""
MAX_GUARD_HITS = 500
"""Guards that one report tells of."""
MAX_TRIALS = 500
"""Trials of canaries that one report tells of."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RouteLimits(_Part):
    """What some of those who ask may ask for together; unset = no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    sequences_per_request: int | None = None


class RouteData(_Part):
    """What binds data of some requests: their class at least, and where they may go; unset = nothing."""

    data_class: DataClass | None = None
    regions: tuple[str, ...] | None = None


class RouteKey(_Part):
    """One API key that is in force."""

    digest: str
    name: str
    role: Role
    tenant: str | None = None
    project: str | None = None
    models: tuple[str, ...] = ()
    expires_ms: int | None = None
    limits: RouteLimits | None = None
    data: RouteData | None = None

    @property
    def principal(self) -> Principal:
        return Principal(self.name, self.role, self.tenant, self.project, self.models)


class RouteWeights(_Part):
    """How much each part of a replica's cost counts when one is chosen."""

    prefix: float = 1.0
    queue: float = 1.0
    load: float = 1.0
    cache: float = 1.0
    adapter: float = 1.0
    session: float = 1.0


class RouteReplica(_Part):
    """One engine that is ready. ``id`` is the workload's name."""

    id: str
    url: str
    role: Literal["", "prefill", "decode", "canary"] = Field(
        "", description="empty: an engine that does both; of a canary: for the requests that are its"
    )
    endpoint: str = Field(
        "", description="project/name of its Endpoint: KV caches go from its prefill to its decode engines"
    )
    min_prompt_tokens: int = Field(0, description="a prefill engine is not given shorter prompts")
    learns_min_prompt: bool = Field(
        False, description="min_prompt_tokens is only where to begin: the gateway finds out what is best"
    )
    device_class: str = ""
    model_identity: str = Field(description="project/name of the Model that it runs; prices go by it")
    model_shared: bool = Field(False, description="whether that Model is for all tenants")
    adapter_slots: int = Field(0, description="adapters that it works with at once")


class RouteCanary(_Part):
    """The second version of what a route serves. ``trial`` names what is compared with what, ``salt`` what
    decides with a request's key who gets it."""

    endpoint: str = Field(description="its uid: one that is made anew under the name has trials of its own")
    trial: str
    salt: str
    weight_percent: float = Field(description="of requests that it gets; 0 = none, as when rolled back")
    sticky_by: Literal["key", "session", "none"] = "session"


class RouteShadow(_Part):
    """Where copies of some requests of a route go: to engines of another Endpoint of its project."""

    source: str = Field(description="name of the Endpoint that the copies are of")
    percent: float
    model: str = Field(description="what the engines call it")
    context_tokens: int | None = None
    replicas: tuple[RouteReplica, ...] = ()


class Route(_Part):
    """One name that clients can put in ``model``."""

    model: str
    backend_model: str = Field(description="what the engine calls it")
    base_model: str = Field(
        description="served name of the base, for information; equals model for a base model"
    )
    adapter_identity: str = Field("", description="project/name of the Adapter that it is, if it is one")
    model_identity: str = Field("", description="project/name of the Model that it stands for")
    project: str
    tenant: str
    shared: bool = False
    tasks: tuple[str, ...] = ("chat", "completions")
    context_tokens: int | None = None
    created_ms: int = 0
    replicas: tuple[RouteReplica, ...] = ()
    routing: RouteWeights = RouteWeights()
    canary: RouteCanary | None = None
    shadow: RouteShadow | None = None
    elastic: tuple[str, ...] = Field(
        (), description="Endpoints, as project/name, that get an engine for it when somebody asks"
    )
    limits: RouteLimits | None = None
    limited_as: str = Field("", description="project/name of the Endpoint whose limits they are")
    door: RouteDoor | None = Field(None, description="where it is a Route: no engine, but candidates")
    external: RouteExternal | None = Field(None, description="where others serve it: it has no engine")


class RouteBudget(_Part):
    """A hard Budget. ``id`` is its uid; what of the scope is empty fits all."""

    id: str
    name: str
    tenant: str
    project: str = ""
    key: str = ""
    user: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    period: Literal["day", "week", "month", "total"]
    unit: Literal["microcredits", "tokens"]
    limit: int
    from_ms: int
    until_ms: int | None = None
    zone: str = "UTC"


class RouteBook(_Part):
    """A price book that budgets of money are counted with; ``items`` as ``BookItem.content`` has them."""

    name: str
    version: int
    from_ms: int
    until_ms: int | None = None
    tenant: str | None = None
    zone: str = "UTC"
    items: tuple[dict[str, Any], ...]


class RoutePause(_Part):
    """What is stopped by hand, since when and why."""

    scope: Literal["key", "project", "tenant", "model"]
    name: str = Field(description="of a model: project/name of the Model")
    since_ms: int
    reason: str


class RouteGuardrail(_Part):
    """A Guardrail. What of the scope is empty fits all; ``guards`` as ``Guard.to_dict`` has them, so that a
    gateway that does not know one refuses what it binds, and not the table."""

    name: str
    tenant: str = ""
    project: str = ""
    key: str = ""
    model: str = ""
    guards: tuple[dict[str, Any], ...]


class RoutingTable(_Part):
    """All that a gateway must know. ``version`` changes with the content."""

    version: str
    keys: tuple[RouteKey, ...] = ()
    routes: tuple[Route, ...] = ()
    projects: dict[str, RouteLimits] = Field(
        default_factory=dict, description="limits of those that have some"
    )
    tenants: dict[str, RouteLimits] = Field(default_factory=dict, description="the same")
    budgets: tuple[RouteBudget, ...] = Field((), description="those that refuse requests")
    books: tuple[RouteBook, ...] = Field((), description="where a budget is of money")
    pauses: tuple[RoutePause, ...] = Field((), description="what nothing is answered for")
    guardrails: tuple[RouteGuardrail, ...] = ()
    data: dict[str, RouteData] = Field(
        default_factory=dict, description="what binds data of projects, of those where something does"
    )


Amount = Annotated[int, Field(ge=0, le=2**62)]


class LeaseAsk(_Part):
    """What a gateway process holds of a ``period`` of the Budget with this uid: ``firm`` is held by requests,
    or used and not known to be posted; ``room`` is there for further requests; requests wait for ``needed``
    more, the smallest of them for ``least``. Without ``active`` it wants no more room than that."""

    budget: str = Field(max_length=100)
    period: str = Field(max_length=16)
    firm: Amount
    room: Amount
    needed: Amount = 0
    active: bool = True
    least: Amount = 0


class LeaseReport(_Part):
    """Takes the place of what this ``holder`` told before, under a lower ``sequence``. ``ended``: processes
    that are dead, and whose usage is posted."""

    holder: str = Field(min_length=1, max_length=100)
    sequence: int = Field(ge=1, le=MAX_NUMBER)
    leases: tuple[LeaseAsk, ...] = Field((), max_length=MAX_LEASES)
    ended: tuple[Annotated[str, Field(max_length=100)], ...] = Field((), max_length=MAX_LEASES)


class LeaseAnswer(_Part):
    """``change``: by how much the room of a lease grows (or shrinks); what the period had come to: ``spent``,
    and ``held`` by other processes."""

    budget: str
    period: str
    change: int
    spent: int
    held: int


class LeaseAnswers(_Part):
    """One for each lease of the report."""

    leases: tuple[LeaseAnswer, ...]


class Demand(_Part):
    """What a gateway has for an Endpoint, ``project/name``: requests that are ``held`` because no engine
    answers, and those that are ``active`` at engines."""

    endpoint: str = Field(max_length=600)
    held: int = Field(0, ge=0, le=MAX_NUMBER)
    active: int = Field(0, ge=0, le=MAX_NUMBER)


class GuardHits(_Part):
    """What a guard has found since this was told last: how often, and the request that was the last."""

    guardrail: str = Field(max_length=253)
    guard: str = Field(max_length=253)
    action: Literal["flag", "mask", "block"]
    direction: Literal["input", "output"]
    count: int = Field(ge=0, le=MAX_NUMBER)
    request_id: str = Field(max_length=200)
    path: str = Field(max_length=200, description="where in the request or answer")


class GuardReport(_Part):
    """What guards have found at a gateway, without any text."""

    hits: tuple[GuardHits, ...] = Field((), max_length=MAX_GUARD_HITS)


Step = Annotated[int, Field(ge=0, le=200)]


class SideCounts(_Part):
    """Requests of one side of a trial. ``first_tokens``: streams by step of their time to the first token."""

    requests: int = Field(0, ge=0, le=MAX_NUMBER)
    failed: int = Field(0, ge=0, le=MAX_NUMBER)
    first_tokens: dict[Step, Annotated[int, Field(ge=0, le=MAX_NUMBER)]] = Field(
        default_factory=dict, max_length=200
    )


class TrialCounts(_Part):
    """What a gateway has counted of a trial since it knows of it."""

    endpoint: str = Field(max_length=600, description="its uid")
    trial: str = Field(max_length=64)
    canary: SideCounts = SideCounts()
    stable: SideCounts = SideCounts()


class TrialReport(_Part):
    """Trials that this ``gateway`` has routes of."""

    gateway: str = Field(max_length=200)
    trials: tuple[TrialCounts, ...] = Field((), max_length=MAX_TRIALS)


Milliseconds = Annotated[float, Field(ge=0, le=MAX_NUMBER, allow_inf_nan=False)]


class LegTimes(_Part):
    """How long something takes by the length of a prompt, as a line through so many ``times``. ``here``: to
    the first token where the engine that answers reads the prompt; ``leg``: until another one has read it;
    ``fetch``: to the first token where that was fetched."""

    name: Literal["here", "leg", "fetch"]
    base_ms: Milliseconds
    per_thousand_tokens_ms: Milliseconds
    times: int = Field(ge=0, le=MAX_NUMBER)


class LearnedThreshold(_Part):
    """From which length on prompts of an Endpoint get a leg of their own. ``beside``: requests that an engine
    which answers has beside one."""

    endpoint: str = Field(max_length=600)
    min_prompt_tokens: int = Field(ge=0, le=MAX_NUMBER)
    beside: float = Field(0.0, ge=0, le=MAX_NUMBER, allow_inf_nan=False)
    legs: tuple[LegTimes, ...] = Field((), max_length=3)


class ThresholdReport(_Part):
    """All that this ``gateway`` has learned."""

    gateway: str = Field(max_length=200)
    thresholds: tuple[LearnedThreshold, ...] = Field((), max_length=MAX_DEMANDS)


class DemandReport(_Part):
    """All Endpoints that follow their load and have something to do at this ``gateway``."""

    gateway: str = Field(max_length=200)
    demands: tuple[Demand, ...] = Field((), max_length=MAX_DEMANDS)
