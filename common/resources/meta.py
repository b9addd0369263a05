"""What all resources share: metadata, conditions, strict parsing with the path of each mistake."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from common.errors import InvalidInput, Problem
from common.resources.fields import (
    Annotations,
    LabelKey,
    LabelValue,
    LongName,
    Message,
    OptionalName,
    TimeMs,
    Whole,
    Word,
)
from common.resources.saying import problems_of
from common.vocabulary import (
    MAX_LIST,
    NAME_CHARACTERS,
    OWN_LABELS,
    shortened,
)

API_VERSION: Literal["computility.io/v1alpha1"] = "computility.io/v1alpha1"


class Model(BaseModel):
    """Base of every part of a resource: camelCase outside, unknown fields refused, no silent conversions,
    numbers that are finite."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        validate_assignment=True,
        allow_inf_nan=False,
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, camelCase keys, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


M = TypeVar("M", bound=Model)


class Condition(Model):
    """One observed fact about a resource. ``type`` is unique within a resource."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(description="one CamelCase word")
    message: Message = ""
    last_transition_ms: int = 0
    observed_generation: int = 0


class Owner(Model):
    """The resource for which this one was made."""

    kind: Word
    name: LongName
    uid: OptionalName


class Metadata(Model):
    """Identity of a resource. All but name, project, labels and annotations is set by the store."""

    name: LongName
    project: LongName | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_LIST + OWN_LABELS)] = Field(
        default_factory=dict, description=f"at most {MAX_LIST} by people"
    )
    annotations: Annotations = Field(default_factory=dict)
    owner: Owner | None = None
    uid: OptionalName = ""
    resource_version: Whole = Field(0, description="store revision of the last write; 0 = do not care")
    generation: Whole = Field(0, description="counts changes of spec")
    created_ms: TimeMs = 0


class Status(Model):
    """Base of every status."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(default_factory=list)

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if observed."""
        return next((c for c in self.conditions if c.type == type_), None)

    def is_true(self, type_: str) -> bool:
        """Whether the condition of that type holds."""
        found = self.condition(type_)
        return found is not None and found.status == "True"

    def set_condition(
        self, type_: str, holds: bool, reason: str, message: str = "", *, now_ms: int, generation: int = 0
    ) -> bool:
        """Set a condition; its transition time moves only when ``status`` changes.

        Returns whether anything changed.
        """
        status: Literal["True", "False"] = "True" if holds else "False"
        old = self.condition(type_)
        changed_at = old.last_transition_ms if old and old.status == status else now_ms
        new = Condition(
            type=type_,
            status=status,
            reason=reason,
            message=message,
            last_transition_ms=changed_at,
            observed_generation=generation,
        )
        if old == new:
            return False
        self.conditions = [c for c in self.conditions if c.type != type_] + [new]
        return True


class Resource(Model):
    """A thing with ``spec`` (what users want) and ``status`` (what one controller observed)."""

    PLURAL: ClassVar[str]
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "project"
    DERIVED_NAMES: ClassVar[bool] = False
    """Whether names of the kind are made of other names, and so may be longer than what people choose."""

    api_version: Literal["computility.io/v1alpha1"] = API_VERSION
    kind: str
    metadata: Metadata
    spec: Any
    status: Any

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def project(self) -> str | None:
        return self.metadata.project

    @property
    def key(self) -> str:
        """``kind/project/name`` or ``kind/name``: unique in the store."""
        parts = (self.kind, self.metadata.project, self.metadata.name)
        return "/".join(part for part in parts if part)

    def copy_deep(self) -> Self:
        return self.model_copy(deep=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of the kind, with what people may choose."""
        schema = handler(core)
        short = {"maxLength": NAME_CHARACTERS}
        limits = {"project": short, "labels": {"maxProperties": MAX_LIST}}
        if not cls.DERIVED_NAMES:
            limits["name"] = short
        inner = handler.resolve_ref_schema(schema)
        inner["properties"]["metadata"] = {"allOf": [inner["properties"]["metadata"], {"properties": limits}]}
        return schema


def parse_model(model: type[M], content: object, prefix: str = "") -> M:
    """``content`` (from JSON or YAML) as ``model``; ``InvalidInput`` names every path that is wrong."""
    return parse_text(model, to_json(content), prefix)


def parse_text(model: type[M], text: bytes, prefix: str = "") -> M:
    """The same of what is JSON."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problems = problems_of(error, prefix)
        message = "; ".join(f"{p.path}: {p.message}" for p in problems)
        raise InvalidInput(message, param=problems[0].path, problems=problems) from error


def to_json(content: object) -> bytes:
    """``content`` as JSON; ``InvalidInput`` where it is none. Halves of surrogate pairs are for who reads it
    to refuse, with their place."""
    try:
        return json.dumps(content, ensure_ascii=False).encode(errors="surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        path, message = _no_json(content)
        raise InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),)) from error


def _no_json(content: object) -> tuple[str, str]:
    """Where the first value is that JSON cannot hold, and what is wrong with it."""
    try:
        path, value = next(_no_json_in(content, ""), ("", content))
    except RecursionError:
        return ".", "holds itself, or is nested too deeply"
    if isinstance(value, date):
        return path or ".", "is a date or time; put it in quotes"
    if isinstance(value, int):
        return path or ".", "is a number of too many digits"
    return path or ".", "is no value that JSON has"


def _no_json_in(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _no_json_in(part, f"{path}.{shortened(str(name), 80)}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _no_json_in(part, f"{path}[{index}]")
    elif not isinstance(value, str | int | float | None) or (
        isinstance(value, int) and abs(value) > sys.float_info.max
    ):
        yield path, value
