"""What all resources share: metadata, conditions, strict parsing with the path of each mistake."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
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
    explain_pattern,
)
from common.vocabulary import (
    MAX_LIST,
    NAME_CHARACTERS,
    OWN_LABELS,
    harmless,
    shortened,
)

API_VERSION: Literal["computility.io/v1alpha1"] = "computility.io/v1alpha1"

MAX_PROBLEMS = 100
"""As many mistakes of one document are named."""
_SHOWN_CHARACTERS = 80
_QUOTED = re.compile(r"'([^']*)'")


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


def problems_of(error: ValidationError, prefix: str = "") -> tuple[Problem, ...]:
    """A pydantic error as problems with paths like ``spec.roles[0].replicas``; the first hundred."""
    found = error.errors(include_url=False)[:MAX_PROBLEMS]
    return tuple(Problem(path_of(prefix, e["loc"]), say(e), e["type"]) for e in found)


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
    except TypeError as error:
        raise InvalidInput(f"only JSON values are allowed (quote dates and times): {error}") from error
    except (ValueError, RecursionError) as error:  # a number without end, a circle
        raise InvalidInput(f"only JSON values are allowed: {error}") from error


def path_of(prefix: str, loc: tuple[int | str, ...]) -> str:
    """A place as pydantic tells it, like ``spec.roles[0].name``; names that are long or odd are shown so that
    they do no harm."""
    text = prefix
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":  # pydantic's word for "the key itself"; the key stands before it
            name = shortened(part, _SHOWN_CHARACTERS)
            text += f".{name}" if text else name
    return text or "."


def say(error: Any) -> str:
    """What one error of pydantic means, in plain words."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "missing":
        return "required, but missing"
    if kind == "string_pattern_mismatch":
        return explain_pattern(context["pattern"])
    if kind == "string_unicode":
        return "holds half of a surrogate pair, which is no character"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters, not {len(error['input'])}"
    message: str = error["msg"]
    meant = _meant(error["input"], context.get("expected", "")) if kind in ("literal_error", "enum") else ""
    return harmless(message.removeprefix("Value error, ")) + meant


def _meant(given: object, expected: str) -> str:
    """The nearest of the words that are expected, like ``'nvidia', 'amd' or 'cpu'``."""
    words = _QUOTED.findall(expected)
    near = get_close_matches(given[:_SHOWN_CHARACTERS], words, n=1) if isinstance(given, str) else []
    return f"; did you mean {near[0]}?" if near else ""
