"""The loop that compares canaries with what they are beside, and takes back those that are worse.

It only writes ``status.canary`` and a condition. Routes and engines follow from them, and a canary that was
taken back stays so: what is written outlives this process, and is looked at no more.
"""

from __future__ import annotations

import asyncio

from prometheus_client import Counter

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.guard import Guard
from common.ids import derived_id
from common.loop import LoopHealth, first_of
from common.resources import Endpoint
from common.resources.canary import ROLLED_BACK, CanarySpec, CanaryStatus, trial_of
from common.store.kept import KeptList
from common.store.port import Event, StatusWrite, Store
from common.telemetry import get_logger
from common.wire import SideCounts, TrialReport
from inference.core.canary.judge import Limits, Seen, Trial, Verdict

LOOK_SECONDS = 2.0
"""Between two looks, where gateways tell something new."""
IDLE_LOOK_SECONDS = 10.0
WRITE_TRIES = 3
MAX_TRIALS = 10_000
"""That are known at a time; what gateways tell of others is left out until some have ended."""
TRYING = "Trying"

ROLLBACKS = Counter("computility_canary_rollbacks", "Canaries taken back, by why", ("reason",))
_log = get_logger(__name__)


class CanaryJudge:
    """In memory is what gateways have counted; they tell it again, all of it, to one that begins anew."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._guard = Guard("canaries", clock)
        self._tried = KeptList(store, Endpoint, lambda endpoint: endpoint.spec.canary is not None)
        self._trials: dict[tuple[str, str], Trial] = {}
        self._news = asyncio.Event()

    def report(self, report: TrialReport) -> None:
        """What a gateway has counted by now."""
        now_seconds = self._clock.monotonic_seconds()
        for one in report.trials:
            key = (one.endpoint, one.trial)
            if key not in self._trials and len(self._trials) >= MAX_TRIALS:
                continue
            trial = self._trials.setdefault(key, Trial())
            trial.note(report.gateway, _seen(one.canary), _seen(one.stable), now_seconds)
        self._news.set()

    def trial_of(self, endpoint: Endpoint) -> Trial | None:
        """What was counted of its canary as it is now; None before there was something."""
        return self._trials.get((endpoint.metadata.uid, trial_of(endpoint.spec)))

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Look until ``stop`` is set: soon after gateways have told something, and now and then."""
        health = health or LoopHealth("canaries", self._clock)
        while not stop.is_set():
            self._news.clear()
            try:
                await self.step()
                health.note(None)
            except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad look must not end it
                health.note(error)
            await first_of(asyncio.sleep(LOOK_SECONDS), stop.wait())
            idle_seconds = IDLE_LOOK_SECONDS - LOOK_SECONDS
            await first_of(asyncio.sleep(idle_seconds), self._news.wait(), stop.wait())

    async def step(self) -> None:
        """One look at all Endpoints that have a canary."""
        tried = [endpoint.copy_deep() for endpoint in await self._tried.now()]  # to write to
        known = {(endpoint.metadata.uid, trial_of(endpoint.spec)) for endpoint in tried}
        self._trials = {key: trial for key, trial in self._trials.items() if key in known}
        self._guard.forget_gone()
        for endpoint in tried:
            with self._guard.item(
                "Endpoint", ("canary", endpoint.metadata.uid), endpoint.metadata.generation
            ):
                await self._judge(endpoint)

    async def _judge(self, endpoint: Endpoint) -> None:
        uid, trial = endpoint.metadata.uid, trial_of(endpoint.spec)
        for _ in range(WRITE_TRIES):
            event = self._set(endpoint)
            if event is None:
                return
            (result,) = await self._store.set_statuses([StatusWrite(endpoint, event)])
            if not isinstance(result, Conflict):
                if isinstance(result, Endpoint) and event:
                    _tell(endpoint, event[0])
                return
            try:
                endpoint = await self._store.get(Endpoint, endpoint.name, endpoint.project)
            except NotFound:
                return
            if endpoint.metadata.uid != uid or trial_of(endpoint.spec) != trial:
                return  # another one has its name, or is tried now: nothing was seen of that

    def _set(self, endpoint: Endpoint) -> tuple[Event, ...] | None:
        """Set what the status is to say, and tell it by an event where the canary is taken back; None where
        the status says so."""
        canary, status, now_ms = endpoint.spec.canary, endpoint.status, self._clock.now_ms()
        if canary is None or endpoint.is_rolled_back:
            return None
        trial, seen = trial_of(endpoint.spec), self.trial_of(endpoint)
        verdict = Verdict(False, TRYING, "")
        if seen is not None:
            verdict = seen.verdict(limits_of(canary), self._clock.monotonic_seconds())
        known = status.canary
        if not verdict.worse and known is not None and known.trial == trial:
            return None
        reason, message = verdict.reason, f"{canary.model} gets no requests any more: {verdict.message}"
        if not verdict.worse:
            reason, message = TRYING, f"{canary.weight_percent:g} % of requests are {canary.model}'s"
        status.canary = CanaryStatus(
            trial=trial, rolled_back=verdict.worse, reason=reason, message=message, since_ms=now_ms
        )
        status.set_condition(
            ROLLED_BACK,
            verdict.worse,
            reason,
            message,
            now_ms=now_ms,
            generation=endpoint.metadata.generation,
        )
        return (_event(endpoint, status.canary),) if verdict.worse else ()


def limits_of(canary: CanarySpec) -> Limits:
    """How much worse it may be."""
    rollback = canary.rollback
    return Limits(rollback.max_error_percent, rollback.max_ttft_ratio, rollback.min_requests)


def _seen(counts: SideCounts) -> Seen:
    return Seen(counts.requests, counts.failed, counts.first_tokens)


def _event(endpoint: Endpoint, canary: CanaryStatus) -> Event:
    return Event(
        id=derived_id("evt", endpoint.metadata.uid, ROLLED_BACK, canary.trial, canary.since_ms),
        time_ms=canary.since_ms,
        level="warning",
        reason=ROLLED_BACK,
        message=canary.message,
        kind="Endpoint",
        name=endpoint.name,
        project=endpoint.project,
        data={"why": canary.reason},
    )


def _tell(endpoint: Endpoint, event: Event) -> None:
    ROLLBACKS.labels(event.data["why"]).inc()
    _log.warning(
        "a canary was taken back", endpoint=endpoint.name, project=endpoint.project, why=event.message
    )
