"""What happens to a resource after it has passed the gate, as short ways through the product."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from billing.core.events import UsageEvent
from billing.core.rating import rate
from billing.store.books import book_of
from common import guard
from common.clock import VirtualClock
from common.errors import ComputilityError, InvalidInput
from common.resources import (
    Endpoint,
    Metadata,
    Model,
    Node,
    Price,
    Project,
    Resource,
    Workload,
    load_stored,
    parse_resource,
)
from common.resources.people import ProjectSpec
from common.resources.serving import Replica
from common.settings import Settings
from common.store.memory import MemoryStore
from common.wire import Route, RoutingTable
from inference.core.usage import TokenCounts
from inference.engine_workload import engine_workload, replica_of
from inference.gateway.books.journal import Journal, read_journal
from inference.gateway.control_link.table import RouteIndex
from inference.routes import build_routing_table
from tests.fixtures.extremes import PROJECT
from tests.unit.scheduler.loop_scene import Scene

DEVICE_CLASS = "mthreads/" + "\U0001f600" * 128
"""The longest that a device may be called."""
UID = "uid-" + "0" * 26
TENANT = "t" * 63
EXTREME = settings(
    max_examples=30,
    deadline=None,
    phases=(Phase.reuse, Phase.generate),  # such documents are shrunk for minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def assert_told(error: ComputilityError) -> None:
    """The client is told what is wrong and where, in a text that can be sent."""
    assert isinstance(error, InvalidInput)
    assert error.param or "the body" in error.message or "JSON" in error.message
    assert len(error.message) < 100_000
    (error.message + (error.param or "")).encode()


def accepted(document: dict[str, Any]) -> Resource | None:
    """The resource; None when it is refused as it should be, with the path of each mistake."""
    try:
        resource = parse_resource(json.loads(json.dumps(document)))
    except InvalidInput as error:
        assert_told(error)
        return None
    assert load_stored(resource.kind, json.dumps(resource.to_dict())) == resource
    return resource


async def scheduled(*resources: Resource) -> Scene:
    """Some passes of the scheduler over the resources; nothing may be set aside."""
    scene = Scene()
    await scene.store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant=TENANT)))
    for resource in resources:
        await scene.store.apply(resource)
    for seconds in (0.0, 1.0, 1.0, 70.0, 1.0):
        scene.clock.advance(seconds)
        await scene.loop.step()
        for uid in {order.uid for _, order in scene.fabric.started}:
            scene.fabric.ready(uid)
    for workload in await scene.store.list(Workload):
        handled = workload.status.condition(guard.HANDLED)
        assert handled is None, handled
    for node in await scene.store.list(Node):
        assert node.status.condition(guard.HANDLED) is None
    return scene


def rated(event: UsageEvent, prices: list[Price]) -> None:
    """Prices at their most for every meter, on the event as the ledger gets it."""
    again = UsageEvent.from_dict(json.loads(json.dumps(event.to_dict())))
    assert again == event
    for line in rate(again, [book_of(price) for price in prices]):
        assert 0 <= line.microcredits < 2**63


def served(endpoint: Endpoint, model: Model) -> Endpoint:
    """The endpoint with an engine that is ready on a device with the longest name."""
    endpoint.metadata.uid = UID
    workload = engine_workload(endpoint, model, 1023, Settings().engine)
    replica = replica_of(workload)
    endpoint.status.replicas = [
        Replica.model_validate(
            replica.to_dict() | {"ready": True, "url": "http://127.0.0.1:1", "deviceClass": DEVICE_CLASS}
        )
    ]
    endpoint.status.model_project = PROJECT
    return endpoint


def inference_event(route: Route, key: str) -> UsageEvent:
    """As the gateway makes it at the end of a request."""
    replica = route.replicas[0]
    return UsageEvent(
        id="use-" + "0" * 26,
        kind="inference",
        tenant=TENANT,
        project=PROJECT,
        key=key,
        model=route.model,
        base_model=route.base_model,
        model_identity=replica.model_identity,
        model_shared=replica.model_shared,
        device_class=replica.device_class,
        resource=replica.id,
        outcome="gateway_lost",
        started_ms=10**14 - 1,
        ended_ms=10**14,
        quantities={"prompt_tokens": 10**12, "cached_tokens": 10**12, "completion_tokens": 10**12},
        labels={"task": "completions", "request_id": "r" * 128},
    )


async def routed(*resources: Resource) -> RoutingTable:
    store = MemoryStore(VirtualClock())
    await store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant=TENANT)))
    for resource in resources:
        await store.apply(resource)
    table = await build_routing_table(store)
    read = RoutingTable.model_validate_json(table.model_dump_json())
    assert read == table
    RouteIndex(read)
    return read


def through_the_journal(event: UsageEvent, folder: Path) -> None:
    """What a killed gateway leaves is billed by the next."""
    journal = Journal(folder / "journal")
    journal.open(event).note(TokenCounts(5, 2, 3), 10**14)
    [left] = read_journal(folder / "journal").events
    assert (left.model, left.key, left.tenant) == (event.model, event.key, event.tenant)
    journal.close()
