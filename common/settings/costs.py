"""What devices cost whoever runs the platform."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from common.resources.fields import DeviceModel, Whole
from common.settings.section import Section
from common.vocabulary import MAX_LIST

MAX_WATTS = 100_000
Watts = Annotated[int, Field(ge=0, le=MAX_WATTS)]


class DeviceCostSettings(Section):
    """One device of a class. Watts are with its part of the host."""

    purchase_microcredits: Whole
    depreciation_years: int = Field(ge=1, le=20)
    busy_watts: Watts = 0
    idle_watts: Watts = 0

    @model_validator(mode="after")
    def _work_draws_more(self) -> DeviceCostSettings:
        if self.idle_watts > self.busy_watts:
            raise ValueError("idle_watts must not be more than busy_watts")
        return self


class CostsSettings(Section):
    """What making tokens costs, for `computility margin`, and in what unit device time is counted: nobody is
    charged by it."""

    devices: dict[DeviceModel, DeviceCostSettings] = Field(
        default_factory=dict,
        max_length=MAX_LIST,
        description="device class, such as nvidia/H100 -> purchase_microcredits, depreciation_years, "
        "busy_watts, idle_watts; as JSON in the environment",
    )
    kwh_microcredits: Whole = Field(0, description="price of a kilowatt-hour")
    reference_device: DeviceModel = Field(
        "nvidia/A100",
        description="of which a card-hour is the standard compute unit of usage reports, by dense BF16 FLOPS "
        "as the device catalogue has them",
    )
    pue_millis: int = Field(
        1000,
        ge=1000,
        le=10_000,
        description="power usage effectiveness: what the site draws by what its machines do, in thousandths",
    )

    @field_validator("devices")
    @classmethod
    def _classes_are_told_apart(cls, value: dict[str, DeviceCostSettings]) -> dict[str, DeviceCostSettings]:
        for name in value:
            vendor, slash, model = name.partition("/")
            if not (vendor and slash and model):
                raise ValueError(f"the device class {name!r} must be vendor/model, such as nvidia/H100")
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("a device class stands there twice, in large and in small letters")
        return value
