"""What is served: models, adapters, endpoints."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from common.resources.auto_mode import AutoStatus
from common.resources.canary import CanarySpec, CanaryStatus, canary_role, check_canary, trial_of
from common.resources.engines import (
    EngineSpec,
    Nodes,
    RoleSpec,
    check_nodes,
    check_number,
    check_stages,
)
from common.resources.fields import (
    AdapterName,
    Message,
    Name,
    Priority,
    ServedName,
    Source,
    Text,
    Whole,
)
from common.resources.kv_cache import KvCacheSpec, check_kv_cache
from common.resources.lineage import Lineage
from common.resources.meta import Model as Part
from common.resources.meta import Resource, Status
from common.resources.objectives import RoutingSpec, ServiceObjective, ShadowSpec, TrafficProfile
from common.resources.pairs import check_pair
from common.resources.parsers import ParserChoice, Reasoning, Tools, check_parsers
from common.resources.pool import DeviceRequest
from common.resources.rates import RateLimits
from common.resources.rollout import EndpointRollout
from common.resources.scaling import MAX_ENGINES, AutoscalingSpec, EngineRole, RoleScaling
from common.vocabulary import MAX_LIST

Task = Literal["chat", "completions", "embeddings"]
AdaptersOf = Literal["own", "all"]
Mode = Literal["single", "replicated", "disaggregated", "auto"]
PAIR: tuple[EngineRole, ...] = ("prefill", "decode")
"""Roles of engines that hand KV caches over."""


def _text_tasks() -> list[Task]:
    return ["chat", "completions"]


class ModelSpec(Part):
    """A base model. ``source`` is a local path (``~`` and ``$(HOME_DIR)`` allowed) or a hub name."""

    source: Source
    tasks: list[Task] = Field(default_factory=_text_tasks, max_length=MAX_LIST)
    shared: bool = Field(False, description="visible to the other tenants too")


class ModelStatus(Status):
    """``digest`` is the SHA-256 over config and weights for local paths; ``tools`` and ``reasoning`` are what
    suits it."""

    digest: str = ""
    context_tokens: int | None = None
    tools: ParserChoice | None = None
    reasoning: ParserChoice | None = None


class Model(Resource):
    PLURAL: ClassVar[str] = "models"
    kind: Literal["Model"] = "Model"
    spec: ModelSpec
    status: ModelStatus = Field(default_factory=ModelStatus)


def model_identity(key: tuple[str | None, str]) -> str:
    """``project/name``: what a Model is known by to prices and reports."""
    return f"{key[0] or ''}/{key[1]}"


class EndpointSpec(Part):
    """A served model. ``served_name`` is what clients put in ``model``; unset = the Model's name."""

    model: Name
    served_name: ServedName | None = None
    mode: Mode | None = Field(
        None,
        description="single: one engine; replicated: equal ones; disaggregated: engines that read prompts "
        "(prefill) hand their KV caches to engines that write answers (decode); auto: whichever serves best "
        "what comes, on the devices that suit it; unset = as replicas says",
    )
    replicas: int = Field(1, ge=0, le=MAX_ENGINES, description="of modes single and replicated")
    autoscaling: AutoscalingSpec | None = Field(
        None,
        description="in place of replicas: as many as load asks for, of modes single, replicated and auto, "
        "which has it with all defaults where it is unset",
    )
    prefill: RoleSpec | None = Field(None, description="of mode disaggregated")
    decode: RoleSpec | None = Field(None, description="of mode disaggregated")
    min_prompt_tokens: Whole | None = Field(
        None,
        description="of mode disaggregated: decode engines read shorter prompts themselves; counted as a "
        "quarter of the request's bytes; unset = each gateway learns it from measured times, from 512 on",
    )
    canary: CanarySpec | None = Field(
        None, description="engines of another Model that get part of the requests; of single and replicated"
    )
    queue: Name = "default"
    priority: Priority | None = None
    devices: DeviceRequest = Field(default_factory=DeviceRequest, description="of single and replicated")
    nodes: Nodes = 1
    engine: EngineSpec = Field(default_factory=EngineSpec)
    tools: Tools = "auto"
    reasoning: Reasoning = "auto"
    rollout: EndpointRollout = Field(default_factory=EndpointRollout)
    shadow: ShadowSpec | None = Field(None, description="where copies of some requests go")
    kv_cache: KvCacheSpec | None = Field(None, description="tiers behind the memory of devices")
    routing: RoutingSpec = Field(default_factory=RoutingSpec)
    slo: ServiceObjective = Field(default_factory=ServiceObjective)
    traffic: TrafficProfile | None = Field(
        None, description="by which `computility plan` sizes it; unset = short chats, as many as can be"
    )
    rate_limits: RateLimits = Field(
        default_factory=RateLimits,
        description="of all requests for it and adapters on it, whoever makes them",
    )
    shared: bool = Field(False, description="visible to the other tenants too")
    adapters: AdaptersOf | None = Field(
        None,
        description="adapters of its own project, or of every project that trained one on its Model (only "
        "where shared); unset = all where shared, else own",
    )

    @model_validator(mode="after")
    def _only_shared_take_all(self) -> EndpointSpec:
        if self.adapters == "all" and not self.shared:
            raise ValueError("adapters: all needs shared, because others could not reach what holds theirs")
        return self

    @model_validator(mode="after")
    def _may_have_a_canary(self) -> EndpointSpec:
        if self.canary is not None:
            check_canary(self.mode, self.served_name, self.replicas, self.autoscaling)
        return self

    @model_validator(mode="after")
    def _says_what_its_mode_takes(self) -> EndpointSpec:
        if self.mode == "disaggregated":
            self._check_roles()
            return self
        for name in ("prefill", "decode", "min_prompt_tokens"):
            if getattr(self, name) is not None:
                raise ValueError(f"{to_camel(name)}: needs mode: disaggregated; leave it out in other modes")
        if self.mode == "single" and self.replicas > 1:
            raise ValueError(f"replicas: mode single has one engine, not {self.replicas}; use replicated")
        if self.mode == "auto" and self.nodes != 1:
            raise ValueError("nodes: leave it out in mode auto, which lays each engine on one node")
        if self.mode == "auto" and self.replicas != 1:
            raise ValueError(
                "replicas: leave it out in mode auto; set autoscaling.minReplicas and maxReplicas"
            )
        check_number(self.replicas, self.autoscaling)
        if self.mode == "single" and self.roles[""].most > 1:
            most = self.roles[""].most
            raise ValueError(
                f"autoscaling.maxReplicas: mode single has one engine, not {most}; use replicated"
            )
        return self

    def _check_roles(self) -> None:
        if self.replicas != 1:
            raise ValueError("replicas: leave it out in mode disaggregated; set it in prefill and decode")
        for name in ("devices", "autoscaling", "nodes"):
            if getattr(self, name) not in (None, 1, DeviceRequest()):
                raise ValueError(f"{name}: leave it out in mode disaggregated; set it in prefill and decode")
        check_pair({"prefill": self.prefill, "decode": self.decode})

    @model_validator(mode="after")
    def _engines_can_be_divided(self) -> EndpointSpec:
        for name, role in self.roles.items():
            path = f"{name}." if name in PAIR else ""
            check_nodes(path, role)
            check_stages(path, role, self.engine.pipeline_stages, hands_over=name in PAIR)
        if self.kv_cache is not None:
            check_kv_cache(self.kv_cache, self.roles)
        check_parsers(self.tools, self.reasoning, self.engine_args)
        return self

    @property
    def roles(self) -> dict[EngineRole, RoleSpec]:
        """What engines there are to be, by role."""
        if self.mode == "disaggregated" and self.prefill is not None and self.decode is not None:
            return {"prefill": self.prefill, "decode": self.decode}
        scaling = self.autoscaling
        if self.mode == "auto" and scaling is None:
            scaling = AutoscalingSpec()
        role = RoleSpec(replicas=self.replicas, autoscaling=scaling, devices=self.devices, nodes=self.nodes)
        if self.canary is None:
            return {"": role}
        return {"": role, "canary": canary_role(self.canary, role)}

    @property
    def engine_args(self) -> list[str]:
        """All arguments of its engines, of whatever role."""
        return [*self.engine.args, *(word for role in self.roles.values() for word in role.args)]

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the Models that its engines run: its own, and its canary's."""
        return (self.model,) if self.canary is None else (self.model, self.canary.model)

    @property
    def engines(self) -> int:
        """How many there may be at some time, of all roles together."""
        return sum(role.most for role in self.roles.values())

    @property
    def engine_ranks(self) -> int:
        """Of how many ranks they are then: an engine has one on each of its nodes. Limits count these. Of
        what a change has beside them for a while, one of each role is free."""
        more = self.rollout.max_surge - 1
        return sum((role.most + max(0, min(more, role.most))) * role.nodes for role in self.roles.values())

    @property
    def may_sleep(self) -> bool:
        """Whether it may have no engine until somebody asks."""
        return all(role.may_sleep for role in self.roles.values())


