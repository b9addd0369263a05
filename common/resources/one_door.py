"""One door to all models: Routes, and models that others serve."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from common.data_class import DataClass
from common.doors import Check, Fault, Protocol, Untold
from common.resources.fields import AdapterName, Name, ServedName, Text, Whole, Word
from common.resources.meta import Model, Resource, Status
from common.resources.rates import RateLimits
from common.resources.scaling import TimeZone, WeeklyHours
from common.resources.serving import Task
from common.vocabulary import MAX_LIST

MAX_CANDIDATES = 20
MAX_WEIGHT = 1000
_URL_CHARACTERS = 512
_TAGS = 16


def _check_url(url: str) -> str:
    """Raises ``ValueError`` unless it is the base URL of an API, and nothing more."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be the base URL of an API, like https://api.example.com/v1")
    if "@" in parts.netloc or parts.query or parts.fragment or not url.isascii():
        raise ValueError("must be a base URL alone: no user, password, query or fragment")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError("its port is none") from error
    return url.rstrip("/")


BaseUrl = Annotated[
    str,
    StringConstraints(
        max_length=_URL_CHARACTERS, pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,4})?(/[A-Za-z0-9._~/-]*)?$"
    ),
    AfterValidator(_check_url),
]
Region = Word
"""Where data are worked on, by any name: ``eu``, ``cn-north``."""
Regions = Annotated[list[Region], Field(max_length=MAX_LIST)]


def _chat() -> list[Task]:
    return ["chat"]


class ExternalModelSpec(Model):
    """A model that others serve, at an API like OpenAI's or Anthropic's. ``served_name`` is what clients put
    in ``model``; unset = its name. Prices go by its ``project/name``."""

    served_name: ServedName | None = None
    url: BaseUrl = Field(description="base URL of the API, with its /v1 where it has one")
    protocol: Protocol = Field(
        "openai", description="what it speaks, untranslated: anthropic answers requests to /v1/messages alone"
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[!-~]+$")] = Field(
        description="what the provider calls it"
    )
    secret: Name | None = Field(
        None, description="name of the provider's key, which lies with the gateways; unset = none is sent"
    )
    provider: Word = Field("external", description="who serves it, for reports")
    region: Region = Field(description="where what is sent there is worked on")
    data_class: DataClass = Field(description="highest class of data that may be sent there")
    tasks: list[Task] = Field(default_factory=_chat, min_length=1, max_length=3)
    context_tokens: Annotated[int, Field(gt=0, le=10**9)] | None = None
    tools: bool = Field(True, description="whether it calls tools")
    vision: bool = Field(False, description="whether it takes images")
    untold_usage: Untold = Field(
        "refuse",
        description="where the provider tells no usage: refuse = the answer is not given out; estimate = "
        "tokens are estimated from its length, and marked so on the bill",
    )
    rate_limits: RateLimits = Field(default_factory=RateLimits, description="of all requests for it")
    shared: bool = Field(False, description="visible to the other tenants too")

    @model_validator(mode="after")
    def _speaks_what_it_serves(self) -> ExternalModelSpec:
        if self.protocol == "anthropic" and set(self.tasks) != {"chat"}:
            raise ValueError("tasks: protocol anthropic serves chat only, at /v1/messages")
        return self


class ExternalModel(Resource):
    PLURAL: ClassVar[str] = "externalmodels"
    kind: Literal["ExternalModel"] = "ExternalModel"
    spec: ExternalModelSpec
    status: Status = Field(default_factory=Status)

    @property
    def served_name(self) -> str:
        """What clients put in ``model``."""
        return self.spec.served_name or self.name


class ConditionsSpec(Model):
    """Which requests a candidate is for; what is unset holds for all."""

    min_prompt_tokens: Whole | None = Field(None, description="counted as a quarter of the request's bytes")
    max_prompt_tokens: Whole | None = Field(None, description="the same")
    tools: bool | None = Field(None, description="only requests with tools (true), or without (false)")
    vision: bool | None = Field(None, description="only requests with images (true), or without (false)")
    tags: dict[Word, Text] = Field(
        default_factory=dict, max_length=_TAGS, description="only requests whose metadata say so"
    )
    data_classes: list[DataClass] = Field(
        default_factory=list, max_length=len(get_args(DataClass)), description="only these; empty = all"
    )
    hours: WeeklyHours | None = Field(
        None, description="only then, such as 'Mon-Fri 08:00-20:00', by timeZone"
    )


class CandidateSpec(Model):
    """A model that may answer: of an Endpoint, an adapter or an ExternalModel that the project sees."""

    model: AdapterName = Field(description="what clients would put in model to reach it")
    order: Annotated[int, Field(ge=0, le=MAX_WEIGHT)] | None = Field(
        None,
        description="lower ones are asked first; of equal ones weight decides; unset = behind the one before",
    )
    weight: Annotated[int, Field(ge=0, le=MAX_WEIGHT)] = Field(
        1, description="share of the requests among candidates of the same order; 0 = only as a fallback"
    )
    when: ConditionsSpec = Field(default_factory=ConditionsSpec)
    max_microcredits_per_million: Whole | None = Field(
        None, description="not while a million of its tokens, of prompt or answer, cost more"
    )


def _all_faults() -> list[Fault]:
    return list(get_args(Fault))


class CascadeSpec(Model):
    """The first candidate answers, and what it answers is looked at: where it fails a check, the next one is
    asked. Of requests that are not streamed."""

    checks: list[Check] = Field(
        min_length=1,
        max_length=len(get_args(Check)),
        description="truncation: it was cut off at its length; refusal: it declines, or is empty; format: "
        "it is no JSON, or not as its schema says, where the request asks for that",
    )


class RouteSpec(Model):
    """A name for several models. ``served_name`` is what clients put in ``model``; unset = its name."""

    served_name: ServedName | None = None
    candidates: list[CandidateSpec] = Field(min_length=1, max_length=MAX_CANDIDATES)
    sticky_by: Literal["key", "session", "none"] = Field(
        "none", description="what stays with one candidate of equal order while weights are unchanged"
    )
    fallback_on: list[Fault] = Field(
        default_factory=_all_faults,
        max_length=len(get_args(Fault)),
        description="why the next candidate is asked; empty = never",
    )
    deadline_ms: Annotated[int, Field(gt=0, le=3_600_000)] | None = Field(
        None, description="longest that a candidate may take until its answer begins, if another one is left"
    )
    cascade: CascadeSpec | None = None
    time_zone: TimeZone = Field("UTC", description="whose clocks the hours of conditions go by")
    shared: bool = Field(False, description="visible to the other tenants too")

    @model_validator(mode="after")
    def _names_each_once(self) -> RouteSpec:
        names = [one.model for one in self.candidates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"candidates: {twice[0]} stands there more than once")
        return self

    @property
    def orders(self) -> list[int]:
        """The order of each candidate; one that has none follows the one before."""
        orders: list[int] = []
        for one in self.candidates:
            behind = orders[-1] + 1 if orders else 0
            orders.append(one.order if one.order is not None else behind)
        return orders


class Route(Resource):
    PLURAL: ClassVar[str] = "routes"
    kind: Literal["Route"] = "Route"
    spec: RouteSpec
    status: Status = Field(default_factory=Status)

    @property
    def served_name(self) -> str:
        """What clients put in ``model``."""
        return self.spec.served_name or self.name
