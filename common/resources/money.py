"""Price books."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from common.clock import parse_rfc3339
from common.resources.fields import AdapterName, DeviceModel, Name, Word
from common.resources.meta import Model, Resource, Status
from common.resources.scaling import TimeZone, WeeklyHours

MAX_ITEMS = 1000
MAX_TIERS = 20
MAX_UNITS = 10**15
Meter = Literal["prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "device_seconds"]


def _check_time(value: str) -> str:
    parse_rfc3339(value)
    return value


Time = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_time)]


class PriceTier(Model):
    """Another price for what is beyond the first ``above`` units of a tenant in a period."""

    above: int = Field(gt=0, le=MAX_UNITS)
    microcredits_per_million: int = Field(ge=0, le=10**12)


class PriceItem(Model):
    """``microcredits_per_million`` of the meter's unit (tokens or device-seconds).

    ``model`` names the Model that does the work: ``project/name``, or ``name`` alone for one that is shared
    with all tenants; an adapter costs what its base costs where no item has its ``adapter``. ``device_class``
    is ``vendor/model``, e.g. ``nvidia/H100``. All may be ``*``; the most exact match wins. Device time has no
    model.
    """

    meter: Meter
    model: AdapterName = "*"
    device_class: DeviceModel = "*"
    microcredits_per_million: int = Field(ge=0, le=10**12)
    adapter: AdapterName = Field("*", description="an Adapter, as project/name")
    service_tier: Word | Literal["*"] = Field(
        "*", description="what was promised of the work, like batch; * = anything"
    )
    hours: WeeklyHours | None = Field(
        None, description="only then, such as 'Mon-Fri 22:00-06:00', by timeZone; unset = always"
    )
    period: Literal["day", "month", "year"] = Field(
        "month", description="what tiers count in, by the calendar of timeZone"
    )
    tiers: list[PriceTier] = Field(
        default_factory=list, max_length=MAX_TIERS, description="other prices beyond so many units"
    )


class PriceSpec(Model):
    """A price book, in force from ``effective_from`` until the next one begins (or ``effective_until``)."""

    effective_from: Time | None = Field(None, description="not in the past; unset = when the book is made")
    effective_until: Time | None = None
    tenant: Name | None = Field(None, description="only for this tenant; it wins over books for all")
    time_zone: TimeZone = Field(
        "UTC", description="whose clocks and calendar hours and tiers go by, like Asia/Shanghai"
    )
    items: list[PriceItem] = Field(min_length=1, max_length=MAX_ITEMS)


class Price(Resource):
    PLURAL: ClassVar[str] = "prices"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Price"] = "Price"
    spec: PriceSpec
    status: Status = Field(default_factory=Status)