class Replica(Part):
    """One engine of an endpoint."""

    workload: str
    role: EngineRole = ""
    duty: EngineRole = Field("", description="what mode auto has it do now; empty = both")
    phase: str = "Pending"
    message: Message = Field(
        "", description="how it ended last, where it has not answered since; why it fits nowhere"
    )
    never_fits: bool | None = Field(
        None, description="true: it fits on no node of the pool, even if nothing else ran"
    )
    ready: bool = False
    outdated: bool = Field(False, description="runs what the spec said before, and is about to be replaced")
    draining: bool = Field(False, description="gets no more requests, and goes when it has none")
    url: str = Field("", description="base URL without /v1")
    attempt: int = 0
    device_class: str = ""
    model_identity: str = Field("", description="project/name of the Model that the engine was started with")
    adapters: list[str] = Field(default_factory=list, description="served names of the adapters it holds")


TOO_LITTLE_MEMORY = "TooLittleMemory"
"""Reason of ``Ready``: no devices that the engines may have can hold them."""
WAITING = ("NoReplicaReady", "RoleNotReady", "ScaledToZero", "Deciding", TOO_LITTLE_MEMORY)
"""Reasons of ``Ready`` that say that engines are not there yet, or not any more."""


class EndpointStatus(Status):
    """Condition ``Ready``: at least one replica of each role answers and all wanted replicas exist."""

    served_name: str = ""
    model_project: str = Field("", description="project of the Model; another one for a shared Model")
    ready_replicas: int = 0
    updated_replicas: int = Field(0, description="of readyReplicas those that run what the spec says")
    replicas: list[Replica] = Field(default_factory=list)
    scaling: list[RoleScaling] = Field(
        default_factory=list, description="what load asks for, of each role with autoscaling"
    )
    auto: AutoStatus | None = Field(None, description="what mode auto has decided")
    canary: CanaryStatus | None = Field(None, description="of the canary that is tried")
    context_tokens: int | None = None
    tools: ParserChoice | None = None
    reasoning: ParserChoice | None = None

    @property
    def is_startable(self) -> bool:
        """Whether nothing that its owner has to mend keeps engines from being started."""
        found = self.condition("Ready")
        return found is None or found.status == "True" or found.reason in WAITING


