"""Specs that resources have and had: the same tests on memory, SQLite and PostgreSQL."""

from typing import Any

import pytest

from common.errors import Conflict
from common.resources import Endpoint, Resource, parse_resource
from common.resources.meta import API_VERSION
from common.store.authorship import Author, authored
from common.store.port import Delete, Put, Store
from common.store.revisions import KEPT_REVISIONS
from tests.fixtures.stores import Bench, project, tenant


def document(kind: str, name: str, **spec: Any) -> Resource:
    metadata = {"name": name, "project": "web"}
    return parse_resource({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})


def endpoint(seed: int, name: str = "e") -> Resource:
    return document("Endpoint", name, model="m", engine={"args": ["--seed", str(seed)]})


async def write(store: Store, resource: Resource, by: str = "alice") -> Resource:
    with authored(Author(by, "key", "uid-of-acme")):
        return (await store.apply(resource)).resource


async def seeds(store: Store, uid: str) -> list[tuple[int, str]]:
    """Generations with what their specs say."""
    kept = await store.revisions(uid)
    return [(one.generation, one.spec["engine"]["args"][1]) for one in kept if one.spec is not None]


async def test_each_change_of_a_spec_is_kept_with_who_made_it_and_when(bench: Bench) -> None:
    store = bench.store
    made = await write(store, endpoint(1))
    bench.clock.advance(5)
    await write(store, endpoint(2), "bob")
    labelled = endpoint(2)
    labelled.metadata.labels["a"] = "b"
    await write(store, labelled)
    await write(store, labelled)
    newest, first = await store.revisions(made.metadata.uid)
    assert await seeds(store, made.metadata.uid) == [(2, "2"), (1, "1")]
    assert (newest.by, newest.tenant, newest.paths) == ("bob", "uid-of-acme", ("spec.engine.args[1]",))
    assert (first.by, newest.time_ms - first.time_ms) == ("alice", 5000)


async def test_so_many_are_kept_of_each(bench: Bench) -> None:
    other = await write(bench.store, endpoint(0, "other"))
    for number in range(KEPT_REVISIONS + 5):
        made = await write(bench.store, endpoint(number))
    kept = await seeds(bench.store, made.metadata.uid)
    assert (len(kept), kept[0]) == (KEPT_REVISIONS, (KEPT_REVISIONS + 5, str(KEPT_REVISIONS + 4)))
    assert len(await bench.store.revisions(other.metadata.uid)) == 1


async def test_they_go_with_the_resource_and_the_next_of_its_name_has_none_of_them(bench: Bench) -> None:
    store = bench.store
    made = await write(store, endpoint(1))
    await write(store, endpoint(2))
    await store.write_all([Delete(Endpoint, "e", "web")])
    assert await store.revisions(made.metadata.uid) == []
    again = await write(store, endpoint(3))
    assert await seeds(store, again.metadata.uid) == [(1, "3")]


async def test_what_is_refused_or_only_tried_leaves_none(bench: Bench) -> None:
    store = bench.store
    await store.apply(tenant())
    await store.apply(project("web"))
    made = await write(store, endpoint(1))
    await store.apply(endpoint(2), dry_run=True)
    stale = document("Model", "m", source="org/m")
    stale.metadata.resource_version = 999
    with pytest.raises(Conflict), authored(Author("alice")):
        await store.write_all([Put(endpoint(3)), Put(stale)])
    assert await seeds(store, made.metadata.uid) == [(1, "1")]


async def test_controllers_and_other_kinds_leave_none(bench: Bench) -> None:
    with authored(Author("endpoints", "control")):
        made = (await bench.store.apply(endpoint(1))).resource
    model = await write(bench.store, document("Model", "m", source="org/m"))
    assert await bench.store.revisions(made.metadata.uid) == []
    assert await bench.store.revisions(model.metadata.uid) == []
    await write(bench.store, endpoint(2))
    assert await seeds(bench.store, made.metadata.uid) == [(2, "2"), (1, "1")]
