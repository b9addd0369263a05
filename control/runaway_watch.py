"""Keys that spend far faster than they ever did: told of, and paused where their tenant says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from prometheus_client import Counter

from billing.core.runaway import HISTORY_MS, HOUR_MS, Rule, usual
from billing.store.columns import UsageFilter
from billing.store.usage import UsageRow
from common.clock import Clock, parse_rfc3339
from common.guard import Guard
from common.loop import LoopHealth, run_passes
from common.pauses import BY_GUARD, PAUSED, is_paused
from common.resources import ApiKey, Project, Tenant
from common.store.kept import KeptList
from common.store.port import Event, StatusWrite, Store
from common.store.transitions import event_of
from common.units import format_credits

LOOK_SECONDS = 15.0
"""Between two looks, where a tenant has a guard."""
REST_SECONDS = 60.0
MOST_SUSPECTS = 50
"""Keys of a tenant whose history one look asks for: those that spent most."""
RUNAWAYS = Counter(
    "computility_runaway_keys", "Keys that were found to spend out of the ordinary", ["action"]
)


class UsageReader(Protocol):
    """Sums of what is posted."""

    async def usage(
        self, group_by: Sequence[str] = (), where: UsageFilter | None = None, limit: int | None = None
    ) -> Sequence[UsageRow]:
        """See ``billing.store.Ledger``."""
        ...


class RunawayWatch:
    """Looks at the tenants that have a guard. The trouble of one holds up no other."""

    def __init__(self, store: Store, usage: UsageReader, clock: Clock) -> None:
        self._store, self._usage, self._clock = store, usage, clock
        self._tenants, self._projects = KeptList(store, Tenant), KeptList(store, Project)
        self._guard = Guard("runaway", clock)
        self._told: set[str] = set()
        self._is_on = False

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Until ``stop`` is set."""
        kinds = ["Tenant"]
        await run_passes(
            "runaway", self.step, self._store, stop, self.tick_seconds, health, rests=True, kinds=kinds
        )

    def tick_seconds(self) -> float:
        """Until the next look."""
        return LOOK_SECONDS if self._is_on else REST_SECONDS

    async def step(self) -> None:
        """One look at all tenants."""
        tenants = [one for one in await self._tenants.now() if one.spec.runaway_guard.action != "off"]
        self._is_on = bool(tenants)
        if not tenants:
            self._told.clear()
            return
        owners = {one.name: one.spec.tenant for one in await self._projects.now()}
        told = set[str]()
        for tenant in tenants:
            with self._guard.item("Tenant", ("look", tenant.metadata.uid), tenant.metadata.generation):
                told |= await self._look(tenant, owners)
        self._told = told
        self._guard.forget_gone()

    async def _look(self, tenant: Tenant, owners: Mapping[str, str]) -> set[str]:
        """The ids of the events that hold for the tenant's keys now."""
        asked = tenant.spec.runaway_guard
        rule, now_ms = Rule(asked.factor, asked.least_microcredits), self._clock.now_ms()
        born_ms = tenant.metadata.created_ms
        lately = UsageFilter(tenant=tenant.name, from_ms=now_ms - HOUR_MS, born_ms=born_ms)
        rows = sorted(await self._usage.usage(("key",), lately), key=lambda row: -row.microcredits)
        suspects = [
            row.group["key"] for row in rows if row.group["key"] and rule.is_suspect(row.microcredits)
        ]
        told = set[str]()
        for name in suspects[:MOST_SUSPECTS]:
            key = await self._store.find(ApiKey, name)
            if key is None or is_paused(key) or _tenant_of(key, owners) != tenant.name:
                continue
            with self._guard.item("ApiKey", ("judge", key.metadata.uid)):
                told.add(await self._judge(tenant, key, rule, now_ms))
        return told

    async def _judge(self, tenant: Tenant, key: ApiKey, rule: Rule, now_ms: int) -> str:
        """The id of the event that tells of the key; empty where it spends as it does."""
        begin_ms, born_ms, resumed_ms = now_ms - HOUR_MS, tenant.metadata.created_ms, _resumed_ms(key)
        of_key = UsageFilter(tenant=tenant.name, key=key.name, born_ms=born_ms)
        spent = await self._spent(of_key, max(begin_ms, resumed_ms))
        if not rule.is_suspect(spent):
            return ""
        history = await self._history(of_key, begin_ms)
        if not rule.is_runaway(spent, history, now_ms):
            return ""
        message = (
            f"{format_credits(spent)} credits were spent with it in the last hour, more than {rule.factor} "
            f"times the most in any hour of the week before ({format_credits(usual(history))})"
        )
        event = event_of(key, "warning", "RunawaySpend", message, now_ms, now_ms // HOUR_MS, resumed_ms)
        await self._tell(tenant.spec.runaway_guard.action, key, event, now_ms)
        return event.id

    async def _spent(self, of_key: UsageFilter, since_ms: int) -> int:
        (total,) = await self._usage.usage((), _between(of_key, since_ms, None))
        return total.microcredits

    async def _history(self, of_key: UsageFilter, until_ms: int) -> dict[int, int]:
        """Micro-credits by the beginnings of hours."""
        rows = await self._usage.usage(("hour",), _between(of_key, until_ms - HISTORY_MS, until_ms))
        return {parse_rfc3339(row.group["hour"]): row.microcredits for row in rows}

    async def _tell(self, action: str, key: ApiKey, event: Event, now_ms: int) -> None:
        """An event once an hour; with ``pause`` the key is paused, too. Another writer wins: the next look
        does it again."""
        if action == "pause":
            key.status.set_condition(
                PAUSED, True, BY_GUARD, event.message, now_ms=now_ms, generation=key.metadata.generation
            )
            (written,) = await self._store.set_statuses([StatusWrite(key, (event,))])
            if isinstance(written, Exception):
                raise written
        elif event.id not in self._told:
            await self._store.record(event)
        else:
            return
        RUNAWAYS.labels(action).inc()


def _between(where: UsageFilter, from_ms: int, to_ms: int | None) -> UsageFilter:
    return UsageFilter(
        tenant=where.tenant, key=where.key, born_ms=where.born_ms, from_ms=from_ms, to_ms=to_ms
    )


def _tenant_of(key: ApiKey, owners: Mapping[str, str]) -> str | None:
    return owners.get(key.spec.project) if key.spec.project else key.spec.tenant


def _resumed_ms(key: ApiKey) -> int:
    """When somebody let it go on after a pause; 0 where nobody did. What was spent before does not count."""
    found = key.status.condition(PAUSED)
    return found.last_transition_ms if found is not None and found.status == "False" else 0
