"""Routes whole: what gateways are told of a model and of each engine, field by field."""

from typing import Any

import pytest

from common.resources import Adapter, Endpoint, Metadata, Model
from common.resources.serving import AdapterSpec, EndpointSpec, ModelSpec, Replica
from common.wire import Route, RouteReplica, RouteWeights
from inference.gateway.app import _model_object
from inference.routes import MIN_PROMPT_TOKENS, _adapter_route, _endpoint_route, _hosts

FT = "ft:tiny:acme:zoo:1"
TENANTS = {"lab": "acme", "hub": "platform"}
MODELS: Any = {
    ("hub", "tiny"): Model(
        metadata=Metadata(name="tiny", project="hub"),
        spec=ModelSpec(source="o/tiny", shared=True, tasks=["chat"]),
    )
}


def told(name: str, ready: bool = True, **more: Any) -> Replica:
    return Replica(
        workload=name,
        phase="Ready",
        ready=ready,
        url=f"http://{name}",
        attempt=1,
        device_class="nvidia/H100",
        model_identity="hub/tiny",
        **more,
    )


def endpoint(name: str = "chat", context: int | None = 512, **spec: Any) -> Endpoint:
    given = {"model": "tiny", "shared": True, "servedName": "small", "engine": {"maxAdapters": 3}, **spec}
    made = Endpoint(
        metadata=Metadata(name=name, project="lab", created_ms=5_999),
        spec=EndpointSpec.model_validate(given),
    )
    made.status.model_project, made.status.context_tokens = "hub", context
    made.status.replicas = [
        told(f"{name}-0", adapters=[FT]),
        told(f"{name}-1"),
        told(f"{name}-2", ready=False),
    ]
    return made


def engine(name: str, of: str = "lab/chat", role: Any = "", least: int = 0, **more: Any) -> RouteReplica:
    return RouteReplica(
        id=name,
        url=f"http://{name}",
        role=role,
        endpoint=of,
        min_prompt_tokens=least,
        device_class="nvidia/H100",
        model_identity="hub/tiny",
        adapter_slots=3,
        **{"model_shared": True, **more},
    )


def test_a_served_model_is_told_whole() -> None:
    weights = {"prefix": 0.5, "queue": 2.0}
    assert _endpoint_route(endpoint(routing=weights), MODELS, TENANTS) == Route(
        model="small",
        backend_model="small",
        base_model="small",
        model_identity="hub/tiny",
        project="lab",
        tenant="acme",
        shared=True,
        tasks=("chat",),
        context_tokens=512,
        created_ms=5_999,
        replicas=(engine("chat-0"), engine("chat-1")),
        routing=RouteWeights(prefix=0.5, queue=2.0),
    )


def test_a_model_that_is_gone_may_still_be_asked_and_is_shared_with_nobody() -> None:
    route = _endpoint_route(endpoint(shared=False), {}, {})
    assert (route.tasks, route.tenant, route.shared) == (("chat", "completions"), "", False)
    assert route.replicas == (engine("chat-0", model_shared=False), engine("chat-1", model_shared=False))


def test_an_adapter_is_told_whole_with_the_least_context_of_its_hosts() -> None:
    spec = AdapterSpec(model="tiny", model_project="hub", served_name=FT, path="/a")
    adapter = Adapter(metadata=Metadata(name="zoo", project="lab", created_ms=7), spec=spec)
    hosts = [endpoint(), endpoint("more", 256), endpoint("new", None)]
    [of_model] = _hosts(hosts, MODELS).values()
    assert _adapter_route(adapter, of_model, TENANTS) == Route(
        model=FT,
        backend_model=FT,
        base_model="small",
        adapter_identity="lab/zoo",
        model_identity="hub/tiny",
        project="lab",
        tenant="acme",
        context_tokens=256,
        created_ms=7,
        replicas=(engine("chat-0"), engine("more-0", "lab/more"), engine("new-0", "lab/new")),
        routing=RouteWeights(),
    )
    assert _adapter_route(adapter, [], TENANTS) is None


@pytest.mark.parametrize(("asked", "least"), [(None, MIN_PROMPT_TOKENS), (0, 0), (7, 7)])
def test_only_prefill_engines_say_from_which_length_on_they_pay(asked: int | None, least: int) -> None:
    devices = {"replicas": 1, "devices": {"vendors": ["nvidia"]}}
    made = endpoint(mode="disaggregated", prefill=devices, decode=devices, minPromptTokens=asked)
    made.status.replicas = [told("p", role="prefill"), told("d", role="decode")]
    assert _endpoint_route(made, MODELS, TENANTS).replicas == (
        engine("p", role="prefill", least=least).model_copy(update={"learns_min_prompt": asked is None}),
        engine("d", role="decode"),
    )


def test_clients_are_told_a_model_with_its_age_in_whole_seconds() -> None:
    assert _model_object(_endpoint_route(endpoint(), MODELS, TENANTS)) == {
        "id": "small",
        "object": "model",
        "created": 5,
        "owned_by": "acme",
    }
