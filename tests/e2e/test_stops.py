"""What stops work that runs, on real processes: a spent budget, and a pause of a key or a project."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI, PermissionDeniedError

from common.resources.meta import API_VERSION
from control.demo import story
from tests.fixtures.platform import Running
from tests.fixtures.probe import Probe, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PAUSES_REACH_GATEWAYS_SECONDS = 10
"""A pause is in force within a second; a busy machine may take longer, but not as long as a poll."""
EPOCHS = 50
"""Longer than it takes to pause it."""
WAITS = ["sh", "-c", "test -e begun && exit 0; touch begun; echo begun; exec sleep 600"]
"""The first start goes on until it is stopped, the next one finds its folder and ends well."""


@pytest.fixture(scope="module")
def probe(running_platform: Running) -> Iterator[Probe]:
    made = Probe(running_platform)
    yield made
    made.close()


def applied(probe: Probe, kind: str, name: str, spec: dict[str, Any], **metadata: str) -> None:
    named = {"name": name, **metadata}
    probe.admin.apply({"apiVersion": API_VERSION, "kind": kind, "metadata": named, "spec": spec})


def state(probe: Probe, job: str) -> str:
    """Its phase and why, in one line."""
    status = probe.admin.get("jobs", job, probe.project)["status"]
    return f"{status['phase']}: {status.get('message', '')}"


def test_a_spent_budget_stops_a_job_and_more_of_it_lets_the_job_go_on(probe: Probe) -> None:
    tenant = probe.admin.get("projects", probe.project)["spec"]["tenant"]
    spec: dict[str, Any] = {
        "scope": {"tenant": tenant, "project": probe.project},
        "period": "total",
        "limit": {"microcredits": 1},
    }
    job = {"command": WAITS, "devices": {"count": 1, "shareMillis": 250}, "retries": 0}
    applied(probe, "Job", "spends", job, project=probe.project)
    try:
        eventually(lambda: state(probe, "spends").startswith("Running"), 60, "the job")
        ranks = probe.rank_processes("spends")
        applied(probe, "Budget", "little", spec)
        eventually(
            lambda: "the budget little is spent: 1 micro-credits" in state(probe, "spends"), 60, "the stop"
        )
        assert not [one for one in ranks if one.is_running()]
        before = probe.billed()["device_seconds"]
        assert state(probe, "spends").startswith("Pending")
        assert before > 0
        applied(probe, "Budget", "little", spec | {"limit": {"microcredits": 10**12}})
        eventually(lambda: state(probe, "spends").startswith("Succeeded"), 60, "its second start")
    finally:
        probe.admin.delete("budgets", "little")


def test_a_paused_key_is_refused_at_once_and_its_stream_ends_billed(probe: Probe) -> None:
    client = probe.member("stopped")
    with client.chat.completions.create(
        model=probe.model,
        messages=[{"role": "user", "content": "Count"}],
        max_tokens=400,
        extra_body={"min_tokens": 400},
        stream=True,
    ) as stream:
        next(iter(stream))
        assert probe.cli("pause", "key", "stopped", "--reason", "it loops").returncode == 0
        with pytest.raises(PermissionDeniedError, match="it loops") as refused:
            ask_until(client, time.monotonic() + PAUSES_REACH_GATEWAYS_SECONDS)
        assert refused.value.code == "paused"
    assert probe.cli("resume", "key", "stopped").returncode == 0
    probe.wait_posted()
    assert 0 < probe.billed("stopped")["completion_tokens"] <= 400


def ask_until(client: OpenAI, deadline: float) -> None:
    while time.monotonic() < deadline:
        client.models.list()


def test_a_fine_tune_of_a_paused_project_goes_on_from_its_checkpoint_and_is_billed_once(probe: Probe) -> None:
    client = probe.member("tunes")
    with story.DATASET.open("rb") as data:
        file = client.files.create(file=data, purpose="fine-tune")
    hyperparameters: Any = {"n_epochs": EPOCHS, "batch_size": 4}
    job = client.fine_tuning.jobs.create(
        model=probe.model,
        training_file=file.id,
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    )

    def now() -> dict[str, Any]:
        status: dict[str, Any] = probe.admin.get("finetunes", job.id, probe.project)["status"]
        return status

    eventually(lambda: now().get("step", 0) > 0, 240, "its first step")
    assert probe.cli("pause", "project", probe.project, "--reason", "enough").returncode == 0
    try:
        eventually(lambda: "is paused: enough" in str(now()), 60, "the stop")
        eventually(lambda: now()["state"] == "queued", 60, "the end of its process")
        stopped_at = now()["step"]
    finally:
        assert probe.cli("resume", "project", probe.project).returncode == 0
    assert 0 < stopped_at < now()["totalSteps"]
    eventually(lambda: now()["state"] in ("succeeded", "failed"), 400, "its end")
    assert now()["state"] == "succeeded"
    assert probe.billed("tunes")["trained_tokens"] == now()["trainedTokens"]
    told = [one.message for one in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert sum(message.startswith("Step 1/") for message in told) == 1
