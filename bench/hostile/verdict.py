"""The ledger beside the engine's counters, and how far apart the scheduler's passes were."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.hostile.world import World
from common.errors import ComputilityError
from control.demo import bill, story

LONGEST_GAP = "computility_loop_longest_gap_seconds"
SETTLE_SECONDS = 60.0


@dataclass
class EngineCounter:
    """Completion tokens of the shared endpoint's engine, added up over its restarts. An engine that dies
    takes with it what it made since it was last looked at."""

    world: World
    restarts: int = 0
    _before: int = 0
    _last: int = 0
    _endpoint: Mapping[str, Any] = field(default_factory=dict)

    def look(self) -> None:
        """Take over what the engine counts now, if it answers."""
        try:
            now = bill.engine_tokens(self._endpoint or self._find(), self.world.platform.settings).completion
        except ComputilityError:
            self._endpoint = {}
            return
        if now < self._last:
            self.restarts += 1
            self._before += self._last
        self._last = now

    @property
    def total(self) -> int:
        return self._before + self._last

    def _find(self) -> Mapping[str, Any]:
        with self.world.control() as client:
            self._endpoint = client.get("endpoints", self.world.endpoint, self.world.project)
        return self._endpoint


@dataclass(frozen=True)
class Counted:
    """Completion tokens up to now, as the engine and as the ledger count them."""

    engine: int
    ledger: int

    @staticmethod
    def now(world: World, engine: EngineCounter) -> Counted:
        """Both counts, once everything that was answered is in the ledger. Raises ``Unavailable`` where the
        engine does not come back."""
        with world.control() as client:
            story.wait_ready(client, world.project, world.endpoint, lambda _: None)
            bill.wait_posted(world.platform.settings)
            ledger = int(client.usage()["total"]["completion_tokens"])
        engine.look()
        return Counted(engine.total, ledger)


def unbilled_tokens(world: World, engine: EngineCounter, before: Counted) -> int:
    """Completion tokens that the engine made since ``before`` and the ledger has not, once both have come to
    rest. Prompts are left out: of a request with several choices the engine counts the prompt for each."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        after = Counted.now(world, engine)
        missing = (after.engine - before.engine) - (after.ledger - before.ledger)
        if missing == 0 or time.monotonic() > deadline:
            return missing
        time.sleep(1.0)


def longest_gap_of(world: World) -> float | None:
    """The scheduler's longest gap between passes of late, in seconds; None where control does not answer."""
    settings = world.platform.settings
    try:
        text = bill.metrics_of(settings.control_url, settings)
    except httpx.HTTPError:
        return None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == LONGEST_GAP and sample.labels["loop"] == "scheduler":
                return float(sample.value)
    return None
