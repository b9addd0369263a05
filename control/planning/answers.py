"""What people are told about a plan: the answer of ``POST /api/v1/plan``, and its input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from common.resources.fields import DeviceModel, Word
from common.resources.meta import Model
from common.resources.objectives import ServiceObjective, TrafficProfile

MAX_DEVICES = 100_000
MAX_DOCUMENTS = 100
MAX_ENDPOINTS = 16
"""Each is worked out anew, while others wait."""
MAX_OFFERS = 16


class OfferedDevices(Model):
    """Devices to plan with in place of those that the pool has."""

    device_class: DeviceModel = Field(description="vendor/model, e.g. nvidia/H200")
    count: int = Field(ge=1, le=MAX_DEVICES)
    per_node: int = Field(8, ge=1, le=1024, description="devices of a node")


class PlanRequest(Model):
    """``documents``: as for ``/apply``, an Endpoint among them. ``model_config``, of each Endpoint's Model,
    where it is not on control's machine. ``devices``: in place of the pool's."""

    documents: Annotated[list[Any], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    config: dict[str, Any] | None = Field(
        None, description="config.json of the Model, where control has none"
    )
    devices: Annotated[list[OfferedDevices], Field(max_length=MAX_OFFERS)] | None = None


class PlanLeg(Model):
    """Engines of one kind."""

    role: Literal["serve", "prefill", "decode"]
    device_class: str
    engines: int
    tensor_parallel: int
    pipeline_parallel: int = 1
    devices: int = Field(description="of all of them")
    batch: int = Field(description="sequences at once in each engine, in each stage of its pipeline")
    source: Word = Field(description="where its figures come from")


class PlanRole(Model):
    """Devices that a role of the Endpoint may have: those of its ``devices`` of which figures are known."""

    role: Literal["prefill", "decode"]
    device_classes: list[str]


class PlanOption(Model):
    """One way to serve the load within the SLO; times are those at its full load."""

    mode: Literal["single", "replicated", "disaggregated"]
    legs: list[PlanLeg]
    devices: int
    ttft_milliseconds: float
    inter_token_milliseconds: float
    capacity_requests_per_second: float
    output_tokens_per_second_per_device: float
    microcredits_per_million_output_tokens: int | None = Field(
        None, description="device time for the load that is said, else for its capacity; unset = no price"
    )


class PlanRefusal(Model):
    """Why devices of a class do not serve it."""

    device_class: str
    mode: Literal["any", "replicated", "disaggregated"]
    message: str


class EndpointPlan(Model):
    """The options for an Endpoint, best first; ``taken`` is the place of the advised one (from 0); unset =
    there is none."""

    project: str
    name: str
    model: str
    parameters: int
    weight_bytes: int
    kv_bytes_per_token: int
    slo: ServiceObjective
    traffic: TrafficProfile
    traffic_assumed: bool = Field(description="the Endpoint says no spec.traffic")
    roles: list[PlanRole] = Field(
        default_factory=list, description="of mode disaggregated, whose roles have devices of their own"
    )
    options: list[PlanOption]
    taken: int | None = None
    reasons: list[str]
    refusals: list[PlanRefusal]


class Plan(Model):
    """One entry per Endpoint."""

    plans: list[EndpointPlan]
