"""The routing table says what is paused, and has no engines of paused Models."""

import pytest

from common.clock import VirtualClock
from common.pauses import BY_TENANT, PAUSED
from common.resources import ApiKey, Endpoint, Metadata, Model, Project, Resource, Tenant
from common.resources.objectives import ShadowSpec
from common.resources.people import ApiKeySpec, ApiKeyStatus, ProjectSpec
from common.resources.serving import EndpointSpec, EndpointStatus, ModelSpec, Replica
from common.store.memory import MemoryStore
from inference.routes import RoutingTables, build_routing_table


async def _set(store: MemoryStore, resource: Resource, holds: bool = True) -> None:
    fresh = await store.get(type(resource), resource.name, resource.project)
    fresh.status.set_condition(PAUSED, holds, BY_TENANT, "loops", now_ms=7)
    await store.set_status(fresh)


async def _world() -> tuple[MemoryStore, dict[str, Resource]]:
    store = MemoryStore(VirtualClock())
    replicas = [
        Replica(workload=f"chat-{name}", ready=True, url="http://e", model_identity=f"lab/{name}")
        for name in ("old", "new")
    ]
    made: dict[str, Resource] = {
        "tenant": Tenant(metadata=Metadata(name="acme")),
        "project": Project(metadata=Metadata(name="lab"), spec=ProjectSpec(tenant="acme")),
        "key": ApiKey(
            metadata=Metadata(name="ci"),
            spec=ApiKeySpec(role="member", project="lab"),
            status=ApiKeyStatus(digest="d"),
        ),
        "old": Model(metadata=Metadata(name="old", project="lab"), spec=ModelSpec(source="/o")),
        "new": Model(metadata=Metadata(name="new", project="lab"), spec=ModelSpec(source="/n")),
        "endpoint": Endpoint(
            metadata=Metadata(name="chat", project="lab"),
            spec=EndpointSpec(model="new"),
            status=EndpointStatus(replicas=replicas),
        ),
    }
    for resource in made.values():
        await store.apply(resource)
    return store, made


async def test_each_pause_makes_a_new_table_and_a_resumed_one_is_as_before() -> None:
    store, made = await _world()
    tables = RoutingTables(store)
    _, before = await tables.current()
    assert before.pauses == ()
    seen = {before.version}
    for name, place in (
        ("key", ("key", "ci")),
        ("project", ("project", "lab")),
        ("tenant", ("tenant", "acme")),
        ("old", ("model", "lab/old")),
    ):
        await _set(store, made[name])
        _, table = await tables.current()
        assert [(one.scope, one.name, one.since_ms, one.reason) for one in table.pauses] == [
            (*place, 7, "loops")
        ]
        assert table.version not in seen
        seen.add(table.version)
        await _set(store, made[name], holds=False)
        assert (await tables.current())[1].version == before.version


async def test_applying_a_paused_resource_again_does_not_resume_it() -> None:
    store, made = await _world()
    await _set(store, made["project"])
    spec = ProjectSpec(tenant="acme", display_name="other")
    await store.apply(Project(metadata=Metadata(name="lab"), spec=spec))
    assert [one.name for one in (await build_routing_table(store)).pauses] == ["lab"]


async def test_engines_of_a_paused_model_get_nothing_while_others_of_the_route_do() -> None:
    store, made = await _world()
    await _set(store, made["old"])
    (route,) = (await build_routing_table(store)).routes
    assert route.model_identity == "lab/new"
    assert [replica.id for replica in route.replicas] == ["chat-new"]


@pytest.mark.parametrize(
    ("name", "copied"), [("old", True), ("new", False), ("project", False), ("tenant", False)]
)
async def test_nothing_is_copied_to_a_paused_model_or_at_the_cost_of_who_is_paused(
    name: str, copied: bool
) -> None:
    store, made = await _world()
    spec = EndpointSpec(model="old", served_name="busy", shadow=ShadowSpec(endpoint="chat", percent=100))
    await store.apply(Endpoint(metadata=Metadata(name="busy", project="lab"), spec=spec))
    chat = await store.get(Endpoint, "chat", "lab")
    chat.status.replicas = [one for one in chat.status.replicas if one.workload == "chat-new"]
    await store.set_status(chat)
    await _set(store, made[name])
    routes = {route.model: route for route in (await build_routing_table(store)).routes}
    shadow = routes["busy"].shadow
    assert shadow is not None
    assert bool(shadow.replicas) == copied
