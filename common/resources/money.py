"""Price books."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from common.clock import parse_rfc3339
from common.resources.fields import AdapterName, DeviceModel, Name
from common.resources.meta import Model, Resource, Status

MAX_ITEMS = 1000
Meter = Literal["prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "device_seconds"]


def _check_time(value: str) -> str:
    parse_rfc3339(value)
    return value


Time = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_time)]


class PriceItem(Model):
    """``microcredits_per_million`` of the meter's unit (tokens or device-seconds).

    ``model`` names the Model that does the work: ``project/name``, or ``name`` alone for one that is shared
    with all tenants; an adapter costs what its base costs. ``device_class`` is ``vendor/model``, e.g.
    ``nvidia/H100``. Both may be ``*``; the most exact match wins. Device time has no model.
    """

    meter: Meter
    model: AdapterName = "*"
    device_class: DeviceModel = "*"
    microcredits_per_million: int = Field(ge=0, le=10**12)


class PriceSpec(Model):
    """A price book, in force from ``effective_from`` until the next one begins (or ``effective_until``)."""

    effective_from: Time | None = Field(None, description="not in the past; unset = when the book is made")
    effective_until: Time | None = None
    tenant: Name | None = Field(None, description="only for this tenant; it wins over books for all")
    items: list[PriceItem] = Field(min_length=1, max_length=MAX_ITEMS)


class Price(Resource):
    PLURAL: ClassVar[str] = "prices"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Price"] = "Price"
    spec: PriceSpec
    status: Status = Field(default_factory=Status)
