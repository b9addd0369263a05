"""What the condition ``Served`` of an Adapter says, from what its replicas hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.resources import Adapter, Endpoint
from common.resources.serving import Replica
from inference.adapter_sync import Held, WantedAdapter


@dataclass(frozen=True)
class ReplicaReport:
    """One replica after a pass. ``held`` is None when it is not ready or could not be asked."""

    endpoint: Endpoint
    replica: Replica
    held: Held | None

    def holds(self, name: str) -> bool:
        """Whether the engine was seen to answer to the name."""
        return self.held is not None and name in self.held.paths


@dataclass(frozen=True)
class AdapterReport:
    """The content of an Adapter's status."""

    served: bool
    reason: str
    message: str
    replicas: int


def report_adapter(
    adapter: Adapter, wanted: WantedAdapter, reports: Sequence[ReplicaReport]
) -> AdapterReport:
    """``served`` when all ready replicas of the endpoints of its model hold it, and there is one at least."""
    able = [r for r in reports if obstacle(adapter, r.endpoint) is None]
    if reports and not able:
        reason, message = obstacle(adapter, reports[0].endpoint) or ("", "")
        return AdapterReport(False, reason, message, 0)
    ready = [r for r in able if r.replica.ready]
    count = sum(r.holds(wanted.name) for r in ready)
    if not ready:
        return AdapterReport(
            False, "NoReplicaReady", f"no endpoint of {adapter.spec.model} has a ready replica", 0
        )
    if count == len(ready):
        return AdapterReport(True, "Loaded", f"held by {count} of {len(ready)} ready replicas", count)
    failures = [(r, r.held.failure_of(wanted)) for r in ready if r.held is not None]
    for report, failure in failures:
        if failure is not None:
            text = f"{report.replica.workload}: {failure.message}"
            return AdapterReport(False, failure.reason, text, count)
    return AdapterReport(False, "Loading", f"held by {count} of {len(ready)} ready replicas", count)


def report_gone(adapter: Adapter) -> AdapterReport:
    """Of an adapter whose files are no more."""
    return AdapterReport(False, "FilesGone", f"nothing is at {adapter.spec.path} any more", 0)


def obstacle(adapter: Adapter, endpoint: Endpoint) -> tuple[str, str] | None:
    """Why the endpoint will never load the adapter: reason and message."""
    engine, rank = endpoint.spec.engine, adapter.spec.rank
    if engine.max_adapters == 0:
        return "AdaptersDisabled", f"Endpoint {endpoint.name} has spec.engine.maxAdapters 0"
    if rank > engine.max_adapter_rank:
        limit = f"spec.engine.maxAdapterRank {engine.max_adapter_rank} of Endpoint {endpoint.name}"
        return "RankTooHigh", f"rank {rank} is above {limit}"
    return None
