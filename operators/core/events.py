"""What control tells of a resource, as an Event of Kubernetes: as few as say it all."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.core.status import moment

MAX_MESSAGE_CHARACTERS = 1024
MAX_KNOWN = 4096
"""Events that are told apart; older ones are made anew."""
SHARE = 8
"""Of what may be told in a minute one resource may take this part."""
MINUTE_SECONDS = 60.0


@dataclass
class Budget:
    """How many events may be told: as many a minute as are given out evenly, saved up for a minute."""

    per_minute: int
    _left: float = field(init=False)
    _at_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._left = float(self.per_minute)

    def take(self, now_seconds: float) -> bool:
        """Whether one more may be told."""
        passed = max(0.0, now_seconds - self._at_seconds) if self._at_seconds else 0.0
        self._at_seconds = now_seconds
        self._left = min(self.per_minute, self._left + passed * self.per_minute / MINUTE_SECONDS)
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Budgets:
    """A budget of all, and of each resource a part of it."""

    def __init__(self, per_minute: int) -> None:
        self._all = Budget(per_minute)
        self._each_per_minute = max(1, per_minute // SHARE) if per_minute else 0
        self._each: OrderedDict[str, Budget] = OrderedDict()

    def take(self, uid: str, now_seconds: float) -> bool:
        """Whether one more may be told of the resource with the uid."""
        budget = self._each.setdefault(uid, Budget(self._each_per_minute))
        self._each.move_to_end(uid)
        if len(self._each) > MAX_KNOWN:
            self._each.popitem(last=False)
        return budget.take(now_seconds) and self._all.take(now_seconds)


class Told:
    """How often the same was told of the same resource."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def count(self, name: str) -> int:
        """Once more; how often in all."""
        self._counts[name] = self._counts.get(name, 0) + 1
        self._counts.move_to_end(name)
        if len(self._counts) > MAX_KNOWN:
            self._counts.popitem(last=False)
        return self._counts[name]


def name_of(body: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """The name of the Event: the same for the same reason and message."""
    told = "\x1f".join((body["metadata"]["uid"], said["reason"], said["message"]))
    return f"{body['metadata']['name'][:200]}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def event_of(body: Mapping[str, Any], said: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """An Event for what control said of the custom resource."""
    metadata = body["metadata"]
    time = moment(said["timeMs"])
    involved = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
    involved |= {name: metadata[name] for name in ("name", "namespace", "uid") if name in metadata}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name_of(body, said), "namespace": namespace},
        "involvedObject": involved,
        "type": "Normal" if said["level"] == "info" else "Warning",
        "reason": said["reason"],
        "message": said["message"][:MAX_MESSAGE_CHARACTERS],
        "source": {"component": "computility"},
        "reportingComponent": "computility",
        "reportingInstance": "control",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
