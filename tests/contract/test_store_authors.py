"""Every write by somebody leaves an event, of whatever kind it is: who, what, which fields; no text."""

import json
from typing import Any

import pytest

from common.errors import Conflict
from common.resources import API_VERSION, KINDS, Metadata, Queue, Resource, Tenant, parse_resource
from common.resources.people import ApiKeyStatus
from common.resources.pool import QueueSpec
from common.store.authorship import Author, authored, is_of_write, shown_to
from common.store.changed import MOST_PATHS
from common.store.ownership import Viewer
from common.store.port import Delete, Event, Put, Store
from tests.fixtures.stores import model, project, tenant, workload

SECRET = "do-not-tell"
ROLE = {"name": "main", "command": ["sh", "-c", SECRET], "env": {"HF_TOKEN": SECRET}}
SPECS: dict[str, dict[str, Any]] = {
    "Tenant": {"displayName": SECRET},
    "Project": {"tenant": "acme", "displayName": SECRET},
    "ApiKey": {"role": "member", "project": "web"},
    "Node": {"labels": {"rack": SECRET}},
    "Queue": {"weight": 2},
    "Workload": {"roles": [ROLE]},
    "Model": {"source": SECRET},
    "Adapter": {"model": "tiny", "servedName": "ft:tiny", "path": f"/adapters/{SECRET}"},
    "Endpoint": {"model": "tiny", "engine": {"env": {"HF_TOKEN": SECRET}}},
    "ExternalModel": {"url": "https://a.example/v1", "model": SECRET, "region": "eu", "dataClass": "public"},
    "Route": {"candidates": [{"model": "tiny", "when": {"tags": {"team": SECRET}}}]},
    "Job": {"command": ["sh", "-c", SECRET], "env": {"HF_TOKEN": SECRET}},
    "FineTune": {"model": "tiny", "base": "tiny", "baseProject": "web", "trainingFile": "file-1"},
    "File": {"filename": SECRET, "purpose": "fine-tune", "sizeBytes": 1, "sha256": "00"},
    "Batch": {"endpoint": "/v1/embeddings", "inputFile": "file-1", "metadata": {"team": SECRET}},
    "Price": {
        "effectiveFrom": "2090-01-01T00:00:00Z",
        "items": [{"meter": "prompt_tokens", "microcreditsPerMillion": 1_000_000}],
    },
    "Budget": {"scope": {"tenant": "acme"}, "limit": {"tokens": 1_000_000}},
    "Guardrail": {"scope": {"tenant": "acme"}, "guards": [{"kind": "secrets", "action": "mask"}]},
}
CI = Author("ci", tenant="uid-of-acme")


