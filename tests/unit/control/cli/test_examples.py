"""The example resources are right, and the small model can be replaced."""

from pathlib import Path

from common.resources import Endpoint, Model, Price
from control.demo import steps, story


def test_the_examples_parse_and_name_each_other() -> None:
    resources = {r.kind: r for r in (m.parse() for m in story.example_manifests())}
    assert list(resources) == ["Tenant", "Project", "Queue", "Model", "Price", "Endpoint"]
    endpoint, project = resources["Endpoint"], resources["Project"]
    assert isinstance(endpoint, Endpoint)
    assert endpoint.spec.model == resources["Model"].name
    assert endpoint.spec.queue == resources["Queue"].name
    assert endpoint.project == project.name == resources["Model"].project
    assert project.spec.tenant == resources["Tenant"].name


def test_every_meter_that_is_metered_has_a_price() -> None:
    price = next(m.parse() for m in story.example_manifests() if m.content["kind"] == "Price")
    assert isinstance(price, Price)
    meters = {item.meter for item in price.spec.items if item.model == item.device_class == "*"}
    assert meters == {
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "trained_tokens",
        "device_seconds",
    }


def test_another_model_takes_the_place_of_the_small_one(tmp_path: Path) -> None:
    def source(model: str) -> str:
        manifest = next(m for m in story.example_manifests(model) if m.content["kind"] == "Model")
        parsed = manifest.parse()
        assert isinstance(parsed, Model)
        return parsed.spec.source

    assert story.needs_tiny_model(story.example_manifests())
    assert not story.needs_tiny_model(story.example_manifests("org/other"))
    assert source("org/other") == "org/other"
    assert source(str(tmp_path)) == str(tmp_path)


def test_the_data_set_begins_with_what_the_demo_asks() -> None:
    question, answer = steps.trained_answer()
    assert question.endswith("?")
    assert answer
