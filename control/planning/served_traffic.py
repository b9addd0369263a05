"""What Endpoints of mode ``auto`` have served lately, from the usage events that gateways post."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from billing.core.events import UsageEvent
from common.resources import Endpoint
from inference.autoscaling.watch import EndpointWatch
from inference.core.mode.traffic import ServedRequest, TrafficLog

MOST_IDS = 8192
"""Of events, the latest: one that is posted again is not counted again."""


@dataclass(frozen=True)
class _Engine:
    """Whose engine it is that has this name in some project; ``uid`` is empty where it is not followed."""

    project: str
    shared: bool
    uid: str


class ServedTraffic:
    """Every request is told once and exactly: with the tokens that are billed, by who answered it."""

    def __init__(self) -> None:
        self._logs: dict[str, TrafficLog] = {}
        self._engines: dict[str, list[_Engine]] = {}
        self._seen: dict[str, None] = {}

    def follow(self, endpoints: Sequence[Endpoint]) -> None:
        """From now on count what those of mode ``auto`` serve. Of the others the engines are known too: what
        they served is not that of another Endpoint of the same name."""
        uids = {endpoint.metadata.uid for endpoint in endpoints if endpoint.spec.mode == "auto"}
        self._logs = {uid: self._logs.get(uid) or TrafficLog() for uid in uids}
        self._engines = {}
        for endpoint in endpoints:
            uid = endpoint.metadata.uid if endpoint.metadata.uid in uids else ""
            owner = _Engine(endpoint.project or "", endpoint.spec.shared, uid)
            for replica in endpoint.status.replicas:
                self._engines.setdefault(replica.workload, []).append(owner)

    def posted(self, events: Iterable[UsageEvent]) -> None:
        """What has been posted to the ledger."""
        if not self._logs:
            return
        for event in events:
            uid = self._owner(event) if event.kind == "inference" and event.id not in self._seen else ""
            if uid:
                self._remember(event.id)
                counts = event.quantities
                self._logs[uid].add(
                    ServedRequest(
                        event.started_ms / 1000,
                        event.ended_ms / 1000,
                        counts.get("prompt_tokens", 0),
                        counts.get("completion_tokens", 0),
                        counts.get("cached_tokens", 0),
                    )
                )

    def seen(self, endpoint: Endpoint, watch: EndpointWatch | None) -> None:
        """How many of its requests are on their way, as autoscaling saw it last; None = it has not looked."""
        requests = watch.on_their_way if watch is not None else None
        if watch is not None and requests is not None:
            self.log_of(endpoint).on_their_way(watch.looked_ms / 1000, requests)

    def log_of(self, endpoint: Endpoint) -> TrafficLog:
        """Of one that is followed; else an empty one."""
        return self._logs.get(endpoint.metadata.uid) or TrafficLog()

    def _owner(self, event: UsageEvent) -> str:
        """Events name the engine and the caller's project: an engine there is meant, else a shared one."""
        engines = self._engines.get(event.resource, [])
        own = [one for one in engines if one.project == event.project]
        found = own or [one for one in engines if one.shared]
        return found[0].uid if len(found) == 1 else ""

    def _remember(self, id_: str) -> None:
        self._seen[id_] = None
        if len(self._seen) > MOST_IDS:
            del self._seen[next(iter(self._seen))]
