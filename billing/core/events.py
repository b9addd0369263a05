"""The usage event: the only thing that is billed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from common.errors import InvalidInput

UsageKind = Literal["inference", "training", "device"]
METERS = ("prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "device_seconds")
"""``prompt_tokens`` counts the whole prompt; ``cached_tokens`` is its part from a cache, priced apart."""


@dataclass(frozen=True)
class UsageEvent:
    """What one request, job or span of device time used.

    ``id`` is made by whoever observed the usage; the ledger posts an id once. ``quantities`` holds only
    meters above zero.
    ``device_class`` is ``vendor/model``. Times are milliseconds since the epoch.
    """

    id: str
    kind: UsageKind
    tenant: str
    project: str
    started_ms: int
    ended_ms: int
    quantities: Mapping[str, int]
    key: str = ""
    model: str = ""
    base_model: str = ""
    device_class: str = ""
    resource: str = ""
    outcome: str = "completed"
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "tenant", "project"):
            if not getattr(self, name):
                raise InvalidInput(f"{name}: required, but empty", param=name)
        if self.kind not in get_args(UsageKind):
            raise InvalidInput(f"kind: {self.kind!r} is unknown", param="kind")
        if self.ended_ms < self.started_ms:
            raise InvalidInput("ended_ms: before started_ms", param="ended_ms")
        _check_quantities(self.quantities)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in ((f, getattr(self, f)) for f in self.__dataclass_fields__)
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> UsageEvent:
        """Raises ``InvalidInput`` naming the field that is wrong, missing or unknown."""
        known = UsageEvent.__dataclass_fields__
        for name in content:
            if name not in known:
                raise InvalidInput(f"{name}: unknown field", param=name)
        for name, kind in (("started_ms", int), ("ended_ms", int), ("quantities", dict), ("id", str)):
            if not isinstance(content.get(name), kind):
                raise InvalidInput(f"{name}: must be {kind.__name__}", param=name)
        try:
            return UsageEvent(**cast(dict[str, Any], dict(content)))
        except TypeError as error:
            raise InvalidInput(f"usage event: {error}") from error


def _check_quantities(quantities: Mapping[str, int]) -> None:
    for meter, amount in quantities.items():
        if meter not in METERS:
            raise InvalidInput(f"quantities.{meter}: unknown meter", param=f"quantities.{meter}")
        if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
            raise InvalidInput(
                f"quantities.{meter}: must be a whole number >= 0, not {amount!r}",
                param=f"quantities.{meter}",
            )
    if quantities.get("cached_tokens", 0) > quantities.get("prompt_tokens", 0):
        raise InvalidInput(
            "quantities.cached_tokens: more than prompt_tokens", param="quantities.cached_tokens"
        )
