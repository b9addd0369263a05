"""Work of what is paused is stopped, whoever asks first, and goes on when it is resumed."""

from collections.abc import Collection
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import DATABASE_UNAVAILABLE, Unavailable
from common.labels import KEY_LABEL
from common.pauses import BY_TENANT, PAUSED
from common.resources import ApiKey, Metadata, Model, Project, Resource, Tenant, Workload
from common.resources.people import ApiKeySpec, ProjectSpec
from common.resources.serving import ModelSpec
from common.resources.workload import WorkloadRole, WorkloadSpec
from common.store.memory import MemoryStore
from control.stops.pause_stops import PauseStops
from control.stops.work_stops import WorkStops
from scheduler.ports import Stop


def _work(project: str = "web", key: str = "ci") -> Workload:
    spec = WorkloadSpec(roles=[WorkloadRole(name="main", command=["true"])])
    return Workload(metadata=Metadata(name="w", project=project, labels={KEY_LABEL: key}), spec=spec)


async def _store() -> MemoryStore:
    store = MemoryStore(VirtualClock())
    await store.apply(Tenant(metadata=Metadata(name="acme")))
    for project, tenant in (("web", "acme"), ("lab", "rival")):
        await store.apply(Project(metadata=Metadata(name=project), spec=ProjectSpec(tenant=tenant)))
    await store.apply(ApiKey(metadata=Metadata(name="ci"), spec=ApiKeySpec(role="member", project="web")))
    await store.apply(Model(metadata=Metadata(name="tiny", project="web"), spec=ModelSpec(source="/m")))
    return store


async def _set(store: MemoryStore, kind: type[Resource], name: str, holds: bool, **where: Any) -> None:
    found = await store.get(kind, name, **where)
    found.status.set_condition(PAUSED, holds, BY_TENANT, "loops", now_ms=1)
    await store.set_status(found)


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [(Tenant, "acme", {"acme"}), (Project, "web", {"acme"}), (ApiKey, "ci", {"acme", "rival"})],
)
async def test_work_of_a_paused_key_project_or_tenant_is_stopped(
    kind: type[Resource], name: str, told: set[str]
) -> None:
    store = await _store()
    stops = PauseStops(store)
    assert not await stops.look()
    assert stops.why(_work(), "acme") is None
    await _set(store, kind, name, holds=True)
    assert set(await stops.look()) == told
    stop = stops.why(_work(), "acme")
    assert stop is not None
    assert stop.code == "Paused"
    assert stop.message.endswith(f"{name} is paused: loops")
    assert stops.why(_work("lab", "other"), "rival") is None
    assert not await stops.look()
    fresh = PauseStops(store)
    await fresh.look()
    assert fresh.why(_work(), "acme") == stop
    await _set(store, kind, name, holds=False)
    assert set(await stops.look()) == told
    assert stops.why(_work(), "acme") is None


async def test_a_paused_model_stops_no_work() -> None:
    store = await _store()
    stops = PauseStops(store)
    await stops.look()
    await _set(store, Model, "tiny", holds=True, project="web")
    assert not await stops.look()
    assert stops.why(_work(), "acme") is None


class _Part:
    def __init__(self, tenant: str, code: str) -> None:
        self._tenant, self._code = tenant, code

    async def look(self) -> Collection[str]:
        return {self._tenant}

    def why(self, workload: Workload, tenant: str) -> Stop | None:
        return Stop(self._code, "m") if tenant == self._tenant else None


async def test_of_several_that_stop_the_first_is_told() -> None:
    stops = WorkStops(VirtualClock(), _Part("a", "first"), _Part("a", "second"), _Part("b", "third"))
    assert set(await stops.look()) == {"a", "b"}
    found = [stops.why(_work(), tenant) for tenant in ("a", "b", "c")]
    assert found == [Stop("first", "m"), Stop("third", "m"), None]


class _Broken(_Part):
    async def look(self) -> Collection[str]:
        raise ValueError("nobody knows")


async def test_one_that_cannot_be_looked_at_holds_up_no_other() -> None:
    stops = WorkStops(VirtualClock(), _Part("a", "first"), _Broken("b", "second"), _Part("c", "third"))
    assert set(await stops.look()) == {"a", "c"}


class _Away(_Part):
    async def look(self) -> Collection[str]:
        raise Unavailable("it is away", code=DATABASE_UNAVAILABLE)


async def test_a_database_that_is_away_is_no_trouble_of_one() -> None:
    with pytest.raises(Unavailable):
        await WorkStops(VirtualClock(), _Away("a", "first")).look()


async def test_a_pause_is_told_by_the_next_look_where_one_fails_midway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken() -> list[Project]:
        raise ValueError("nobody knows")

    store = await _store()
    stops = PauseStops(store)
    await stops.look()
    await _set(store, Project, "web", holds=True)
    with monkeypatch.context() as patched:
        patched.setattr(stops._projects, "now", broken)
        with pytest.raises(ValueError, match="nobody"):
            await stops.look()
    assert set(await stops.look()) == {"acme"}