class Endpoint(Resource):
    PLURAL: ClassVar[str] = "endpoints"
    kind: Literal["Endpoint"] = "Endpoint"
    spec: EndpointSpec
    status: EndpointStatus = Field(default_factory=EndpointStatus)

    @property
    def model_key(self) -> tuple[str | None, str]:
        """Project and name of the Model that it serves."""
        return self.status.model_project or self.project, self.spec.model

    @property
    def served_name(self) -> str:
        """What clients put in ``model``."""
        return self.spec.served_name or self.spec.model

    @property
    def is_undecided(self) -> bool:
        """Whether mode auto has not chosen its devices yet."""
        return self.spec.mode == "auto" and self.status.auto is None

    @property
    def roles(self) -> dict[EngineRole, RoleSpec]:
        """What engines there are to be, by role; in mode auto on the devices that were chosen."""
        auto = self.status.auto
        if self.spec.mode != "auto" or auto is None:
            return self.spec.roles
        return {
            role: spec.model_copy(update={"devices": auto.narrowed(spec.devices)})
            for role, spec in self.spec.roles.items()
        }

    @property
    def is_elastic(self) -> bool:
        """Whether the engines of a role follow its load."""
        return any(role.autoscaling is not None for role in self.spec.roles.values())

    @property
    def wanted(self) -> dict[EngineRole, int]:
        """How many engines there are to be now, by role. Until it is known what load asks for, as many as
        there are."""
        if self.is_undecided:
            return {role: self._there(role) for role in self.spec.roles}
        scaled = {one.role: one.wanted for one in self.status.scaling}
        return {
            role: 0
            if role == "canary" and self.is_rolled_back
            else spec.wanted(scaled.get(role, self._there(role)))
            for role, spec in self.spec.roles.items()
        }

    def _there(self, role: EngineRole) -> int:
        mine = [one for one in self.status.replicas if one.role == role and not one.draining]
        changing = any(one.outdated for one in mine)  # then there are more than are wanted
        return sum(one.ready or not changing for one in mine)

    @property
    def is_rolled_back(self) -> bool:
        """Whether its canary, as it is, was found to be worse."""
        seen = self.status.canary
        return seen is not None and seen.rolled_back and seen.trial == trial_of(self.spec)

    @property
    def has_flags(self) -> bool:
        """Whether a platform-admin gave its engines arguments or an environment."""
        spec = self.spec
        roles = (role for role in (spec.prefill, spec.decode, spec.canary) if role is not None)
        return bool(spec.engine.args or spec.engine.env or any(role.args for role in roles))

    def takes_adapters_of(self, project: str | None) -> bool:
        """Whether its engines load adapters of that project; those of strangers only where all are wanted."""
        if self.project == project:
            return True
        return self.spec.shared and self.spec.adapters != "own"


