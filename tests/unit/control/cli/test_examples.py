"""The example resources are right, and the small model can be replaced."""

import io
import subprocess
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from common.errors import InvalidInput
from common.resources import Endpoint, Job, Model, Price
from common.settings import Settings
from control.console.display import Stage
from control.console.documents.manifests import read_manifests
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


def test_the_example_of_a_job_is_in_their_project_and_not_among_them() -> None:
    """``up`` applies the others, also where no job may run."""
    [manifest] = read_manifests([str(story.EXAMPLES / "jobs")])
    job = manifest.parse()
    assert isinstance(job, Job)
    resources = {r.kind: r for r in (m.parse() for m in story.example_manifests())}
    assert (job.project, job.spec.queue) == (resources["Project"].name, resources["Queue"].name)


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
    with pytest.raises(InvalidInput, match=r"--model: .* holds no config.json"):
        source(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert source(str(tmp_path)) == str(tmp_path)
    with pytest.raises(InvalidInput, match=r"--model: there is no folder /no/such/folder"):
        source("/no/such/folder")


def test_the_data_set_begins_with_what_the_demo_asks() -> None:
    question, answer = steps.trained_answer()
    assert question.endswith("?")
    assert answer


def test_a_base_model_that_was_cut_short_is_told_to_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder's warning reaches the terminal; what its libraries say does not."""
    warning = "warning: the machine was too slow or busy: delete it to build it again"

    def build(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        out = Path(command[-1])
        out.mkdir()
        (out / "model.safetensors").write_bytes(b"weights")
        return subprocess.CompletedProcess(command, 0, "made", f"library: noise\n{warning}\n")

    monkeypatch.setattr(subprocess, "run", build)
    text = io.StringIO()
    out = Console(file=text, width=200)
    scene = steps.Scene(out, Settings(home=tmp_path), cast(Any, None), "", threading.Event())
    with Stage(out, "base model") as stage:
        steps.build_model(scene, stage)
    assert warning in text.getvalue()
    assert "noise" not in text.getvalue()


@pytest.mark.parametrize("word", ["project", "namespace"])
def test_the_endpoint_of_the_examples_is_found_in_either_word_for_its_project(
    word: str, tmp_path: Path
) -> None:
    file = tmp_path / "endpoint.yaml"
    file.write_text(
        f"apiVersion: computility.io/v1alpha1\nkind: Endpoint\nmetadata: {{name: tiny, {word}: lab}}\n"
        "spec: {model: tiny}\n"
    )
    assert story.the_endpoint(read_manifests([str(file)])) == ("lab", "tiny")
