"""The device catalogue: rows that come with the package, and those of an installation over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from common.errors import InvalidInput
from common.resources.meta import Model, parse_model
from common.units import parse_bytes
from common.vendors import VENDORS, Vendor
from scheduler.core.model.catalogue import Catalogue, DeviceSpec, PlacementRule

OWN_FILE = "catalogue.yaml"


def _pattern(text: str) -> str:
    if not re.search("[a-zA-Z0-9]", text):
        raise ValueError("must hold a letter or a digit")
    return text


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8", "int4"]


class RuleRow(Model):
    """``core.catalogue.PlacementRule`` as a file says it."""

    legal_counts: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    island_size: int = Field(0, ge=0)
    island_rule: Literal["inside", "even", "any"] = "any"
    pair_size: int = Field(1, ge=1)


class DeviceRow(Model):
    """``core.catalogue.DeviceSpec`` as a file says it; its vendor and name are its place in the file."""

    patterns: list[Annotated[str, AfterValidator(_pattern)]] = Field(default_factory=list)
    tflops: dict[Dtype, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    memory_bytes: Bytes = 0
    bandwidth_gbytes_per_second: int = Field(0, ge=0)
    link: str = ""
    link_gbytes_per_second: int = Field(0, ge=0)
    watts: int = Field(0, ge=0)
    capabilities: list[str] = Field(default_factory=list)
    partitions: list[str] = Field(default_factory=list)
    kubernetes_resource: str = ""
    price_micros_per_hour: int = Field(0, ge=0)
    rule: RuleRow = Field(default_factory=RuleRow)


Rows = dict[tuple[Vendor, str], dict[str, Any]]


def load_catalogue(extra_path: Path | None = None) -> Catalogue:
    """The catalogue, with the rows of ``extra_path`` winning over ours key by key.

    A new row without ``patterns`` is found by its name. Raises ``InvalidInput`` naming the file, the row and
    the field.
    """
    own = _own_rows()
    if extra_path is None:
        return Catalogue(tuple(_spec(key, row, OWN_FILE) for key, row in own.items()))
    try:
        content = extra_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"device catalogue {extra_path}: {error}") from error
    extra = _rows(content, extra_path.name)
    merged = {key: _merge(own.get(key, {}), row) for key, row in extra.items()}
    rest = {key: row for key, row in own.items() if key not in extra}
    return Catalogue(
        (
            *(_spec(key, row, extra_path.name) for key, row in merged.items()),
            *(_spec(key, row, OWN_FILE) for key, row in rest.items()),
        )
    )


@cache
def _own_rows() -> Rows:
    """Those that come with the package; they are parsed once in a process."""
    return _rows(files("scheduler.data").joinpath(OWN_FILE).read_text(encoding="utf-8"), OWN_FILE)


def _rows(content: str, name: str) -> Rows:
    """The rows of one file, not yet checked."""
    try:
        vendors = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise InvalidInput(f"device catalogue {name}: {error}") from error
    if vendors is None:
        return {}
    if not isinstance(vendors, dict):
        raise InvalidInput(f"device catalogue {name}: must map vendors to rows")
    rows: Rows = {}
    for vendor, models in vendors.items():
        if vendor not in VENDORS or vendor == "cpu":
            known = ", ".join(v for v in VENDORS if v != "cpu")
            raise InvalidInput(f"device catalogue {name}: {vendor} is no vendor; there are {known}")
        if not isinstance(models, dict):
            raise InvalidInput(f"device catalogue {name}: {vendor} must map names of models to rows")
        for model, row in models.items():
            if not isinstance(row, dict):
                raise InvalidInput(f"device catalogue {name}: {vendor}.{model} must be a mapping")
            rows[vendor, str(model)] = row
    return rows


def _merge(own: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """``extra`` over ``own``, mappings inside too; lists are replaced."""
    merged = dict(own)
    for key, value in extra.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _spec(key: tuple[Vendor, str], row: Mapping[str, Any], file: str) -> DeviceSpec:
    vendor, name = key
    parsed = parse_model(DeviceRow, dict(row), f"{file}:{vendor}.{name}")
    rule = parsed.rule
    return DeviceSpec(
        name=name,
        vendor=vendor,
        patterns=tuple(parsed.patterns) or (name,),
        tflops=tuple(sorted(parsed.tflops.items())),
        memory_bytes=parsed.memory_bytes,
        bandwidth_gbytes_per_second=parsed.bandwidth_gbytes_per_second,
        link=parsed.link,
        link_gbytes_per_second=parsed.link_gbytes_per_second,
        watts=parsed.watts,
        capabilities=frozenset(parsed.capabilities),
        partitions=tuple(parsed.partitions),
        kubernetes_resource=parsed.kubernetes_resource or VENDORS[vendor].kubernetes_resources[0],
        price_micros_per_hour=parsed.price_micros_per_hour,
        rule=PlacementRule(
            legal_counts=tuple(sorted(set(rule.legal_counts))),
            island_size=rule.island_size,
            island_rule=rule.island_rule,
            pair_size=rule.pair_size,
        ),
    )