def one_of(kind: str, **labels: str) -> Resource:
    metadata: dict[str, Any] = {"name": "thing", "labels": labels}
    if KINDS[kind].SCOPE == "project":
        metadata["project"] = "web"
    made = parse_resource(
        {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": SPECS[kind]}
    )
    if kind == "ApiKey":
        made.status = ApiKeyStatus(digest=SECRET, hint="ck-")
    return made


async def told(store: Store, **only: Any) -> list[Event]:
    return list(await store.events(**only, limit=1000))


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_tells_who_made_changed_and_deleted_it(store: Store, kind: str) -> None:
    await store.write_all([Put(tenant()), Put(project("web"))])
    with authored(CI):
        await store.apply(one_of(kind))
        await store.apply(one_of(kind))
        await store.apply(one_of(kind, stage="two"))
        made = await store.find(KINDS[kind], "thing", one_of(kind).project)
        await store.delete(KINDS[kind], "thing", one_of(kind).project)
    events = await told(store, kind=kind, name="thing")
    assert {event.reason for event in events} == {"Created", "Changed", "Deleted"}
    assert len(events) == 3
    messages = {event.reason: shown_to(event, None).message for event in events}
    assert messages == {
        "Created": "key ci created it",
        "Changed": "key ci changed metadata.labels.stage",
        "Deleted": "key ci deleted it",
    }
    assert made is not None
    assert SECRET not in json.dumps([event.__dict__ for event in events], default=str)
    owners = {(event.owner.tenant, event.owner.project) for event in events}
    assert len(owners) == 1, "whose it was is known when it is gone, too"


async def test_a_change_names_the_fields_and_not_what_stands_in_them(store: Store) -> None:
    old = workload("w", "web", team="a")
    await store.write_all([Put(tenant()), Put(project("web")), Put(old)])
    new = workload("w", "web", team="b")
    new.spec.roles[0].replicas = 3
    new.spec.roles[0].env = {"HF_TOKEN": SECRET}
    with authored(CI):
        applied = await store.apply(new)
    (event,) = await told(store, kind="Workload")
    assert (
        event.message
        == "changed spec.roles[0].replicas 1 → 3, spec.roles[0].env.HF_TOKEN, metadata.labels.team"
    )
    assert event.data["changed"] == list(applied.changed)
    assert SECRET not in str(event)


async def test_however_much_is_changed_the_event_is_small(store: Store) -> None:
    await store.apply(tenant())
    labels = {f"{'x' * 60}-{number}": "y" for number in range(60)}
    with authored(CI):
        await store.apply(tenant(labels=labels))
    (event,) = await told(store, kind="Tenant")
    assert len(event.data["changed"]) == MOST_PATHS
    assert event.message.endswith(" and more")
    assert len(json.dumps(event.data)) < 4000
    assert len(event.message) < 1000


async def test_what_is_not_written_is_not_told(store: Store) -> None:
    await store.apply(tenant())
    with authored(CI):
        await store.apply(tenant(display_name="dry"), dry_run=True)
        await store.apply(tenant())
        with pytest.raises(Conflict):
            await store.write_all([Put(tenant("other")), Put(tenant(resource_version=77))])
    await store.apply(tenant(display_name="nobody says who"))
    assert await told(store) == []


async def test_of_control_its_marks_are_not_told(store: Store) -> None:
    await store.apply(Queue(metadata=Metadata(name="q")))
    with authored(Author("scheduler", "control")):
        await store.apply(Queue(metadata=Metadata(name="q", labels={"seen": "1"})))
        assert await told(store) == []
        spec = QueueSpec(max_devices=4)
        await store.apply(Queue(metadata=Metadata(name="q", labels={"seen": "1"}), spec=spec))
    (event,) = await told(store)
    assert shown_to(event, "uid-of-acme").message == "control (scheduler) changed spec.maxDevices"


async def test_names_of_keys_are_for_their_own_tenant_and_the_platform(store: Store) -> None:
    acme, globex = [(await store.apply(tenant(name))).resource.metadata.uid for name in ("acme", "globex")]
    await store.apply(project("web"))
    with authored(Author("acme-ci", tenant=acme)):
        await store.apply(model("m", "web", shared=True))
    with authored(Author("root")):
        await store.apply(Queue(metadata=Metadata(name="q")))
    seen = sorted(await told(store, viewer=Viewer(globex)), key=lambda event: event.kind)
    assert [shown_to(event, globex).message for event in seen] == [
        "another tenant created it",
        "the platform created it",
    ]
    assert "acme-ci" not in str([shown_to(event, globex) for event in seen])
    assert acme not in str([shown_to(event, tenant_) for event in seen for tenant_ in (globex, None)])
    assert shown_to(seen[0], acme).message == "key acme-ci created it"
    assert shown_to(seen[1], None).message == "key root created it"
    assert shown_to(seen[1], "").message == "the platform created it", "who has no tenant is no platform"


async def test_an_author_knows_what_it_wrote(store: Store) -> None:
    author = Author("ci")
    with authored(author):
        await store.write_all([Put(tenant()), Put(Queue(metadata=Metadata(name="q")))])
        await store.apply(tenant())
        with pytest.raises(Conflict):
            await store.apply(tenant("gone", resource_version=9))
        await store.write_all([Delete(Tenant, "acme")])
        assert author.summary == "created Tenant/acme, created Queue/q, deleted Tenant/acme"
        await store.write_all([Put(tenant(f"t{number}")) for number in range(40)])
    assert author.summary.endswith("Tenant/t16 and 23 more")


async def test_the_latest_events_can_be_asked_for(store: Store) -> None:
    await store.apply(tenant())
    made = [
        Event(f"e{number}", number, "info", "Made", "it", "Tenant" if number % 2 else "Queue", "acme")
        for number in range(9)
    ]
    await store.record(*made)
    assert [e.id for e in await store.events(newest=True, limit=3)] == ["e6", "e7", "e8"]
    assert [e.id for e in await store.events(newest=True, kind="Tenant", limit=2)] == ["e5", "e7"]
    uid = (await store.get(Tenant, "acme")).metadata.uid
    seen = await store.events(newest=True, limit=2, viewer=Viewer(uid))
    assert [e.id for e in seen] == ["e5", "e7"], "those of the Queue are nobody's but the platform's"


async def test_other_events_are_shown_as_they_are(store: Store) -> None:
    event = Event("e", 1, "info", "Admitted", "placed on a", "Workload", "w", "web", {"writtenBy": 3})
    assert not is_of_write(event)
    assert shown_to(event, "uid") is event
