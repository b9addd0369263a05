"""Checkpoints that a job lists can be served: each becomes an Adapter of the name that the list tells."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from common.resources import Adapter, Endpoint, FineTune, Project
from common.resources.people import ProjectLimits
from common.resources.tuning import Checkpoint
from finetune.jobs.job_folder import JobFolder
from tests.integration.finetune.conftest import Service
from tests.integration.finetune.test_api_jobs import _upload

pytestmark = pytest.mark.integration
STEPS = (5, 10)


@pytest.fixture
async def job(client: AsyncOpenAI, service: Service) -> FineTune:
    """A job that runs, with two checkpoints on disk."""
    made = await client.fine_tuning.jobs.create(
        model="small", training_file=await _upload(client), suffix="zoo"
    )
    job = await service.store.get(FineTune, made.id, "lab")
    folder, lines = folder_of(service, job), []
    for step in STEPS:
        where = folder.checkpoint(step)
        where.mkdir(parents=True)
        (where / "adapter_config.json").write_text("{}")
        (where / "adapter_model.safetensors").write_bytes(weights(step))
        digest = hashlib.sha256(weights(step)).hexdigest()
        data = {"step": step, "trained_tokens": 100 * step, "adapter_sha256": digest, "path": "/elsewhere"}
        lines.append(json.dumps({"type": "checkpoint", "message": "m", "created_at": step, "data": data}))
    (folder.path / "events.jsonl").write_text("\n".join(lines) + "\n")
    job.status.state = "running"
    job.status.checkpoints = [
        Checkpoint(
            id=f"ftckpt-{step}", step=step, path="/elsewhere", created_ms=1, metrics={"train_loss": 0.5}
        )
        for step in STEPS
    ]
    return await service.store.set_status(job)


def weights(step: int) -> bytes:
    return f"weights of step {step}".encode()


def folder_of(service: Service, job: FineTune) -> JobFolder:
    return JobFolder(service.home / "jobs", job)


async def serve(client: AsyncOpenAI, job: FineTune, checkpoint: str) -> dict[str, Any]:
    """As the official client asks for a route that it does not know."""
    path = f"/fine_tuning/jobs/{job.name}/checkpoints/{checkpoint}/serve"
    answer: dict[str, Any] = await client.post(path, cast_to=dict[str, Any])
    return answer


async def test_a_checkpoint_is_served_under_the_name_that_the_list_tells(
    client: AsyncOpenAI, service: Service, job: FineTune
) -> None:
    listed = (await client.fine_tuning.jobs.checkpoints.list(job.name)).data
    names = {one.step_number: one.fine_tuned_model_checkpoint for one in listed}
    served = await serve(client, job, "5")
    assert served["fine_tuned_model_checkpoint"] == names[5]
    again = await serve(client, job, "ftckpt-5")
    assert again == served
    [adapter] = await service.store.list(Adapter)
    assert (adapter.name, adapter.spec.served_name) == (served["adapter"], names[5])
    assert names[5].startswith("ft:small:acme:zoo:")
    assert names[5].endswith(":ckpt-step-5")
    assert (Path(adapter.spec.path) / "adapter_model.safetensors").read_bytes() == weights(5)
    assert (adapter.spec.lineage.trained_tokens, adapter.spec.lineage.job) == (500, job.name)
    assert adapter.may_be_on(await service.store.get(Endpoint, "chat", "lab"))


@pytest.mark.parametrize("named", ["7", "ftckpt-7", "..%2F..", "x" * 500])
async def test_what_is_no_checkpoint_of_the_job_is_not_found(
    named: str, client: AsyncOpenAI, job: FineTune
) -> None:
    with pytest.raises(openai.NotFoundError):
        await serve(client, job, named)


@pytest.mark.parametrize("left", ["nothing", "other weights", "a link to another's", "no word of it"])
async def test_what_the_worker_leaves_instead_is_served_to_nobody(
    left: str, client: AsyncOpenAI, service: Service, job: FineTune
) -> None:
    folder = folder_of(service, job)
    if left == "other weights":
        (folder.checkpoint(5) / "adapter_model.safetensors").write_bytes(b"of somebody else")
    elif left == "no word of it":
        (folder.path / "events.jsonl").write_text("")
    else:
        checkpoints = folder.checkpoint(5).parent
        moved = service.home / "of-another"
        shutil.move(checkpoints, moved)
        if left == "a link to another's":
            checkpoints.symlink_to(moved)
    with pytest.raises((openai.NotFoundError, openai.InternalServerError)):
        await serve(client, job, "5")
    assert await service.store.list(Adapter) == []


async def test_strangers_agents_and_narrow_keys_serve_none(service: Service, job: FineTune) -> None:
    for name, refused in (
        ("bob", openai.NotFoundError),
        ("bot", openai.PermissionDeniedError),
        ("narrow", openai.NotFoundError),
    ):
        async with service.client(name) as stranger:
            with pytest.raises(refused):
                await serve(stranger, job, "5")
    assert await service.store.list(Adapter) == []


async def test_it_counts_as_an_adapter_of_the_project(
    client: AsyncOpenAI, service: Service, job: FineTune
) -> None:
    project = await service.store.get(Project, "lab")
    project.spec.limits = ProjectLimits(max_adapters=2)
    await service.store.apply(project)
    await serve(client, job, "5")
    with pytest.raises(openai.PermissionDeniedError, match="maxAdapters"):
        await serve(client, job, "10")
    await serve(client, job, "5")
