"""What every store must do: the same tests on memory, SQLite and PostgreSQL."""

import asyncio

import pytest

from common.errors import Conflict, NotFound
from common.resources import Metadata, Project, Queue, Tenant, Workload
from common.resources.people import ProjectSpec
from common.resources.pool import QueueSpec
from common.store.port import AuditEntry, Store
from tests.fixtures.stores import HISTORY, Bench, event, tenant, workload


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

    async def test_wait_for_some_kinds_sleeps_through_others(self, store: Store) -> None:
        await store.apply(tenant())
        assert await store.wait(0, 60, ["Tenant"]) == 1
        waiting = asyncio.create_task(store.wait(1, 60, ["Project", "Workload"]))
        await store.apply(tenant(display_name="Acme"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert await store.wait(1, 0, ["Workload"]) == 2, "what is known goes on, though nobody was woken"
        await store.apply(Project(metadata=Metadata(name="web"), spec=ProjectSpec(tenant="acme")))
        async with asyncio.timeout(0.9):
            assert await waiting == 3
        assert await store.changes(1, kinds=["Workload"]) == []


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

    async def test_several_events_are_recorded_at_once(self, store: Store) -> None:
        await store.record(*(event(f"e{n}", n) for n in range(5)))
        await store.record()
        await store.record(event("e4", 4, message="again"), event("e5", 5))
        found = await store.events()
        assert [(e.id, e.message) for e in found] == [(f"e{n}", found[0].message) for n in range(6)]

    async def test_an_id_is_kept_once(self, store: Store) -> None:
        await store.record(event("a", 1))
        await store.record(event("a", 2, message="again"))
        assert [(e.time_ms, e.message) for e in await store.events()] == [(1, "it was made")]


async def test_the_audit_log_is_newest_first(store: Store) -> None:
    entries = [AuditEntry(f"aud-{n}", 5, "root", "apply", "Tenant/acme", "ok") for n in range(3)]
    for entry in entries:
        await store.audit(entry)
    assert list(await store.audit_log(limit=2)) == [entries[2], entries[1]]


async def test_sizes_tell_what_a_project_holds_in_bytes(store: Store) -> None:
    assert await store.sizes("lab") == {}
    made = [(await store.apply(workload(name, "lab"))).resource for name in ("a", "b")]
    await store.apply(workload("c", "elsewhere"))
    size = (await store.sizes("lab"))["Workload"]
    assert size.count == 2
    made[0].metadata.labels["note"] = "ä" * 100
    await store.apply(made[0])
    grown = (await store.sizes("lab"))["Workload"]
    assert 200 < grown.document_bytes - size.document_bytes < 250
