"""The routing table holds what a gateway needs and no more, and its version is that of its content."""

from typing import Any

import pytest
from pydantic import ValidationError

from common.clock import VirtualClock
from common.resources import Adapter, ApiKey, Endpoint, Metadata, Model, Project, Queue, Tenant
from common.resources.objectives import RoutingSpec, ShadowSpec
from common.resources.people import ApiKeySpec, ApiKeyStatus, ProjectSpec
from common.resources.pool import QueueSpec
from common.resources.rates import RateLimits
from common.resources.serving import (
    AdapterSpec,
    EndpointSpec,
    EndpointStatus,
    ModelSpec,
    Replica,
)
from common.store.memory import MemoryStore
from common.wire import Route, RouteLimits, RouteWeights, RoutingTable
from inference.routes import RoutingTables, build_routing_table

FT = "ft:tiny:acme:zoo:1"


async def _fill(store: MemoryStore, replicas: list[Replica]) -> None:
    for project, tenant in (("lab", "acme"), ("shop", "other")):
        await store.apply(Project(metadata=Metadata(name=project), spec=ProjectSpec(tenant=tenant)))
    await store.apply(
        Model(metadata=Metadata(name="tiny", project="lab"), spec=ModelSpec(source="/m", tasks=["chat"]))
    )
    await store.apply(
        Endpoint(
            metadata=Metadata(name="chat", project="lab"),
            spec=EndpointSpec(model="tiny", served_name="small", shared=True),
            status=EndpointStatus(replicas=replicas, context_tokens=2048),
        )
    )


async def _add_adapter(store: MemoryStore) -> None:
    spec = AdapterSpec(model="tiny", model_project="lab", served_name=FT, path="/a")
    await store.apply(Adapter(metadata=Metadata(name="zoo", project="shop"), spec=spec))


async def _add_key(store: MemoryStore, name: str, revoked: bool = False) -> None:
    spec = ApiKeySpec(role="member", project="lab", revoked=revoked, models=["small"], expires_ms=99)
    status = ApiKeyStatus(digest=f"digest of {name}")
    await store.apply(ApiKey(metadata=Metadata(name=name, project="lab"), spec=spec, status=status))


def _replica(i: int, ready: bool = True, adapters: list[str] | None = None) -> Replica:
    url = f"http://10.0.0.{i}:80" if ready else ""
    return Replica(
        workload=f"chat-{i}", ready=ready, url=url, device_class="cpu/x86-64", adapters=adapters or []
    )


def _route(table: RoutingTable, model: str) -> Route:
    return next(route for route in table.routes if route.model == model)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> MemoryStore:
    return MemoryStore(clock)


async def test_an_endpoint_is_routed_to_its_ready_replicas(store: MemoryStore) -> None:
    await _fill(store, [_replica(0), _replica(1, ready=False)])
    route = _route(await build_routing_table(store), "small")
    assert (route.backend_model, route.base_model) == ("small", "small")
    assert (route.project, route.tenant, route.shared) == ("lab", "acme", True)
    assert (route.tasks, route.context_tokens) == (("chat",), 2048)
    assert [(r.id, r.url, r.device_class) for r in route.replicas] == [
        ("chat-0", "http://10.0.0.0:80", "cpu/x86-64")
    ]


async def test_an_endpoints_weights_and_adapter_slots_count_for_its_adapters_too(store: MemoryStore) -> None:
    await _fill(store, [_replica(0, adapters=[FT])])
    await _add_adapter(store)
    endpoint = await store.get(Endpoint, "chat", "lab")
    endpoint.spec.routing = RoutingSpec(prefix=2.5, session=0)
    endpoint.spec.engine.max_adapters = 7
    await store.apply(endpoint)
    for model in ("small", FT):
        route = _route(await build_routing_table(store), model)
        assert route.routing == RouteWeights(prefix=2.5, session=0.0)
        assert [replica.adapter_slots for replica in route.replicas] == [7]


@pytest.mark.parametrize("weight", [-0.1, 100.1, float("nan"), float("inf"), "much"])
def test_a_weight_that_is_none_is_refused_by_its_name(weight: object) -> None:
    with pytest.raises(ValidationError, match="prefix"):
        EndpointSpec.model_validate({"model": "tiny", "routing": {"prefix": weight}})


async def test_a_served_name_does_not_change_which_model_is_billed(store: MemoryStore) -> None:
    await _fill(store, [_replica(0)])
    for name in ("big", "anything at all"):
        endpoint = await store.get(Endpoint, "chat", "lab")
        endpoint.spec.served_name = name
        await store.apply(endpoint)
        (replica,) = _route(await build_routing_table(store), name).replicas
        assert (replica.model_identity, replica.model_shared) == ("lab/tiny", False)


