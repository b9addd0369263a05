"""What engines of an endpoint are: their flags, how many there are, on which devices of how many nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.resources.fields import EngineArgs, EngineVariables
from common.resources.meta import Model as Part
from common.resources.objectives import MAX_CONTEXT_TOKENS
from common.resources.pool import WHOLE_MILLIS, DeviceRequest
from common.resources.scaling import MAX_ENGINES, AutoscalingSpec

Nodes = Annotated[
    int,
    Field(
        ge=1,
        le=64,
        description="that make up one engine, each with such devices, started and restarted as a whole",
    ),
]


class EngineSpec(Part):
    """Flags for the engine. ``args`` go to vLLM as they are, after ours."""

    max_context_tokens: int | None = Field(None, ge=1, le=MAX_CONTEXT_TOKENS)
    max_adapters: int = Field(4, ge=0, le=256, description="LoRA adapters in one batch; 0 = no adapters")
    max_adapter_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    pipeline_stages: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="parts into which the layers are divided, each shared by equally many devices (tensor "
        "parallelism); unset = one on each node, on CPUs one",
    )
    args: EngineArgs = Field(default_factory=list)
    env: EngineVariables = Field(default_factory=dict)


class RoleSpec(Part):
    """The engines of one role. ``args`` go to vLLM after those of ``engine``."""

    replicas: int = Field(1, ge=0, le=MAX_ENGINES)
    autoscaling: AutoscalingSpec | None = Field(None, description="in place of replicas")
    devices: DeviceRequest = Field(default_factory=DeviceRequest)
    nodes: Nodes = 1
    args: EngineArgs = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_one_number(self) -> RoleSpec:
        check_number(self.replicas, self.autoscaling)
        return self

    @property
    def most(self) -> int:
        """How many engines there may be at some time."""
        return self.autoscaling.max_replicas if self.autoscaling is not None else self.replicas

    @property
    def may_sleep(self) -> bool:
        """Whether there may be none at some time."""
        return self.autoscaling is not None and self.autoscaling.may_sleep

    def wanted(self, scaled: int | None) -> int:
        """How many there are to be now, where ``scaled`` is what their load asks for."""
        if self.autoscaling is None:
            return self.replicas
        return self.autoscaling.bounded(scaled or 0)

    @property
    def node_devices(self) -> int:
        """How many devices each node of an engine gives it, where that is not left to the pool. A CPU is one,
        however many slots of it are given."""
        return 1 if self.devices.vendors == ["cpu"] else max(1, self.devices.count)

    @property
    def engine_devices(self) -> int:
        """How many an engine has on all its nodes."""
        return self.nodes * self.node_devices


def check_number(replicas: int, autoscaling: AutoscalingSpec | None) -> None:
    """Raises ``ValueError`` where both say how many engines there are to be."""
    if autoscaling is not None and replicas != 1:
        raise ValueError(
            "replicas: leave it out with autoscaling; set autoscaling.minReplicas and maxReplicas"
        )


def check_nodes(path: str, role: RoleSpec) -> None:
    """Raises ``ValueError`` where nodes could give an engine what does not work together: the scheduler may
    take other devices on each."""
    if role.nodes == 1:
        return
    devices, engine = role.devices, f"an engine on {role.nodes} nodes"
    if devices.share_millis < WHOLE_MILLIS:
        raise ValueError(f"{path}nodes: {engine} needs whole devices of each")
    if len(set(devices.vendors)) != 1:
        raise ValueError(
            f"{path}devices.vendors: name one vendor for {engine}, since its ranks speak to each other"
        )
    if devices.equivalence is not None and len({model.casefold() for model in devices.models}) != 1:
        raise ValueError(
            f"{path}devices.models: name one model for {engine}, since by equivalence another model would be "
            "another number of devices, and each node has to give equally many"
        )


def check_stages(path: str, role: RoleSpec, asked: int | None, *, hands_over: bool) -> None:
    """Raises ``ValueError`` where layers cannot be divided as ``engine.pipelineStages`` says. Engines that
    hand KV caches over need all layers on each device: with stages vLLM fetches those of one stage only."""
    stages = asked or (1 if role.devices.vendors == ["cpu"] else role.nodes)
    if hands_over and stages > 1:
        raise ValueError(
            f"engine.pipelineStages: set it to 1, not {stages}: engines that hand KV caches over cannot "
            f"divide layers among stages ({path}nodes: {role.nodes})"
        )
    if asked in (None, role.nodes):
        return
    if role.devices.equivalence is not None:
        raise ValueError(
            f"engine.pipelineStages: leave it out where {path}devices.equivalence says how many devices "
            "there are"
        )
    if role.engine_devices % stages:
        raise ValueError(
            f"engine.pipelineStages: {stages} does not divide the {role.engine_devices} devices of an engine "
            f"({path}nodes x {path}devices.count)"
        )
