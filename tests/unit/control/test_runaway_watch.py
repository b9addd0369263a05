"""Keys that spend out of the ordinary are told of and paused, by what the ledger says of them."""

from typing import Any

import pytest

from billing.store import Ledger
from common.clock import VirtualClock
from common.pauses import BY_GUARD, PAUSED
from common.resources import ApiKey, Metadata, Project, Tenant
from common.resources.people import ApiKeySpec, ProjectSpec, RunawayGuard, TenantSpec
from common.store.memory import MemoryStore
from control.runaway_watch import LOOK_SECONDS, REST_SECONDS, RunawayWatch
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, prices
from tests.unit.billing.test_ledger_store import database, migrated

__all__ = ["database", "ledger", "migrated", "prices"]
HOUR_MS = 3_600_000
MICROCREDITS_PER_TOKEN = 6


class Scene:
    """A tenant whose guard is at five times the usual and 600 micro-credits, and its key, ten days old."""

    def __init__(self, ledger: Ledger) -> None:
        self.clock = VirtualClock(NOON - 10 * DAY_MS)
        self.store, self.ledger = MemoryStore(self.clock), ledger
        self.watch = self.another()
        self._posted = 0

    def another(self) -> RunawayWatch:
        return RunawayWatch(self.store, self.ledger, self.clock)

    async def set_up(self, action: str = "pause", key_project: str = "web") -> "Scene":
        await self.set_guard(action)
        for name, tenant in (("web", "acme"), ("lab", "rival")):
            await self.store.apply(Project(metadata=Metadata(name=name), spec=ProjectSpec(tenant=tenant)))
        spec = ApiKeySpec(role="member", project=key_project)
        await self.store.apply(ApiKey(metadata=Metadata(name="key-1"), spec=spec))
        self.clock.advance(10 * DAY_MS / 1000)
        return self

    async def set_guard(self, action: Any) -> None:
        guard = RunawayGuard(action=action, factor=5, least_microcredits=600)
        await self.store.apply(Tenant(metadata=Metadata(name="acme"), spec=TenantSpec(runaway_guard=guard)))

    async def spend(self, tokens: int, ago_ms: int = 0, **changes: object) -> None:
        self._posted += 1
        ended_ms = self.clock.now_ms() - ago_ms
        event = chat(
            f"use-{self._posted}",
            ended_ms=ended_ms,
            started_ms=ended_ms,
            quantities={"completion_tokens": tokens},
            **changes,
        )
        await self.ledger.post([event])

    async def usual(self) -> None:
        """Three hundred micro-credits in an hour of each of some days before."""
        for days in (1, 2, 5):
            await self.spend(50, ago_ms=days * DAY_MS + HOUR_MS)

    async def is_paused(self) -> bool:
        return (await self.store.get(ApiKey, "key-1")).status.is_true(PAUSED)

    async def told(self) -> list[str]:
        events = await self.store.events(kind="ApiKey", reason="RunawaySpend")
        return [event.message for event in events]


async def test_a_key_that_spends_far_above_its_history_is_paused_and_told_of(ledger: Ledger) -> None:
    scene = await Scene(ledger).set_up()
    await scene.usual()
    await scene.spend(250, ago_ms=HOUR_MS // 2)
    await scene.watch.step()
    assert not await scene.is_paused()
    await scene.spend(1)
    await scene.watch.step()
    assert await scene.is_paused()
    key = await scene.store.get(ApiKey, "key-1")
    condition = key.status.condition(PAUSED)
    assert condition is not None
    assert condition.reason == BY_GUARD
    (told,) = await scene.told()
    assert told.startswith("0.001506 credits were spent with it in the last hour, more than 5 times the most")
    assert told.endswith("(0.000300)")


async def test_what_was_spent_before_it_was_resumed_counts_no_more(ledger: Ledger) -> None:
    scene = await Scene(ledger).set_up()
    await scene.usual()
    await scene.spend(300)
    await scene.watch.step()
    key = await scene.store.get(ApiKey, "key-1")
    scene.clock.advance(60)
    key.status.set_condition(PAUSED, False, "Resumed", now_ms=scene.clock.now_ms())
    await scene.store.set_status(key)
    await scene.another().step()
    assert not await scene.is_paused()
    scene.clock.advance(60)
    await scene.spend(251)
    await scene.another().step()
    assert await scene.is_paused()
    assert len(await scene.told()) == 2


async def test_told_only_is_told_once_an_hour_also_by_the_next_process(ledger: Ledger) -> None:
    scene = await Scene(ledger).set_up("notify")
    await scene.usual()
    await scene.spend(300)
    for _ in range(3):
        await scene.watch.step()
        await scene.another().step()
    assert not await scene.is_paused()
    assert len(await scene.told()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "rival"},
        {"key": ""},
        {"key": "nobody"},
        {"ended_ms": NOON - 2 * HOUR_MS, "started_ms": NOON - 2 * HOUR_MS},
    ],
)
async def test_what_others_spent_or_long_ago_is_not_the_keys(
    ledger: Ledger, changes: dict[str, object]
) -> None:
    scene = await Scene(ledger).set_up()
    await scene.usual()
    await ledger.post(
        [chat("much", **{"ended_ms": NOON, "quantities": {"completion_tokens": 9999}, **changes})]
    )
    await scene.watch.step()
    assert not await scene.is_paused()


async def test_a_key_of_another_tenant_is_not_this_ones_to_pause(ledger: Ledger) -> None:
    scene = await Scene(ledger).set_up(key_project="lab")
    await scene.usual()
    await scene.spend(300)
    await scene.watch.step()
    assert not await scene.is_paused()


async def test_a_key_without_a_day_of_history_is_not_judged(ledger: Ledger) -> None:
    scene = await Scene(ledger).set_up()
    await scene.spend(1, ago_ms=DAY_MS // 2)
    await scene.spend(9999)
    await scene.watch.step()
    assert not await scene.is_paused()


async def test_where_nobody_has_a_guard_the_ledger_is_not_asked(ledger: Ledger) -> None:
    scene = await Scene(ledger).set_up("off")
    await scene.usual()
    await scene.spend(9999)
    await scene.watch.step()
    assert not await scene.is_paused()
    assert scene.watch.tick_seconds() == REST_SECONDS
    await scene.set_guard("notify")
    await scene.watch.step()
    assert scene.watch.tick_seconds() == LOOK_SECONDS


async def test_a_tenant_whose_usage_cannot_be_read_holds_up_no_other(ledger: Ledger) -> None:
    scene = await Scene(ledger).set_up()
    guard = RunawayGuard(action="pause")
    await scene.store.apply(Tenant(metadata=Metadata(name="a-bad"), spec=TenantSpec(runaway_guard=guard)))
    await scene.usual()
    await scene.spend(300)

    class Broken:
        async def usage(self, group_by: Any = (), where: Any = None, limit: Any = None) -> Any:
            if where.tenant == "a-bad":
                raise ValueError("odd")
            return await ledger.usage(group_by, where, limit)

    await RunawayWatch(scene.store, Broken(), scene.clock).step()
    assert await scene.is_paused()
