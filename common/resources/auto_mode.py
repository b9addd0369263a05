"""What mode ``auto`` has decided for an Endpoint, and why."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.resources.fields import Message, SeenName, TimeMs, Whole
from common.resources.meta import Model as Part
from common.resources.pool import WHOLE_MILLIS, DeviceRequest
from common.resources.scaling import MAX_ENGINES
from common.vendors import VENDORS
from common.vocabulary import MAX_LIST

MAX_REASONS = 12


class Readers(Part):
    """So many engines on devices of a class only read prompts."""

    device_class: SeenName
    engines: int = Field(ge=1, le=MAX_ENGINES)


class AutoStatus(Part):
    """The mode that is in force, on which devices, and why, in words and figures."""

    mode: Literal["single", "replicated", "disaggregated"] = "replicated"
    device_class: SeenName = Field(
        "", description="vendor/model of the engines; empty = as spec.devices says"
    )
    devices_per_engine: int = Field(0, ge=0, le=1024, description="0 = as spec.devices says")
    readers: Annotated[list[Readers], Field(max_length=MAX_LIST)] = Field(
        default_factory=list, description="engines that read prompts for the others"
    )
    min_prompt_tokens: Whole = Field(0, description="the others read shorter prompts themselves")
    hands_over: bool = Field(False, description="engines are started so that they can hand KV caches over")
    reasons: Annotated[list[Message], Field(max_length=MAX_REASONS)] = Field(
        default_factory=list, description="as of the last time that something new was found"
    )
    since_ms: TimeMs = Field(0, description="of the last change")
    changes_ms: Annotated[list[TimeMs], Field(max_length=MAX_LIST)] = Field(
        default_factory=list, description="of the last hour"
    )
    planned_generation: int = Field(0, description="of the Endpoint, as the devices were chosen")
    planned_model: SeenName = Field("", description="uid and generation of the Model at that time")

    @property
    def connector(self) -> str:
        """By which its engines hand KV caches over; empty = they do not."""
        vendor = self.device_class.partition("/")[0]
        row = next((row for name, row in VENDORS.items() if name == vendor), None)
        return (row.kv_connector or "") if row is not None and self.hands_over else ""

    def narrowed(self, request: DeviceRequest) -> DeviceRequest:
        """What an engine asks for: of what the Endpoint allows, the devices that were chosen."""
        vendor, _, model = self.device_class.partition("/")
        if not model:
            return request
        chosen: dict[str, object] = {"vendors": [vendor], "models": [model]}
        if self.devices_per_engine and leaves_size_open(request):
            chosen["count"] = self.devices_per_engine
        return request.model_copy(update=chosen)

    def readers_of(self, device_class: str) -> int:
        """How many engines on these devices only read prompts."""
        return sum(one.engines for one in self.readers if one.device_class == device_class)


def leaves_size_open(request: DeviceRequest) -> bool:
    """Whether how many devices an engine has is for auto to say."""
    return request.count == 1 and request.share_millis == WHOLE_MILLIS and request.equivalence is None
