"""Budgets: how much may be used, by whom, in which time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from common.resources.fields import Name
from common.resources.meta import Model, Resource, Status
from common.resources.money import Time
from common.resources.scaling import TimeZone
from common.vocabulary import MAX_NUMBER, TEXT_PATTERN

MAX_TAGS = 4
MAX_THRESHOLDS = 10
MAX_PERCENT = 1000
SECONDS_PER_HOUR = 3600
Amount = Annotated[int, Field(gt=0, le=MAX_NUMBER)]
EndUser = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=f"^{TEXT_PATTERN}$")]
TagName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=f"^{TEXT_PATTERN}$")]
TagValue = Annotated[str, StringConstraints(max_length=512, pattern=f"^{TEXT_PATTERN}$")]
Percent = Annotated[int, Field(ge=1, le=MAX_PERCENT)]


class BudgetScope(Model):
    """Whose use counts: all that is billed to the tenant, or what is also of all else that is given."""

    tenant: Name
    project: Name | None = None
    key: Name | None = Field(None, description="name of an API key")
    user: EndUser | None = Field(None, description="the end user that requests name")
    tags: Annotated[dict[TagName, TagValue], Field(max_length=MAX_TAGS)] = Field(
        default_factory=dict, description="the metadata of requests; all have to be there"
    )


class BudgetLimit(Model):
    """How much a period has. Exactly one is set."""

    microcredits: Amount | None = Field(None, description="money, device time included; 1 credit = 1,000,000")
    tokens: Amount | None = Field(None, description="of prompts, answers and training")
    device_hours: Annotated[int, Field(gt=0, le=10**9)] | None = Field(
        None, description="of devices that run the project's engines and jobs"
    )

    @model_validator(mode="after")
    def _says_one(self) -> BudgetLimit:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("set one of microcredits, tokens and deviceHours")
        return self


class BudgetSpec(Model):
    """A limit for each period, from ``effective_from`` on. Only the limit, the thresholds and the end of a
    budget can change."""

    scope: BudgetScope
    period: Literal["day", "week", "month", "total"] = Field(
        "month", description="by the calendar of timeZone; weeks begin on Monday; total = never anew"
    )
    time_zone: TimeZone = Field("UTC", description="whose calendar periods go by, like Asia/Shanghai")
    limit: BudgetLimit
    enforcement: Literal["hard", "soft"] = Field(
        "hard", description="hard: what would go beyond the limit is refused; soft: it is only told"
    )
    notify_at_percent: Annotated[list[Percent], Field(max_length=MAX_THRESHOLDS)] = Field(
        default_factory=lambda: [50, 80, 100],
        description="of the limit: an event tells of each, once a period",
    )
    effective_from: Time | None = Field(None, description="not in the past; unset = when it is made")
    effective_until: Time | None = None


class BudgetStatus(Status):
    """As counted a moment ago. ``spent`` is in the unit of the limit (device time in seconds)."""

    period: str = Field("", description="such as 2026-11, 2026-W48, 2026-11-30 or total")
    spent: int = 0
    spent_percent: int = 0


class Budget(Resource):
    PLURAL: ClassVar[str] = "budgets"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Budget"] = "Budget"
    spec: BudgetSpec
    status: BudgetStatus = Field(default_factory=BudgetStatus)
