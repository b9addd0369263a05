"""Whose history is whose, writes that are one, and answers kept with them: on memory, SQLite and
PostgreSQL."""

import pytest

from common.errors import Conflict, IdempotencyMismatch, NotFound
from common.resources import Metadata, Project, Queue, Tenant, Workload
from common.store.answers import Replay, claimed
from common.store.ownership import Viewer
from common.store.port import Delete, Put, Store
from tests.fixtures.stores import HISTORY, claim, event, model, project, tenant, workload


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
