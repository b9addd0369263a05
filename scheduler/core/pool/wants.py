"""What a mix of requests asks of the classes of a pool."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from scheduler.core.fragmentation.cutting_stock import GRAIN_MILLIS, Worth, worth_of_free
from scheduler.core.fragmentation.fragmentation import Asked, Fragmentation
from scheduler.core.fragmentation.worlds import Options
from scheduler.core.model.types import WHOLE_MILLIS, Request
from scheduler.core.pool.filters import ANY_TAINT
from scheduler.core.pool.stock import DeviceClass, takes_devices

MAX_REQUESTS = 512
"""So many of the most frequent are looked at."""

_ANYTHING: dict[str, Any] = {
    "vendors": (),
    "not_vendors": (),
    "models": (),
    "not_models": (),
    "memory_bytes": 0,
    "tflops": 0.0,
    "capabilities": (),
    "node_labels": (),
    "tolerates": (ANY_TAINT,),
}
"""A request that names nothing."""

Wanted = Mapping[tuple[Options, Options], tuple[float, float]]
"""By the options of requests, and their options if they named nothing: the devices asked for, and host CPU in
millis (of requests without devices the first is the second)."""


class Wants:
    """Worked out when first asked for; holds as long as the kinds of nodes and the mix are the same, however
    many nodes there are of each."""

    def __init__(self, classes: Sequence[DeviceClass], workload_mix: Fragmentation) -> None:
        self._classes = classes
        self._workload_mix = workload_mix
        self._bare: dict[Request, Request] = {}
        self._unnamed: dict[Request, Request] = {}
        self._anywhere: dict[tuple[Request, int], dict[int, int]] = {}

    def counts(self, request: Request) -> dict[int, int]:
        """The devices that a request takes of each class that may serve it."""
        return self._counts(self._without_host(request), request.cpu_millis)

    def counts_anywhere(self, request: Request) -> Mapping[int, int]:
        """The same, if it named nothing."""
        bare = self._without_host(request)
        unnamed = self._unnamed.get(bare)
        if unnamed is None:
            unnamed = self._unnamed[bare] = replace(bare, **_ANYTHING)
        key = unnamed, request.cpu_millis
        found = self._anywhere.get(key)
        if found is None:
            found = self._anywhere[key] = self._counts(*key)
        return found

    def _without_host(self, request: Request) -> Request:
        bare = self._bare.get(request)
        if bare is None:
            bare = self._bare[request] = replace(request, cpu_millis=0, host_memory_bytes=0)
        return bare

    def _counts(self, bare: Request, cpu_millis: int) -> dict[int, int]:
        found = ((one.number, one.count(bare, cpu_millis)) for one in self._classes)
        return {number: count for number, count in found if count is not None}

    @cached_property
    def wanted(self) -> Wanted:
        """What the mix asks for, by kinds of requests."""
        amounts: dict[tuple[Options, Options], float] = defaultdict(float)
        cpus: dict[tuple[Options, Options], float] = defaultdict(float)
        for request, ranks in self._frequent().items():
            counts = self.counts(request)
            if counts:
                key = _options(counts), _options(self.counts_anywhere(request))
                devices = min(counts.values()) * self.part(request)
                amounts[key] += ranks * (devices if takes_devices(request) else request.cpu_millis)
                cpus[key] += ranks * request.cpu_millis
        return {key: (amounts[key], cpus[key]) for key in sorted(amounts) if amounts[key] > 0}

    def _frequent(self) -> Mapping[Request, float]:
        """The most frequent requests, from all queues."""
        ranks: dict[Request, float] = defaultdict(float)
        for asked in self._workload_mix.asked:
            ranks[asked.request] += asked.ranks
        if len(ranks) <= MAX_REQUESTS:
            return ranks
        return dict(sorted(ranks.items(), key=lambda item: (-item[1], repr(item[0])))[:MAX_REQUESTS])

    def part(self, request: Request) -> float:
        """What it takes of each device, as the cutting-stock prices say."""
        millis = min(request.share_millis, WHOLE_MILLIS)
        return self._worth[-(-millis // GRAIN_MILLIS)] or millis / WHOLE_MILLIS

    @cached_property
    def _worth(self) -> Worth:
        shares: dict[int, float] = defaultdict(float)
        for asked in self._workload_mix.asked:
            if takes_devices(asked.request):
                shares[asked.request.share_millis] += asked.ranks
        return worth_of_free(shares)

    def only(self, number: int, other: int) -> list[Asked]:
        """Who of the mix can be served by this class and not by the other one."""
        counts = ((asked, self.counts(asked.request)) for asked in self._workload_mix.asked)
        return [asked for asked, found in counts if found.get(number) and not found.get(other)]


def _options(counts: Mapping[int, int]) -> Options:
    least = min(counts.values()) or 1
    return tuple((number, count / least) for number, count in counts.items())