async def test_billed_is_the_model_that_the_engine_runs_not_what_its_endpoint_says_by_now(
    store: MemoryStore,
) -> None:
    await _fill(store, [_replica(0).model_copy(update={"model_identity": "models/big-70b"})])
    spec = ModelSpec(source="/m", shared=True)
    await store.apply(Model(metadata=Metadata(name="big-70b", project="models"), spec=spec))
    (replica,) = _route(await build_routing_table(store), "small").replicas
    assert (replica.model_identity, replica.model_shared) == ("models/big-70b", True)


async def test_an_endpoint_without_replicas_is_known_all_the_same(store: MemoryStore) -> None:
    await _fill(store, [])
    assert _route(await build_routing_table(store), "small").replicas == ()


async def test_an_adapter_belongs_to_its_own_tenant_and_goes_where_it_is_held(store: MemoryStore) -> None:
    await _fill(store, [_replica(0), _replica(1, adapters=[FT])])
    await _add_adapter(store)
    route = _route(await build_routing_table(store), FT)
    assert (route.project, route.tenant, route.shared) == ("shop", "other", False)
    assert (route.base_model, route.backend_model) == ("small", FT)
    assert [(r.id, r.model_identity) for r in route.replicas] == [("chat-1", "lab/tiny")]


async def test_an_adapter_that_no_endpoint_serves_has_no_route(store: MemoryStore) -> None:
    await _fill(store, [])
    await _add_adapter(store)
    await store.delete(Endpoint, "chat", "lab")
    assert (await build_routing_table(store)).routes == ()


async def test_revoked_keys_are_left_out_and_others_carry_their_limits(store: MemoryStore) -> None:
    await _fill(store, [])
    await _add_key(store, "good")
    await _add_key(store, "bad", revoked=True)
    (key,) = (await build_routing_table(store)).keys
    assert (key.name, key.digest, key.expires_ms) == ("good", "digest of good", 99)
    assert key.principal.tenant == "acme"
    assert key.principal.models == ("small",)


async def test_of_two_endpoints_with_one_name_the_older_answers(
    clock: VirtualClock, store: MemoryStore
) -> None:
    await _fill(store, [_replica(0)])
    clock.advance(1)
    younger = Endpoint(
        metadata=Metadata(name="another", project="lab"),
        spec=EndpointSpec(model="tiny", served_name="small"),
        status=EndpointStatus(replicas=[_replica(5)]),
    )
    await store.apply(younger)
    (route,) = (await build_routing_table(store)).routes
    assert [r.id for r in route.replicas] == ["chat-0"]


async def test_the_version_follows_the_content(store: MemoryStore) -> None:
    await _fill(store, [_replica(0)])
    first = (await build_routing_table(store)).version
    await store.apply(Project(metadata=Metadata(name="new"), spec=ProjectSpec(tenant="acme")))
    assert (await build_routing_table(store)).version == first
    await _add_key(store, "good")
    assert (await build_routing_table(store)).version != first


async def test_a_table_is_made_anew_only_after_a_change_of_what_it_is_made_of(store: MemoryStore) -> None:
    await _fill(store, [_replica(0)])
    tables = RoutingTables(store)
    _, first = await tables.current()
    await store.apply(Queue(metadata=Metadata(name="q"), spec=QueueSpec()))
    revision, same = await tables.current()
    assert same is first
    assert revision == await store.revision(), "what is no part of it is not looked at again"
    for number in range(3):
        await _add_key(store, f"key-{number}")
        assert len((await tables.current())[1].keys) == number + 1


async def _serve_privately(store: MemoryStore, project: str, model: str = "tiny", **spec: object) -> Endpoint:
    """An Endpoint of that project on the Model of lab."""
    made = Endpoint(
        metadata=Metadata(name="mine", project=project),
        spec=EndpointSpec.model_validate({"model": model, **spec}),
        status=EndpointStatus(model_project="lab", replicas=[_replica(9, adapters=[FT])], context_tokens=16),
    )
    return (await store.apply(made)).resource


async def test_a_strangers_endpoint_changes_nothing_of_an_adapters_route(store: MemoryStore) -> None:
    await _fill(store, [_replica(0, adapters=[FT])])
    await _add_adapter(store)
    before = _route(await build_routing_table(store), FT)
    await store.apply(Project(metadata=Metadata(name="evil"), spec=ProjectSpec(tenant="evil")))
    await _serve_privately(store, "evil", served_name="penny-model")
    table = await build_routing_table(store)
    assert _route(table, FT) == before
    assert (before.context_tokens, before.base_model) == (2048, "small")
    assert [route.model for route in table.routes if route.project == "evil"] == ["penny-model"]


