"""What an older version stored and today's kinds do not take is set aside; everything else goes on."""

import json

import pytest
import sqlalchemy as sa

from common.clock import VirtualClock
from common.db import Database
from common.errors import Conflict, NotFound
from common.resources import Endpoint, Metadata, Model, Project
from common.resources.people import ProjectSpec
from common.resources.serving import EndpointSpec, ModelSpec
from common.store.schema import resource_history, resources
from common.store.set_aside import SetAside
from common.store.sql import SqlStore


def endpoint(name: str) -> Endpoint:
    return Endpoint(metadata=Metadata(name=name, project="web"), spec=EndpointSpec(model="tiny"))


async def spoil(database: Database, table: sa.Table, kind: str, change: str) -> None:
    """Rewrite the documents of a kind as an older version could have stored them."""
    async with database.write() as connection:
        for row in list(await connection.execute(sa.select(table).where(table.c.kind == kind))):
            document = json.loads(row.document)
            document["spec"].update(json.loads(change))
            key = [column == getattr(row, column.name) for column in table.primary_key]
            values = {"document": json.dumps(document)}
            await connection.execute(sa.update(table).where(*key).values(values))


@pytest.fixture
async def store(database: Database) -> SqlStore:
    return SqlStore(database, VirtualClock())


OLD = {
    "a served name with a tab": '{"servedName": "a\\tb"}',
    "infinity": '{"devices": {"tflops": Infinity}}',
    "a number of 400 digits": '{"devices": {"memoryBytes": 1' + "0" * 400 + "}}",
    "a field that is gone": '{"colour": "red"}',
}


@pytest.mark.parametrize("change", OLD.values(), ids=OLD.keys())
async def test_it_breaks_no_list_no_watch_and_no_lookup(
    store: SqlStore, database: Database, change: str
) -> None:
    await store.apply(endpoint("old"))
    await spoil(database, resources, "Endpoint", change)
    await spoil(database, resource_history, "Endpoint", change)
    await store.apply(endpoint("new"))
    assert [found.name for found in await store.list(Endpoint)] == ["new"]
    assert [change.resource.name for change in await store.changes(0)] == ["new"]
    assert await store.find(Endpoint, "old", "web") is None
    [aside] = await store.set_aside()
    assert (aside.kind, aside.name, aside.project) == ("Endpoint", "old", "web")
    assert "spec." in aside.reason
    assert await store.set_aside(Model) == []


async def test_a_page_of_the_history_is_full_as_long_as_there_is_more(
    store: SqlStore, database: Database
) -> None:
    for number in range(6):
        await store.apply(endpoint(f"old-{number}"))
    await spoil(database, resource_history, "Endpoint", '{"servedName": "a\\tb"}')
    for number in range(3):
        await store.apply(endpoint(f"new-{number}"))
    assert [c.resource.name for c in await store.changes(0, limit=2)] == ["new-0", "new-1"]
    assert [c.resource.name for c in await store.changes(8, limit=2)] == ["new-2"]
    assert await store.changes(9, limit=2) == []


async def test_within_a_project_it_is_written_anew_or_removed(store: SqlStore, database: Database) -> None:
    first = (await store.apply(endpoint("old"))).resource.metadata
    await spoil(database, resources, "Endpoint", '{"servedName": "a\\tb"}')
    applied = await store.apply(endpoint("old"))
    assert applied.outcome == "created"
    assert applied.resource.metadata.uid != first.uid
    assert await store.set_aside() == []
    await spoil(database, resources, "Endpoint", '{"servedName": "a\\tb"}')
    removed = await store.remove_set_aside("Endpoint", "old", "web")
    assert isinstance(removed, SetAside)
    with pytest.raises(NotFound):
        await store.remove_set_aside("Endpoint", "old", "web")


async def test_nobody_takes_over_a_project_that_is_set_aside(store: SqlStore, database: Database) -> None:
    project = Project(metadata=Metadata(name="web"), spec=ProjectSpec(tenant="acme"))
    await store.apply(project)
    await spoil(database, resources, "Project", '{"displayName": "a\\tb"}')
    stolen = Project(metadata=Metadata(name="web"), spec=ProjectSpec(tenant="evil"))
    for dry_run in (True, False):
        with pytest.raises(Conflict, match="set aside") as refused:
            await store.apply(stolen, dry_run=dry_run)
        assert refused.value.code == "set_aside"
    await store.remove_set_aside("Project", "web")
    assert (await store.apply(stolen)).outcome == "created"


async def test_what_is_in_order_cannot_be_removed_as_if_it_were_not(store: SqlStore) -> None:
    model = Model(metadata=Metadata(name="m", project="web"), spec=ModelSpec(source="org/m"))
    await store.apply(model)
    with pytest.raises(NotFound):
        await store.remove_set_aside("Model", "m", "web")
    assert await store.find(Model, "m", "web") is not None
