"""Nothing that passes the gate raises in a pass of the scheduler, in metering or in rating."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import METERS, UsageEvent
from common.resources import Node, Price, Queue, parse_resource
from scheduler.catalogue import load_catalogue
from scheduler.translate.views import node_view, queue_view
from tests.fixtures.extremes import PROJECT, documents
from tests.unit.gate.driving import EXTREME, accepted, rated, scheduled


def test_every_workload_is_scheduled_metered_and_rated(runner: asyncio.Runner) -> None:
    billed: list[UsageEvent] = []

    @EXTREME
    @given(documents("Workload"))
    def check(document: dict[str, Any]) -> None:
        document["spec"]["queue"] = "default"
        workload = accepted(document)
        if workload is not None:
            scene = runner.run(scheduled(workload))
            billed.extend(scene.usage.events.values())
            for event in scene.usage.events.values():
                rated(event, [])

    check()
    assert billed, "no workload ever ran"


def test_every_queue_is_taken_into_account(runner: asyncio.Runner) -> None:
    role = {"name": "main", "command": ["sleep", "600"], "devices": {"vendors": ["nvidia"]}}

    @EXTREME
    @given(documents("Queue"))
    def check(document: dict[str, Any]) -> None:
        queue = accepted(document)
        if queue is None:
            return
        assert isinstance(queue, Queue)
        queue_view(queue, {}, 1)
        workload = parse_resource(
            {
                "apiVersion": queue.api_version,
                "kind": "Workload",
                "metadata": {"name": "w", "project": PROJECT},
                "spec": {"queue": queue.name, "roles": [role]},
            }
        )
        runner.run(scheduled(queue, workload))

    check()


@EXTREME
@given(documents("Node"))
def test_every_node_is_seen(document: dict[str, Any]) -> None:
    node = accepted(document)
    if node is not None:
        assert isinstance(node, Node)
        node_view(node, load_catalogue())


@EXTREME
@given(documents("Price"), st.sampled_from(METERS))
def test_every_price_rates_every_event(document: dict[str, Any], meter: str) -> None:
    price = accepted(document)
    if price is None:
        return
    assert isinstance(price, Price)
    ended_ms = 10**14
    quantities = {meter: 10**12} | ({"prompt_tokens": 10**12} if meter == "cached_tokens" else {})
    for model in {item.model for item in price.spec.items}:
        event = UsageEvent(
            "u", "inference", price.spec.tenant or "t", "p", 0, ended_ms, quantities, model=model
        )
        rated(event, [price])