async def test_an_endpoint_of_its_own_project_serves_an_adapter(store: MemoryStore) -> None:
    await _fill(store, [])
    await _add_adapter(store)
    await _serve_privately(store, "shop")
    assert [r.id for r in _route(await build_routing_table(store), FT).replicas] == ["chat-9"]


@pytest.mark.parametrize("engine", [{"max_adapters": 0}, {"max_adapter_rank": 8}])
async def test_an_adapter_wakes_no_endpoint_that_will_never_load_it(
    store: MemoryStore, engine: dict[str, int]
) -> None:
    await _fill(store, [])
    await _add_adapter(store)
    endpoint = await store.get(Endpoint, "chat", "lab")
    endpoint.spec = EndpointSpec.model_validate(
        {**endpoint.spec.model_dump(), "autoscaling": {"minReplicas": 0}, "engine": engine}
    )
    await store.apply(endpoint)
    assert _route(await build_routing_table(store), FT).elastic == ()
    await _serve_privately(store, "shop", autoscaling={"minReplicas": 0})
    assert _route(await build_routing_table(store), FT).elastic == ("shop/mine",), (
        "the shared one comes first"
    )


async def test_a_shared_endpoint_takes_strangers_adapters_unless_it_says_otherwise(
    store: MemoryStore,
) -> None:
    await _fill(store, [_replica(0, adapters=[FT])])
    await _add_adapter(store)
    endpoint = await store.get(Endpoint, "chat", "lab")
    endpoint.spec.adapters = "own"
    await store.apply(endpoint)
    assert FT not in [route.model for route in (await build_routing_table(store)).routes]


async def test_an_older_private_namesake_does_not_hide_what_its_project_shares(
    clock: VirtualClock, store: MemoryStore
) -> None:
    await store.apply(Project(metadata=Metadata(name="lab"), spec=ProjectSpec(tenant="acme")))
    await _serve_privately(store, "lab", served_name="small")
    clock.advance(1)
    await _fill(store, [_replica(0)])
    (route,) = (await build_routing_table(store)).routes
    assert route.shared


@pytest.mark.parametrize("reader", [{"role": "prefill"}, {"duty": "prefill"}, {"role": "canary"}])
async def test_copies_go_to_no_engine_that_reads_for_others_and_to_no_canary(
    store: MemoryStore, reader: dict[str, str]
) -> None:
    await _fill(store, [_replica(0)])
    other = [Replica.model_validate({**_replica(1).to_dict(), **reader}), _replica(2)]
    await store.apply(
        Endpoint(
            metadata=Metadata(name="next", project="lab"),
            spec=EndpointSpec(model="tiny", served_name="later"),
            status=EndpointStatus(replicas=other),
        )
    )
    chat = await store.get(Endpoint, "chat", "lab")
    chat.spec.shadow = ShadowSpec(endpoint="next")
    await store.apply(chat)
    shadow = _route(await build_routing_table(store), "small").shadow
    assert shadow is not None
    assert [one.id for one in shadow.replicas] == ["chat-2"]


async def test_limits_of_keys_projects_tenants_and_endpoints_are_in_the_table_and_its_version() -> None:
    store = MemoryStore(VirtualClock())
    await _fill(store, [_replica(0)])
    await _add_adapter(store)
    await _add_key(store, "ci")
    await store.apply(Tenant(metadata=Metadata(name="acme")))
    before = await build_routing_table(store)
    assert (before.projects, before.tenants, before.keys[0].limits) == ({}, {}, None)
    limits = RateLimits(requests_per_minute=60, tokens_per_minute=1000)
    versions = {before.version}
    for kind, name, project in (
        (Tenant, "acme", None),
        (Project, "lab", None),
        (ApiKey, "ci", "lab"),
        (Endpoint, "chat", "lab"),
    ):
        found: Any = await store.get(kind, name, project)
        found.spec.rate_limits = limits
        await store.apply(found)
        versions.add((await build_routing_table(store)).version)
    assert len(versions) == 5
    table, told = (
        await build_routing_table(store),
        RouteLimits(requests_per_minute=60, tokens_per_minute=1000),
    )
    assert (table.projects, table.tenants) == ({"lab": told}, {"acme": told})
    assert [key.limits for key in table.keys] == [told]
    for name in ("small", FT):
        assert (_route(table, name).limits, _route(table, name).limited_as) == (told, "lab/chat")
