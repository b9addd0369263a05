"""No pass of a loop ends the loop, and no document that cannot be read holds up the others."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import Forbidden, Unavailable
from common.settings import Settings
from operators.control.link import ControlLink
from operators.control.view import ControlView
from operators.core.pools import Shape
from operators.events import Events
from operators.guard import TROUBLES, guarded
from operators.kube.client import Kube
from operators.kube.cluster import Cluster
from operators.parts import Parts
from operators.pools.follow import Pools
from operators.pools.nodes import POOL
from operators.pools.sets import LEAST, MOST, SHAPE, NodeSet


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Unavailable("away"), "unavailable"), (KeyError("x"), "bug"), (RecursionError(), "bug")],
)
def test_what_is_raised_is_counted_and_ends_there(error: Exception, outcome: str) -> None:
    counter = TROUBLES.labels("test", outcome)
    before = counter._value.get()

    def fail() -> None:
        raise error

    with guarded("test"):
        fail()
    assert counter._value.get() == before + 1


def parts_of(kube: Any, link: Any) -> Parts:
    view = ControlView(cast(ControlLink, link), ["Node", "Workload"])
    return Parts(Cluster("c"), cast(Kube, kube), cast(ControlLink, link), view, VirtualClock())


async def test_an_event_that_cannot_be_told_holds_up_no_other() -> None:
    said: list[dict[str, Any]] = [{"id": "1"}, {"id": "2", "timeMs": "late"}, {"id": "3", "timeMs": 1}]

    class Link:
        async def events(self, after: str | None, limit: int) -> list[dict[str, Any]]:
            return [one for one in said if after is None or one["id"] > after]

        async def own_key(self) -> str:
            return "operator"

    events = Events(parts_of(None, Link()), 120)
    assert await events._look(2) is False
    assert events._after == "3"


async def test_a_pool_that_fails_holds_up_no_other() -> None:
    scaled = []

    def stateful_set(name: str, **spec: Any) -> dict[str, Any]:
        metadata = {"name": name, "labels": {POOL: name}, "annotations": {LEAST: "3", MOST: "5"}}
        return {"metadata": metadata, "spec": spec}

    class Server:
        async def each(self, path: str, **query: str) -> Any:
            yield stateful_set("a", replicas=1)
            yield stateful_set("b", replicas="none")
            yield stateful_set("c", replicas=1)

        async def merge(self, path: str, patch: dict[str, Any]) -> None:
            if path.endswith("/a/scale"):
                raise Forbidden("Kubernetes: no")
            scaled.append(path.rpartition("statefulsets/")[2])

    wanted = SimpleNamespace(
        pools_namespace="ns", pools_kind="StatefulSet", pools_look_seconds=1.0, pools_cool_seconds=60.0
    )
    parts = parts_of(Server(), None)
    parts.view.learn({"kind": "Workload", "metadata": {"name": "w"}, "status": {"pending": [{}]}})
    parts.view.learn({"kind": "Node", "metadata": {"name": "n"}})
    await Pools(parts, cast(Settings, SimpleNamespace(operator=wanted)))._look()
    assert scaled == ["c/scale"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["vendor", "model", "devices", "memoryBytes", "cpuMillis", "labels"])


@given(anything | st.dictionaries(fields, anything))
def test_whatever_a_shape_says_it_is_a_shape(told: Any) -> None:
    found = {
        "metadata": {"name": "set", "labels": {POOL: "p"}, "annotations": {SHAPE: json.dumps(told)}},
        "spec": {"replicas": 1},
    }
    assert isinstance(NodeSet("/set", found).pool({}, {}).shape, Shape)


def test_a_shape_of_any_depth_is_a_shape() -> None:
    notes = {SHAPE: "[" * 100_000}
    found = {"metadata": {"name": "set", "labels": {POOL: "p"}, "annotations": notes}, "spec": {}}
    assert NodeSet("/set", found).pool({}, {}).shape == Shape("")
