"""What gateways are told of Routes and of models that others serve."""

from typing import Any

import pytest
from pydantic import ValidationError

from common.resources import ExternalModel, Metadata, Route
from common.resources.people import DataGuard
from common.wire import Route as Told
from common.wire import RouteData
from inference.doors import by_name, data_of, door_route, external_route

TENANTS = {"lab": "acme", "hub": "platform", "den": "rival"}
OUTSIDE = {"url": "https://api.example.com/v1/", "model": "big-1", "region": "eu", "dataClass": "internal"}


def external(**spec: Any) -> ExternalModel:
    return ExternalModel.model_validate(
        {"metadata": Metadata(name="big", project="hub"), "spec": {**OUTSIDE, **spec}}
    )


def route(candidates: list[dict[str, Any]], **spec: Any) -> Route:
    return Route.model_validate(
        {"metadata": Metadata(name="smart", project="lab"), "spec": {"candidates": candidates, **spec}}
    )


def model(name: str, project: str, shared: bool = False) -> Told:
    tenant = TENANTS[project]
    return Told(
        model=name, backend_model=name, base_model=name, project=project, tenant=tenant, shared=shared
    )


def test_a_model_of_others_is_billed_by_its_own_name_and_has_no_engine() -> None:
    told = external_route(external(servedName="gpt", secret="key-1"), TENANTS, None)
    assert (told.model, told.backend_model, told.model_identity) == ("gpt", "big-1", "hub/big")
    assert told.external is not None
    assert (told.external.url, told.external.secret) == ("https://api.example.com/v1", "key-1")
    assert not told.replicas
    assert not told.elastic


@pytest.mark.parametrize(
    "spec",
    [
        {"url": "ftp://x"},
        {"url": "https://user:word@x/v1"},
        {"url": "https://x/v1?key=1"},
        {"url": "https://x:99999/v1"},
        {"url": "file:///etc/passwd"},
        {"protocol": "anthropic", "tasks": ["embeddings"]},
        {"dataClass": None},
        {"model": "two words"},
    ],
)
def test_what_no_external_model_is(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        external(**spec)


def test_a_candidate_means_what_the_project_of_the_route_sees() -> None:
    seen = by_name(
        [model("a", "lab"), model("a", "hub", shared=True), model("b", "hub", shared=True), model("c", "den")]
    )
    told = door_route(route([{"model": name} for name in ("a", "b", "c", "d")]), TENANTS, seen).door
    assert told is not None
    assert [one.project for one in told.candidates] == ["lab", "hub", "", ""]
    assert told.name == "lab/smart"


def test_a_candidate_without_an_order_follows_the_one_before() -> None:
    listed: list[dict[str, Any]] = [
        {"model": "a"},
        {"model": "b", "order": 5},
        {"model": "c"},
        {"model": "d", "order": 5},
    ]
    assert route(listed).spec.orders == [0, 5, 6, 5]


def test_a_candidate_stands_in_a_route_once() -> None:
    with pytest.raises(ValidationError, match="more than once"):
        route([{"model": "a"}, {"model": "a"}])


def test_what_binds_data_is_told_where_something_does() -> None:
    assert data_of(DataGuard()) is None
    assert data_of(DataGuard(data_class="regulated")) == RouteData(data_class="regulated")
    assert data_of(DataGuard(regions=["us", "eu", "us"])) == RouteData(regions=("eu", "us"))
    assert data_of(DataGuard(regions=[])) == RouteData(regions=())
