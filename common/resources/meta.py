"""What all resources share: metadata, conditions, strict parsing with the path of each mistake."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from common.errors import InvalidInput, Problem

API_VERSION: Literal["computility.io/v1alpha1"] = "computility.io/v1alpha1"

_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")


def _check_name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError(
            "must be 1-253 characters of a-z, 0-9, '-' and '.', starting and ending with a letter or digit"
        )
    return value


Name = Annotated[str, AfterValidator(_check_name)]


class Model(BaseModel):
    """Base of every part of a resource: camelCase outside, unknown fields refused, no silent conversions."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, validate_assignment=True
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
    message: str = ""
    last_transition_ms: int = 0
    observed_generation: int = 0


class Owner(Model):
    """The resource for which this one was made."""

    kind: str
    name: str
    uid: str


class Metadata(Model):
    """Identity of a resource. All but name, project, labels and annotations is set by the store."""

    name: Name
    project: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner: Owner | None = None
    uid: str = ""
    resource_version: int = Field(0, description="store revision of the last write; 0 = do not care")
    generation: int = Field(0, description="counts changes of spec")
    created_ms: int = 0


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


def problems_of(error: ValidationError, prefix: str = "") -> tuple[Problem, ...]:
    """A pydantic error as problems with paths like ``spec.roles[0].replicas``."""
    return tuple(Problem(_path(prefix, e["loc"]), _say(e), e["type"]) for e in error.errors())


def parse_model(model: type[M], content: object, prefix: str = "") -> M:
    """``content`` (from JSON or YAML) as ``model``; ``InvalidInput`` names every path that is wrong."""
    try:
        return model.model_validate_json(_to_json(content))
    except ValidationError as error:
        problems = problems_of(error, prefix)
        text = "; ".join(f"{p.path}: {p.message}" for p in problems)
        raise InvalidInput(text, param=problems[0].path, problems=problems) from error


def _to_json(content: object) -> bytes:
    try:
        return json.dumps(content).encode()
    except TypeError as error:
        raise InvalidInput(f"only JSON values are allowed (quote dates and times): {error}") from error


def _path(prefix: str, loc: tuple[int | str, ...]) -> str:
    text = prefix
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "."


def _say(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] == "missing":
        return "required, but missing"
    message: str = error["msg"]
    return message.removeprefix("Value error, ")
