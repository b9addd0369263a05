"""What inference needs, from the load of its engines, minute by minute on a virtual clock."""

from typing import Any

import pytest

from common.clock import VirtualClock
from common.settings import LoadTideSettings
from common.store.samples import MemorySampleLog
from common.weekly import MINUTE_MS
from scheduler.core.tide.tidal import DAY_MS, EARLIER_DAYS
from scheduler.serving_need import KEPT_MS, Need, ServingNeed
from tests.fixtures.loads import FakeLoads

INFINITE = float("inf")
START_MS = 28_333_334 * MINUTE_MS


class Watch:
    """Engines, a log, and what is made of them. Requests are told in devices that they fill: 32 to one."""

    def __init__(self, **rule: Any) -> None:
        self.clock = VirtualClock(START_MS)
        self.loads = FakeLoads()
        self.log = MemorySampleLog()
        defaults = {"device_class": "nvidia", "headroom": 0.0, "ahead_seconds": 0, "release_seconds": 600}
        self.rules = [LoadTideSettings.model_validate({**defaults, **rule})]
        self.need = self.restart()

    def restart(self) -> ServingNeed:
        self.need = ServingNeed(self.loads, self.log, self.rules, self.clock)
        return self.need

    async def minutes(self, *devices: float) -> None:
        """For a minute each, one engine has work for so many devices, of eight."""
        for work in devices:
            self.loads.tell("a", round(work / 8 * 32), millis=8000)
            for _ in range(4):
                await self.need.step()
                self.clock.advance(15)

    @property
    def now(self) -> Need:
        return self.need.needs["nvidia"]


async def test_what_engines_do_is_what_inference_needs() -> None:
    watch = Watch()
    watch.loads.tell("a", 16, waiting=16)
    watch.loads.tell("b", 1, kv_cache_use=0.45, millis=4000)
    watch.loads.tell("c", 32, device_class="amd/MI300X")
    await watch.need.step()
    assert (watch.now.load, watch.now.replicas) == (pytest.approx(3.0), 3)


async def test_room_is_made_in_whole_replicas_with_headroom_and_within_bounds() -> None:
    watch = Watch(devices_per_replica=4, headroom=0.25)
    await watch.minutes(3.5)
    assert (watch.now.replicas, watch.now.rule.replica_millis) == (2, 4000)
    bounded = Watch(least_replicas=2, most_replicas=3)
    await bounded.minutes(0)
    assert bounded.now.replicas == 2
    await bounded.minutes(8)
    assert bounded.now.replicas == 3


async def test_a_rise_is_foreseen() -> None:
    watch = Watch(ahead_seconds=600)
    await watch.minutes(*(1 + n / 4 for n in range(9)))
    assert watch.now.load == pytest.approx(3.0)
    assert watch.now.replicas == 6


async def test_yesterday_is_known_today() -> None:
    watch = Watch(ahead_seconds=900)
    await watch.minutes(*[1.0] * 30, *[6.0] * 30)
    watch.clock.advance((DAY_MS - 40 * MINUTE_MS) / 1000)
    watch.restart()
    await watch.need.restore()
    await watch.minutes(1.0)
    assert watch.now.expected == pytest.approx(6.0)


async def test_a_dip_moves_nothing_and_calm_gives_back() -> None:
    watch = Watch(release_seconds=600)
    await watch.minutes(6.0, 6.0)
    for work in (1.0, 0.0, 0.0, 5.0, 0.0, 0.0):
        await watch.minutes(work)
        assert watch.now.replicas == 6
    await watch.minutes(*[1.0] * 11)
    assert watch.now.replicas == 1


async def test_a_restart_keeps_what_was_needed() -> None:
    watch = Watch(release_seconds=600)
    await watch.minutes(6.0, 2.0)
    watch.restart()
    assert watch.need.needs == {}
    await watch.need.restore()
    assert watch.now.replicas == 6
    await watch.minutes(1.0)
    assert watch.now.replicas == 6


async def test_silence_is_no_calm() -> None:
    watch = Watch()
    await watch.minutes(6.0)
    watch.loads.silence("a", millis=8000)
    heard_ms = watch.now.heard_ms
    for _ in range(120):
        watch.clock.advance(15)
        await watch.need.step()
    assert (watch.now.replicas, watch.now.heard_ms) == (6, heard_ms)
    watch.loads.fail = True
    watch.clock.advance(3600)
    await watch.need.step()
    assert watch.now.replicas == 6
    watch.loads.fail = False
    watch.loads.end("a")
    await watch.need.step()
    assert watch.now.load == 0.0
    watch.clock.advance(600)
    await watch.need.step()
    assert watch.now.replicas == 0


async def test_who_does_not_tell_counts_as_the_others_do() -> None:
    watch = Watch()
    watch.loads.tell("a", 16)
    watch.loads.silence("b", millis=4000)
    await watch.need.step()
    assert watch.now.load == pytest.approx(2.5)


async def test_late_first_tokens_make_engines_full() -> None:
    watch = Watch(first_token_limit_seconds=1.0, headroom=0.25)
    for slow in (0, 100):
        buckets = ((0.5, 100), (4.0, 100 + slow), (INFINITE, 100 + slow))
        watch.loads.tell("a", 2, first_token_buckets=buckets, millis=4000)
        await watch.need.step()
        watch.clock.advance(60)
    assert watch.now.load == pytest.approx(4.0)
    assert watch.now.replicas == 5


async def test_minutes_are_averages_and_history_is_bounded() -> None:
    watch = Watch()
    for requests in (0, 32, 32, 0):
        watch.loads.tell("a", requests)
        await watch.need.step()
        watch.clock.advance(15)
    await watch.minutes(0.0, 0.0)
    assert [value for _, value in await watch.log.since("load/nvidia", 0)] == [0.5, 0.0]
    watch.clock.advance((EARLIER_DAYS + 2) * DAY_MS / 1000)
    await watch.minutes(0.0, 0.0)
    kept = await watch.log.since("load/nvidia", 0)
    assert min(at_ms for at_ms, _ in kept) >= watch.clock.now_ms() - KEPT_MS
    assert len(kept) <= 2


async def test_a_clock_that_is_set_back_forgets_the_future() -> None:
    watch = Watch()
    await watch.minutes(1.0, 1.0, 6.0)
    watch.clock = watch.need._clock = VirtualClock(START_MS + 2 * MINUTE_MS)
    await watch.minutes(1.0)
    assert (watch.now.load, watch.now.replicas) == (pytest.approx(1.0), 1)


async def test_without_rules_there_is_nothing_to_watch() -> None:
    need = ServingNeed(FakeLoads(), MemorySampleLog(), [], VirtualClock())
    await need.restore()
    assert (need.has_rules, need.needs) == (False, {})


async def test_what_is_too_old_to_count_is_not_kept_in_memory_either() -> None:
    watch = Watch()
    await watch.minutes(1.0, 2.0)
    watch.clock.advance(KEPT_MS / 1000)
    await watch.minutes(3.0)
    (kept,) = watch.need._watches
    assert [one.load for one in kept.history] == [pytest.approx(3.0)]
