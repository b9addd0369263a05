"""What every store must do: the same tests on memory, SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.db import Database
from common.errors import Conflict, IdempotencyMismatch, NotFound
from common.resources import Metadata, Model, Project, Queue, Tenant, Workload, parse_resource
from common.resources.people import ProjectSpec, TenantSpec
from common.resources.pool import QueueSpec
from common.resources.serving import ModelSpec
from common.store.answers import Claim, Replay, claimed
from common.store.memory import MemoryStore
from common.store.ownership import Viewer
from common.store.port import AuditEntry, Delete, Event, Limits, Put, Store
from common.store.sql import SqlStore

HISTORY = 30
LIMITS = Limits(history=HISTORY)


@dataclass
class Bench:
    store: Store
    clock: VirtualClock


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    clock = VirtualClock()
    if request.param == "memory":
        yield Bench(MemoryStore(clock, LIMITS), clock)
        return
    sqlite_url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else sqlite_url
    database = Database(url)
    await database.migrate()
    store = SqlStore(database, clock, LIMITS)
    yield Bench(store, clock)
    await store.close()


@pytest.fixture
def store(bench: Bench) -> Store:
    return bench.store


def tenant(name: str = "acme", display_name: str = "", **metadata: object) -> Tenant:
    return Tenant(
        metadata=Metadata.model_validate({"name": name, **metadata}),
        spec=TenantSpec(display_name=display_name),
    )


def workload(name: str, project: str, **labels: str) -> Workload:
    document = {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": name, "project": project, "labels": labels},
        "spec": {"roles": [{"name": "main", "command": ["true"], "devices": {"count": 0}}]},
    }
    resource = parse_resource(document)
    assert isinstance(resource, Workload)
    return resource


def project(name: str, tenant_name: str = "acme") -> Project:
    return Project(metadata=Metadata(name=name), spec=ProjectSpec(tenant=tenant_name))


def model(name: str, project_name: str, *, shared: bool) -> Model:
    spec = ModelSpec(source="org/model", shared=shared)
    return Model(metadata=Metadata(name=name, project=project_name), spec=spec)


def claim(scope: str = "uid-1/web", key: str = "k1", digest: str = "digest") -> Claim:
    return Claim("uid-of-acme", scope, key, digest)


def event(id_: str, time_ms: int, name: str = "acme", **changes: object) -> Event:
    values = {
        "id": id_,
        "time_ms": time_ms,
        "level": "info",
        "reason": "Made",
        "message": "it was made",
        "kind": "Tenant",
        "name": name,
    }
    return Event(**{**values, **changes})  # type: ignore[arg-type]


class TestApply:
    async def test_a_new_resource_gets_identity_and_the_first_revision(self, bench: Bench) -> None:
        applied = await bench.store.apply(tenant())
        made = applied.resource.metadata
        assert applied.outcome == "created"
        assert (made.resource_version, made.generation, made.created_ms) == (1, 1, bench.clock.now_ms())
        assert made.uid.startswith("uid-")
        assert await bench.store.get(Tenant, "acme") == applied.resource
        assert await bench.store.revision() == 1

    async def test_a_changed_spec_moves_version_and_generation(self, bench: Bench) -> None:
        first = (await bench.store.apply(tenant())).resource
        bench.clock.advance(5)
        applied = await bench.store.apply(tenant(display_name="Acme"))
        assert applied.outcome == "configured"
        assert applied.resource.spec.display_name == "Acme"
        assert applied.resource.metadata.uid == first.metadata.uid
        assert applied.resource.metadata.created_ms == first.metadata.created_ms
        assert (applied.resource.metadata.resource_version, applied.resource.metadata.generation) == (2, 2)

    async def test_changed_labels_move_only_the_version(self, store: Store) -> None:
        await store.apply(tenant())
        changed = (await store.apply(tenant(labels={"tier": "gold"}))).resource.metadata
        assert (changed.resource_version, changed.generation) == (2, 1)

    async def test_the_same_again_writes_nothing(self, store: Store) -> None:
        await store.apply(tenant(display_name="Acme"))
        applied = await store.apply(tenant(display_name="Acme"))
        assert applied.outcome == "unchanged"
        assert applied.resource.metadata.resource_version == 1
        assert await store.revision() == 1
        assert len(await store.changes(0)) == 1

    async def test_a_stale_version_is_refused_and_changes_nothing(self, store: Store) -> None:
        await store.apply(tenant())
        await store.apply(tenant(display_name="one"))
        with pytest.raises(Conflict) as refused:
            await store.apply(tenant(display_name="two", resource_version=1))
        assert refused.value.code == "stale_resource_version"
        assert refused.value.param == "metadata.resourceVersion"
        assert (await store.get(Tenant, "acme")).spec.display_name == "one"
        assert await store.revision() == 2

    async def test_a_version_for_something_that_is_gone_is_refused(self, store: Store) -> None:
        with pytest.raises(Conflict):
            await store.apply(tenant(resource_version=7))

    async def test_a_dry_run_tells_but_does_not_write(self, store: Store) -> None:
        applied = await store.apply(tenant(), dry_run=True)
        assert applied.outcome == "created"
        assert await store.find(Tenant, "acme") is None
        assert await store.revision() == 0
        await store.apply(tenant())
        with pytest.raises(Conflict):
            await store.apply(tenant(display_name="x", resource_version=9), dry_run=True)

    async def test_what_is_returned_is_a_copy(self, store: Store) -> None:
        applied = await store.apply(tenant())
        applied.resource.spec.display_name = "changed"
        (await store.list(Tenant))[0].spec.display_name = "changed"
        assert (await store.get(Tenant, "acme")).spec.display_name == ""


class TestStatus:
    async def test_spec_and_status_are_written_apart(self, store: Store) -> None:
        made = (await store.apply(Queue(metadata=Metadata(name="q"), spec=QueueSpec(max_devices=4)))).resource
        made.status.pending = 3
        made.spec.max_devices = 99
        after = await store.set_status(made)
        assert (after.status.pending, after.spec.max_devices) == (3, 4)
        assert (after.metadata.resource_version, after.metadata.generation) == (2, 1)
        applied = await store.apply(Queue(metadata=Metadata(name="q"), spec=QueueSpec(max_devices=8)))
        assert (applied.resource.status.pending, applied.resource.spec.max_devices) == (3, 8)

    async def test_the_status_of_a_new_resource_is_stored_as_given(self, store: Store) -> None:
        fresh = Queue(metadata=Metadata(name="q"))
        fresh.status.running = 2
        await store.apply(fresh)
        assert (await store.get(Queue, "q")).status.running == 2

    async def test_the_same_status_writes_nothing(self, store: Store) -> None:
        made = (await store.apply(Queue(metadata=Metadata(name="q")))).resource
        assert (await store.set_status(made)).metadata.resource_version == 1
        assert await store.revision() == 1

    async def test_a_stale_status_is_refused(self, store: Store) -> None:
        made = (await store.apply(Queue(metadata=Metadata(name="q")))).resource
        await store.apply(Queue(metadata=Metadata(name="q"), spec=QueueSpec(max_devices=1)))
        made.status.pending = 1
        with pytest.raises(Conflict):
            await store.set_status(made)

    async def test_the_status_of_something_gone_or_made_anew_is_refused(self, store: Store) -> None:
        made = (await store.apply(Queue(metadata=Metadata(name="q")))).resource
        await store.delete(Queue, "q")
        made.status.pending = 1
        with pytest.raises(NotFound):
            await store.set_status(made)
        again = (await store.apply(Queue(metadata=Metadata(name="q")))).resource
        assert again.metadata.uid != made.metadata.uid
        made.metadata.resource_version = again.metadata.resource_version
        with pytest.raises(NotFound):
            await store.set_status(made)
        assert (await store.get(Queue, "q")).status.pending == 0


class TestReadAndDelete:
    async def test_a_missing_resource(self, store: Store) -> None:
        assert await store.find(Tenant, "nobody") is None
        with pytest.raises(NotFound, match="nobody"):
            await store.get(Tenant, "nobody")
        with pytest.raises(NotFound):
            await store.delete(Tenant, "nobody")

    async def test_names_are_unique_per_kind_and_project(self, store: Store) -> None:
        for resource in (workload("same", "a"), workload("same", "b")):
            await store.apply(resource)
        await store.apply(tenant("same"))
        assert (await store.get(Workload, "same", "b")).project == "b"
        assert await store.find(Workload, "same") is None
        await store.delete(Workload, "same", "a")
        assert await store.find(Workload, "same", "a") is None
        assert await store.find(Workload, "same", "b") is not None

    async def test_lists_filter_and_are_ordered_by_project_and_name(self, store: Store) -> None:
        for name, project, tier in (
            ("z", "a", "gold"),
            ("b-1", "b", "gold"),
            ("b.1", "b", "base"),
            ("b1", "b", "gold"),
        ):
            await store.apply(workload(name, project, tier=tier, zone="north"))
        await store.apply(tenant())

        def keys(found: list[Workload]) -> list[str]:
            return [w.key for w in found]

        every = ["Workload/a/z", "Workload/b/b-1", "Workload/b/b.1", "Workload/b/b1"]
        assert keys(await store.list(Workload)) == every
        assert keys(await store.list(Workload, project="b")) == every[1:]
        gold = await store.list(Workload, project="b", labels={"tier": "gold", "zone": "north"})
        assert keys(gold) == ["Workload/b/b-1", "Workload/b/b1"]
        assert await store.list(Workload, labels={"tier": "none"}) == []

    async def test_delete_guards_the_version_and_can_be_tried(self, store: Store) -> None:
        made = (await store.apply(tenant())).resource
        await store.apply(tenant(display_name="x"))
        with pytest.raises(Conflict):
            await store.delete(Tenant, "acme", resource_version=made.metadata.resource_version)
        assert (await store.delete(Tenant, "acme", dry_run=True)).spec.display_name == "x"
        assert await store.find(Tenant, "acme") is not None
        assert (await store.delete(Tenant, "acme", resource_version=2)).spec.display_name == "x"
        assert await store.find(Tenant, "acme") is None


class TestChanges:
    async def test_every_write_is_one_change_in_order(self, store: Store) -> None:
        await store.apply(tenant())
        await store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="acme")))
        await store.apply(tenant(display_name="x"))
        await store.delete(Tenant, "acme")
        found = await store.changes(0)
        assert [(c.revision, c.type, c.resource.key) for c in found] == [
            (1, "put", "Tenant/acme"),
            (2, "put", "Project/p"),
            (3, "put", "Tenant/acme"),
            (4, "delete", "Tenant/acme"),
        ]
        assert found[3].resource.spec.display_name == "x"
        assert found[3].resource.metadata.resource_version == 3
        assert [c.revision for c in await store.changes(2)] == [3, 4]
        assert [c.revision for c in await store.changes(0, kinds=["Project", "Queue"])] == [2]
        assert [c.revision for c in await store.changes(0, limit=2)] == [1, 2]
        assert await store.changes(4) == []

    async def test_a_watcher_that_was_away_too_long_is_told(self, store: Store) -> None:
        for number in range(HISTORY + 70):
            await store.apply(tenant(display_name=str(number)))
        revision = await store.revision()
        kept = await store.changes(revision - HISTORY)
        assert [c.revision for c in kept] == list(range(revision - HISTORY + 1, revision + 1))
        with pytest.raises(Conflict) as refused:
            await store.changes(1)
        assert refused.value.code == "gone"

    async def test_wait_returns_at_once_when_there_is_news(self, store: Store) -> None:
        await store.apply(tenant())
        async with asyncio.timeout(5):
            assert await store.wait(0, 60) == 1

    async def test_wait_wakes_on_a_write(self, store: Store) -> None:
        waiting = [asyncio.create_task(store.wait(0, 60)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        await store.apply(tenant())
        async with asyncio.timeout(0.9):
            assert await asyncio.gather(*waiting) == [1, 1, 1]

    async def test_wait_gives_up_after_its_time(self, store: Store) -> None:
        assert await store.wait(0, 0.01) == 0


class TestConcurrency:
    async def test_of_two_guarded_writes_one_wins(self, store: Store) -> None:
        await store.apply(tenant())
        outcomes = await asyncio.gather(
            *(store.apply(tenant(display_name=str(n), resource_version=1)) for n in range(6)),
            return_exceptions=True,
        )
        won = [o for o in outcomes if not isinstance(o, BaseException)]
        assert len(won) == 1
        assert all(isinstance(o, Conflict) for o in outcomes if o not in won)
        assert (await store.get(Tenant, "acme")).spec.display_name == won[0].resource.spec.display_name

    async def test_creating_the_same_thing_twice_makes_one(self, store: Store) -> None:
        outcomes = await asyncio.gather(*(store.apply(tenant()) for _ in range(6)))
        assert sorted(o.outcome for o in outcomes) == ["created"] + ["unchanged"] * 5
        assert len({o.resource.metadata.uid for o in outcomes}) == 1

    async def test_revisions_have_no_gap_and_no_double(self, store: Store) -> None:
        await asyncio.gather(*(store.apply(tenant(f"t{n}")) for n in range(20)))
        assert [c.revision for c in await store.changes(0)] == list(range(1, 21))


class TestEvents:
    async def test_events_come_oldest_first_and_filtered(self, store: Store) -> None:
        late = event("b", 20, name="other", project="p", reason="Ended", data={"loss": 0.5, "step": 3})
        for e in (late, event("d", 10), event("c", 10)):
            await store.record(e)
        assert [e.id for e in await store.events()] == ["c", "d", "b"]
        assert list(await store.events(name="other", kind="Tenant", project="p")) == [late]
        assert list(await store.events(reason="Ended")) == [late]
        assert list(await store.events(reason="Ended", after="d")) == [late]
        assert await store.events(reason="Ended", name="acme") == []
        assert [e.id for e in await store.events(limit=1)] == ["c"]
        assert [e.id for e in await store.events(after="c")] == ["d", "b"]
        assert [e.id for e in await store.events(after="b")] == []
        assert await store.events(kind="Queue") == []

    async def test_an_id_is_kept_once(self, store: Store) -> None:
        await store.record(event("a", 1))
        await store.record(event("a", 2, message="again"))
        assert [(e.time_ms, e.message) for e in await store.events()] == [(1, "it was made")]


class TestAnswers:
    async def test_an_answer_is_kept_and_given_again(self, store: Store) -> None:
        assert await store.find_answer(claim()) is None
        await store.keep_answer(claim(), Replay(201, '{"ok": true}'))
        await store.keep_answer(claim(), Replay(200, "late"))
        assert await store.find_answer(claim()) == Replay(201, '{"ok": true}')

    async def test_another_request_is_refused(self, store: Store) -> None:
        await store.keep_answer(claim(), Replay(201, ""))
        with pytest.raises(IdempotencyMismatch):
            await store.find_answer(claim(digest="other"))

    async def test_answers_belong_to_their_scope(self, store: Store) -> None:
        await store.keep_answer(claim(), Replay(201, ""))
        assert await store.find_answer(claim(scope="uid-2/web", digest="other")) is None

    async def test_an_answer_is_kept_with_the_write_that_decides_it(self, store: Store) -> None:
        asked = claim()
        with claimed(asked):
            await store.apply(tenant("before"))
            await store.apply(tenant(), answer=lambda made: Replay(200, made[0].resource.metadata.uid))
        made = await store.get(Tenant, "acme")
        assert asked.kept
        assert await store.find_answer(claim()) == Replay(200, made.metadata.uid)

    async def test_a_write_whose_answer_cannot_be_made_is_not_made(self, store: Store) -> None:
        def fail(made: object) -> Replay:
            raise RuntimeError("no answer")

        with claimed(claim()), pytest.raises(RuntimeError):
            await store.apply(tenant(), answer=fail)
        assert await store.find(Tenant, "acme") is None
        assert await store.revision() == 0
        assert await store.find_answer(claim()) is None

    async def test_what_is_unchanged_or_deleted_is_answered_too(self, store: Store) -> None:
        await store.apply(tenant())
        with claimed(claim(key="a")):
            await store.apply(tenant(), answer=lambda made: Replay(200, made[0].resource.name))
        with claimed(claim(key="b")):
            await store.delete(Tenant, "acme", answer=lambda gone: Replay(200, gone[0].resource.name))
        assert await store.find_answer(claim(key="a")) == Replay(200, "acme")
        assert await store.find_answer(claim(key="b")) == Replay(200, "acme")


class TestAllOrNone:
    async def test_all_are_written_each_with_a_revision_of_its_own(self, store: Store) -> None:
        done = await store.write_all([Put(tenant(f"t{n}")) for n in range(5)])
        assert [d.resource.metadata.resource_version for d in done] == [1, 2, 3, 4, 5]
        assert [d.outcome for d in done] == ["created"] * 5
        assert [c.revision for c in await store.changes(0)] == [1, 2, 3, 4, 5]

    async def test_nothing_is_written_when_one_is_refused(self, store: Store) -> None:
        await store.apply(tenant("there"))
        stale = Put(tenant("there", resource_version=9))
        with pytest.raises(Conflict):
            await store.write_all([Put(tenant("new")), stale])
        with pytest.raises(NotFound):
            await store.write_all([Put(tenant("new")), Delete(Tenant, "nobody")])
        assert [t.name for t in await store.list(Tenant)] == ["there"]
        assert await store.revision() == 1
        assert len(await store.changes(0)) == 1

    async def test_results_stand_in_the_order_given_and_owners_come_first(self, store: Store) -> None:
        await store.apply(tenant("old"))
        made = [Put(workload("w", "p")), Put(project("p")), Put(tenant())]
        done = await store.write_all([made[0], Delete(Tenant, "old"), *made[1:]])
        assert [(d.outcome, d.resource.name) for d in done] == [
            ("created", "w"),
            ("deleted", "old"),
            ("created", "p"),
            ("created", "acme"),
        ]
        owner = (await store.changes(1, kinds=["Workload"]))[0].owner
        assert (owner.tenant, owner.project) == (done[3].resource.metadata.uid, done[2].resource.metadata.uid)

    async def test_a_key_that_is_made_anew_is_never_missing(self, store: Store) -> None:
        first = (await store.apply(tenant())).resource
        gone, made = await store.write_all([Delete(Tenant, "acme"), Put(tenant(display_name="anew"))])
        assert gone.resource.metadata.uid == first.metadata.uid
        assert made.resource.metadata.uid != first.metadata.uid
        assert (await store.get(Tenant, "acme")).spec.display_name == "anew"

    async def test_a_dry_run_writes_nothing(self, store: Store) -> None:
        await store.apply(tenant("there"))
        tried = await store.write_all([Put(tenant()), Delete(Tenant, "there")], dry_run=True)
        assert [t.outcome for t in tried] == ["created", "deleted"]
        assert [t.name for t in await store.list(Tenant)] == ["there"]


class TestOwnership:
    """Who gets a name after another sees nothing of what was under it."""

    async def viewers(self, store: Store, tenant_name: str, project_name: str) -> tuple[Viewer, Viewer]:
        """A member of the project and an admin of the tenant, as they are now."""
        tenant_uid = (await store.get(Tenant, tenant_name)).metadata.uid
        project_uid = (await store.get(Project, project_name)).metadata.uid
        return Viewer(tenant_uid, project_uid), Viewer(tenant_uid)

    async def seen(self, store: Store, viewer: Viewer) -> list[str]:
        return [f"{c.type} {c.resource.key}" for c in await store.changes(0, viewer=viewer)]

    async def test_the_next_owner_of_a_name_sees_nothing_of_the_former(self, store: Store) -> None:
        await store.write_all([Put(tenant()), Put(tenant("evil")), Put(project("research"))])
        await store.apply(workload("secret", "research"))
        await store.record(event("e1", 1, name="secret", kind="Workload", project="research"))
        former = await self.viewers(store, "acme", "research")
        await store.delete(Workload, "secret", "research")
        await store.delete(Project, "research")
        await store.apply(project("research", "evil"))
        await store.apply(workload("own", "research"))
        await store.record(event("e2", 2, name="own", kind="Workload", project="research"))

        own = ["put Tenant/evil", "put Project/research", "put Workload/research/own"]
        for viewer in await self.viewers(store, "evil", "research"):
            assert await self.seen(store, viewer) == own
            assert [e.id for e in await store.events(viewer=viewer)] == ["e2"]
        former_own = [
            "put Tenant/acme",
            "put Project/research",
            "put Workload/research/secret",
            "delete Workload/research/secret",
            "delete Project/research",
        ]
        for viewer in former:
            assert await self.seen(store, viewer) == former_own
            assert [e.id for e in await store.events(viewer=viewer)] == ["e1"]

    async def test_the_next_tenant_of_a_name_sees_nothing_of_the_former(self, store: Store) -> None:
        await store.write_all([Put(tenant()), Put(project("old"))])
        await store.delete(Project, "old")
        await store.delete(Tenant, "acme")
        await store.write_all([Put(tenant()), Put(project("new"))])
        member, admin = await self.viewers(store, "acme", "new")
        assert await self.seen(store, admin) == ["put Tenant/acme", "put Project/new"]
        assert await self.seen(store, member) == ["put Tenant/acme", "put Project/new"]

    async def test_members_see_their_project_admins_their_tenant_and_all_what_is_public(
        self, store: Store
    ) -> None:
        await store.write_all([Put(tenant()), Put(project("a")), Put(project("b"))])
        await store.write_all([Put(workload("w", "a")), Put(workload("w", "b"))])
        await store.apply(Queue(metadata=Metadata(name="q")))
        member, admin = await self.viewers(store, "acme", "a")
        of_a = ["put Tenant/acme", "put Project/a", "put Workload/a/w", "put Queue/q"]
        assert await self.seen(store, member) == of_a
        every = [f"{c.type} {c.resource.key}" for c in await store.changes(0)]
        assert await self.seen(store, admin) == every
        assert await self.seen(store, Viewer("")) == ["put Queue/q"]

    async def test_a_shared_model_is_everybody_s_while_it_is_shared(self, store: Store) -> None:
        await store.write_all([Put(tenant()), Put(tenant("evil")), Put(project("p"))])
        for shared in (False, True, False):
            await store.apply(model("m", "p", shared=shared))
        stranger = Viewer((await store.get(Tenant, "evil")).metadata.uid)
        found = [c for c in await store.changes(0, viewer=stranger) if c.resource.kind == "Model"]
        assert [c.resource.spec.shared for c in found] == [True]
        member, _ = await self.viewers(store, "acme", "p")
        mine = [c for c in await store.changes(0, viewer=member) if c.resource.kind == "Model"]
        assert [c.resource.spec.shared for c in mine] == [False, True, False]

    async def test_events_are_chosen_by_kind_and_paged_for_a_viewer(self, store: Store) -> None:
        await store.write_all([Put(tenant()), Put(tenant("evil")), Put(project("p"))])
        for n in range(6):
            kind = "Workload" if n % 2 else "Node"
            await store.record(event(f"e{n}", n, name="w", kind=kind, project="p"))
        await store.record(event("t", 9, kind="Tenant", name="acme"))
        await store.record(event("x", 9, kind="Tenant", name="nobody"))
        member, admin = await self.viewers(store, "acme", "p")
        found = await store.events(kinds=["Workload", "Tenant"], viewer=member)
        assert [e.id for e in found] == ["e1", "e3", "e5", "t"]
        page = await store.events(kinds=["Workload"], viewer=admin, after="e1", limit=1)
        assert [e.id for e in page] == ["e3"]
        assert [e.id for e in await store.events()] == ["e0", "e1", "e2", "e3", "e4", "e5", "t", "x"]


class TestFairHistory:
    async def test_one_project_s_writes_do_not_push_out_what_others_have_to_read(self, store: Store) -> None:
        names = ("quiet", "busy")
        await store.write_all([Put(tenant(name)) for name in names])
        await store.write_all([Put(project(f"{name}-lab", name)) for name in names])
        await store.apply(workload("w", "quiet-lab"))
        start = await store.revision()
        await store.apply(workload("w", "quiet-lab", seen="once"))
        for number in range(4 * HISTORY + 70):
            await store.apply(workload("w", "busy-lab", n=str(number)))
        uids = {name: (await store.get(Tenant, name)).metadata.uid for name in names}
        quiet = await store.changes(start, viewer=Viewer(uids["quiet"]))
        assert [c.resource.metadata.labels for c in quiet] == [{"seen": "once"}]
        for viewer in (Viewer(uids["busy"]), None):
            with pytest.raises(Conflict) as refused:
                await store.changes(start, viewer=viewer)
            assert refused.value.code == "gone"
        revision = await store.revision()
        recent = await store.changes(revision - 5, viewer=Viewer(uids["busy"]))
        assert len(recent) == 5


async def test_the_audit_log_is_newest_first(store: Store) -> None:
    entries = [AuditEntry(f"aud-{n}", 5, "root", "apply", "Tenant/acme", "ok") for n in range(3)]
    for entry in entries:
        await store.audit(entry)
    assert list(await store.audit_log(limit=2)) == [entries[2], entries[1]]