class AdapterSpec(Part):
    """A LoRA adapter on a Model of the same project or a shared one; ``served_name`` is the ``ft:…`` name."""

    model: Name
    model_project: Name | None = Field(None, description="project of the Model; unset = the adapter's own")
    served_name: AdapterName
    path: Text
    digest: Text = ""
    rank: int = Field(16, ge=1, le=1024)
    lineage: Lineage = Field(default_factory=Lineage)


class AdapterStatus(Status):
    """Condition ``Served``: loaded on every ready replica of the endpoints that serve its model."""

    replicas: int = 0
    message: Message = ""

    @property
    def is_loadable(self) -> bool:
        """Whether nothing is known that keeps engines from loading it."""
        found = self.condition("Served")
        return found is None or found.status == "True" or found.reason in ("NoReplicaReady", "Loading")


class Adapter(Resource):
    PLURAL: ClassVar[str] = "adapters"
    kind: Literal["Adapter"] = "Adapter"
    spec: AdapterSpec
    status: AdapterStatus = Field(default_factory=AdapterStatus)

    @property
    def model_key(self) -> tuple[str | None, str]:
        """Project and name of the Model that it was trained on."""
        return self.spec.model_project or self.project, self.spec.model

    def may_be_on(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint serves its Model and takes adapters of its project."""
        return endpoint.model_key == self.model_key and endpoint.takes_adapters_of(self.project)
