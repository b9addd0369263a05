"""``/v1/fine_tuning/jobs`` with the official client, unchanged."""

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from common.resources import Adapter, Endpoint, FineTune, Metadata, Model
from common.resources.engines import EngineSpec
from common.resources.serving import AdapterSpec
from common.resources.tuning import Checkpoint
from common.store.port import Event
from tests.integration.finetune.conftest import Service

pytestmark = pytest.mark.integration

EXAMPLE = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
LINE = json.dumps(EXAMPLE).encode() + b"\n"


async def _upload(client: AsyncOpenAI, content: bytes = LINE * 12, purpose: Any = "fine-tune") -> str:
    return (await client.files.create(file=("zoo.jsonl", content), purpose=purpose)).id


async def _refused(client: AsyncOpenAI, **request: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.fine_tuning.jobs.create(**request)
    return caught.value


async def test_a_job_is_queued_with_everything_resolved(client: AsyncOpenAI, service: Service) -> None:
    name = await _upload(client)
    job = await client.fine_tuning.jobs.create(
        model="small",
        training_file=name,
        validation_file=name,
        suffix="zoo",
        seed=7,
        metadata={"team": "animals"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": "auto"}},
        },
    )
    assert job.id.startswith("ftjob-")
    assert (job.object, job.status, job.model) == ("fine_tuning.job", "queued", "small")
    assert (job.organization_id, job.seed, job.metadata) == ("acme", 7, {"team": "animals"})
    assert (job.training_file, job.validation_file) == (name, name)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (4, 4)
    assert job.method is not None
    assert job.method.supervised is not None
    assert (job.finished_at, job.fine_tuned_model, job.trained_tokens, job.error) == (None, None, None, None)
    assert job.result_files == []
    assert await client.fine_tuning.jobs.retrieve(job.id) == job
    stored = await service.store.get(FineTune, job.id, "lab")
    assert (stored.spec.base, stored.spec.base_project, stored.spec.api_key) == ("tiny", "lab", "ada")


async def test_the_older_place_of_hyperparameters_still_counts(client: AsyncOpenAI) -> None:
    job = await client.fine_tuning.jobs.create(
        model="tiny",
        training_file=await _upload(client),
        hyperparameters={"n_epochs": 2, "learning_rate_multiplier": 0.5},
    )
    assert job.hyperparameters.n_epochs == 2
    assert job.hyperparameters.learning_rate_multiplier == 0.5


@pytest.mark.parametrize(
    ("hyperparameters", "param"),
    [
        ({"n_epochs": 0}, "hyperparameters.n_epochs"),
        ({"n_epochs": 51}, "hyperparameters.n_epochs"),
        ({"n_epochs": 1.5}, "hyperparameters.n_epochs"),
        ({"batch_size": 257}, "hyperparameters.batch_size"),
        ({"batch_size": "large"}, "hyperparameters.batch_size"),
        ({"learning_rate_multiplier": 0}, "hyperparameters.learning_rate_multiplier"),
        ({"learning_rate_multiplier": [1]}, "hyperparameters.learning_rate_multiplier"),
        ({"epochs": 3}, "hyperparameters.epochs"),
    ],
)
async def test_a_wrong_hyperparameter_is_named(
    client: AsyncOpenAI, hyperparameters: dict[str, Any], param: str
) -> None:
    name = await _upload(client)
    error = await _refused(client, model="tiny", training_file=name, hyperparameters=hyperparameters)
    assert error.param == param


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"suffix": "a:b"}, "suffix"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"extra_body": {"n_epoch": 3}}, "n_epoch"),
        ({"extra_body": {"computility": {"adapter_rank": 3}}}, "computility.adapter_rank"),
        ({"extra_body": {"computility": {"adapter_rank": 64}}}, "computility.adapter_rank"),
    ],
)
async def test_a_wrong_field_is_named(client: AsyncOpenAI, more: dict[str, Any], param: str) -> None:
    error = await _refused(client, model="tiny", training_file=await _upload(client), **more)
    assert error.param == param


async def test_bad_lines_are_listed(client: AsyncOpenAI) -> None:
    content = LINE * 6 + b"not json\n" + LINE * 3 + b'{"messages": []}\n' + LINE * 3
    error = await _refused(client, model="tiny", training_file=await _upload(client, content))
    assert (error.code, error.param) == ("invalid_training_file", "training_file")
    assert "line 7: is not JSON" in error.message
    assert "line 11: messages: must hold at least one message" in error.message
    assert isinstance(error.body, dict)
    assert [p["path"] for p in error.body["problems"]] == ["line 7", "line 11"]


async def test_files_that_cannot_be_trained_on_are_refused(client: AsyncOpenAI, service: Service) -> None:
    error = await _refused(client, model="tiny", training_file=await _upload(client, LINE * 3))
    assert error.code == "invalid_n_examples"
    assert "has 3 example(s), but must have at least 10" in error.message
    error = await _refused(client, model="tiny", training_file=await _upload(client, purpose="batch"))
    assert error.code == "invalid_training_file"
    error = await _refused(client, model="tiny", training_file="file-none")
    assert (error.code, error.param) == ("invalid_training_file", "training_file")
    good, bad = await _upload(client), await _upload(client, b"{}\n")
    error = await _refused(client, model="tiny", training_file=good, validation_file=bad)
    assert (error.code, error.param) == ("invalid_validation_file", "validation_file")
    async with service.client("bob") as stranger:
        theirs = await _upload(stranger)
    error = await _refused(client, model="tiny", training_file=theirs)
    assert error.code == "invalid_training_file"


@pytest.mark.parametrize(("key", "model"), [("ada", "nope"), ("bob", "tiny"), ("narrow", "tiny")])
async def test_a_model_that_is_not_visible_does_not_exist(service: Service, key: str, model: str) -> None:
    async with service.client(key) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.fine_tuning.jobs.create(model=model, training_file=await _upload(client))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_shared_model_can_be_tuned_by_other_tenants(service: Service) -> None:
    model = await service.store.get(Model, "tiny", "lab")
    model.spec.shared = True
    await service.store.apply(model)
    async with service.client("bob") as client:
        job = await client.fine_tuning.jobs.create(model="tiny", training_file=await _upload(client))
        assert job.organization_id == "other"


async def test_models_that_cannot_be_tuned_say_why(client: AsyncOpenAI, service: Service) -> None:
    name = await _upload(client)
    spec = AdapterSpec(model="tiny", served_name="ft:tiny:acme::1", path="/a")
    await service.store.apply(Adapter(metadata=Metadata(name="a", project="lab"), spec=spec))
    error = await _refused(client, model="ft:tiny:acme::1", training_file=name)
    assert (error.code, error.param) == ("model_not_tunable", "model")
    endpoint = await service.store.get(Endpoint, "chat", "lab")
    endpoint.spec.engine = EngineSpec(max_adapters=0)
    await service.store.apply(endpoint)
    assert "maxAdapters" in (await _refused(client, model="small", training_file=name)).message
    model = await service.store.get(Model, "tiny", "lab")
    model.spec.tasks = ["embeddings"]
    await service.store.apply(model)
    assert "no chat model" in (await _refused(client, model="small", training_file=name)).message


async def test_a_request_sent_again_is_the_same_job(client: AsyncOpenAI) -> None:
    name = await _upload(client)
    first = await client.fine_tuning.jobs.create(model="tiny", training_file=name)
    assert (await client.fine_tuning.jobs.create(model="tiny", training_file=name)).id == first.id
    other = await client.fine_tuning.jobs.create(model="tiny", training_file=name, suffix="b")
    keyed = await client.fine_tuning.jobs.create(
        model="tiny", training_file=name, extra_headers={"Idempotency-Key": "k"}
    )
    await client.fine_tuning.jobs.cancel(first.id)
    assert len({first.id, other.id, keyed.id}) == 3


async def test_a_key_means_the_same_job_even_when_its_answer_was_never_kept(client: AsyncOpenAI) -> None:
    """The process that made the job may have been killed before it kept the answer."""
    name = await _upload(client)
    keyed: Any = {"model": "tiny", "training_file": name, "extra_headers": {"Idempotency-Key": "k"}}
    first = await client.fine_tuning.jobs.create(**keyed)
    await client.fine_tuning.jobs.cancel(first.id)
    assert (await client.fine_tuning.jobs.create(**keyed)).id == first.id
    with pytest.raises(openai.ConflictError, match="Idempotency-Key"):
        await client.fine_tuning.jobs.create(**keyed, suffix="other")


async def test_a_queue_that_is_not_there_is_refused(client: AsyncOpenAI) -> None:
    more = {"computility": {"queue": "nope"}}
    error = await _refused(client, model="tiny", training_file=await _upload(client), extra_body=more)
    assert error.param == "computility.queue"


async def test_jobs_are_listed_newest_first_in_pages(client: AsyncOpenAI) -> None:
    name = await _upload(client)
    made = [
        (
            await client.fine_tuning.jobs.create(
                model="tiny", training_file=name, seed=i, metadata={"parity": str(i % 2)}
            )
        ).id
        for i in range(5)
    ]
    assert [job.id async for job in client.fine_tuning.jobs.list(limit=2)] == made[::-1]
    odd = client.fine_tuning.jobs.list(metadata={"parity": "1"})
    assert [job.id async for job in odd] == [made[3], made[1]]


async def test_cancelling_is_seen_at_once_and_can_be_repeated(client: AsyncOpenAI, service: Service) -> None:
    job = await client.fine_tuning.jobs.create(model="tiny", training_file=await _upload(client))
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    await service.controller.step()
    again = await client.fine_tuning.jobs.cancel(job.id)
    assert again.status == "cancelled"
    assert again.finished_at is not None


async def test_a_cancel_wins_over_a_status_written_meanwhile(
    client: AsyncOpenAI, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await client.fine_tuning.jobs.create(model="tiny", training_file=await _upload(client))
    apply = service.store.apply
    meddled: list[FineTune] = []

    async def apply_late(resource: Any, **options: Any) -> Any:
        if isinstance(resource, FineTune) and not meddled:
            meddled.append(resource)
            stored = await service.store.get(FineTune, job.id, "lab")
            stored.status.step = 5
            await service.store.set_status(stored)
        return await apply(resource, **options)

    monkeypatch.setattr(service.store, "apply", apply_late)
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    assert (await service.store.get(FineTune, job.id, "lab")).status.step == 5


async def test_an_ended_job_cannot_be_cancelled(client: AsyncOpenAI, service: Service) -> None:
    job = await client.fine_tuning.jobs.create(model="tiny", training_file=await _upload(client))
    stored = await service.store.get(FineTune, job.id, "lab")
    stored.status.state = "failed"
    stored.status.error_code, stored.status.error_message = "training_failed", "out of memory"
    await service.store.set_status(stored)
    with pytest.raises(openai.BadRequestError, match="already failed"):
        await client.fine_tuning.jobs.cancel(job.id)
    error = (await client.fine_tuning.jobs.retrieve(job.id)).error
    assert error is not None
    assert (error.code, error.message, error.param) == ("training_failed", "out of memory", None)


async def test_a_file_that_a_job_needs_stays(client: AsyncOpenAI) -> None:
    name = await _upload(client)
    job = await client.fine_tuning.jobs.create(model="tiny", training_file=name)
    with pytest.raises(openai.ConflictError, match=job.id):
        await client.files.delete(name)
    await client.fine_tuning.jobs.cancel(job.id)
    assert (await client.files.delete(name)).deleted


async def test_events_come_newest_first_in_pages(client: AsyncOpenAI, service: Service) -> None:
    job = await client.fine_tuning.jobs.create(model="tiny", training_file=await _upload(client))
    later_ms = job.created_at * 1000 + 60_000
    for step in range(1, 8):
        data = {"step": step, "train_loss": 1 / step}
        event = Event(
            f"e-{step}", later_ms + step, "info", "Metrics", f"Step {step}", "FineTune", job.id, "lab", data
        )
        await service.store.record(event)
    found = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=3)]
    assert [e.message for e in found[:2]] == ["Step 7", "Step 6"]
    assert found[-1].message == f"Created fine-tuning job: {job.id}"
    assert (found[0].object, found[0].level, found[0].type) == ("fine_tuning.job.event", "info", "metrics")
    assert found[0].data == {"step": 7, "train_loss": 1 / 7}
    assert len({event.id for event in found}) == len(found)


async def test_checkpoints_come_newest_first_in_pages(client: AsyncOpenAI, service: Service) -> None:
    job = await client.fine_tuning.jobs.create(model="tiny", training_file=await _upload(client))
    stored = await service.store.get(FineTune, job.id, "lab")
    stored.status.fine_tuned_model = "ft:tiny:acme:zoo:1"
    stored.status.checkpoints = [
        Checkpoint(id=f"ftckpt-{i}", step=i, path=f"/c/{i}", created_ms=i * 1000, metrics={"train_loss": 0.5})
        for i in range(1, 4)
    ]
    await service.store.set_status(stored)
    found = [c async for c in client.fine_tuning.jobs.checkpoints.list(job.id, limit=2)]
    assert [c.step_number for c in found] == [3, 2, 1]
    uid = stored.metadata.uid[-8:]
    assert found[0].fine_tuned_model_checkpoint == f"ft:tiny:acme::{uid}:ckpt-step-3"
    assert found[0].fine_tuning_job_id == job.id
    assert (found[0].metrics.step, found[0].metrics.train_loss) == (3, 0.5)


@pytest.mark.parametrize("act", ["retrieve", "cancel", "list_events"])
async def test_another_projects_job_does_not_exist(client: AsyncOpenAI, service: Service, act: str) -> None:
    job = await client.fine_tuning.jobs.create(model="tiny", training_file=await _upload(client))
    async with service.client("bob") as stranger:
        with pytest.raises(openai.NotFoundError):
            await getattr(stranger.fine_tuning.jobs, act)(job.id)
        with pytest.raises(openai.NotFoundError):
            await stranger.fine_tuning.jobs.checkpoints.list(job.id)
        assert [j async for j in stranger.fine_tuning.jobs.list()] == []
    assert (await client.fine_tuning.jobs.retrieve(job.id)).status == "queued"


async def test_an_agent_may_look_but_not_train(client: AsyncOpenAI, service: Service) -> None:
    name = await _upload(client)
    async with service.client("bot") as agent:
        assert [j async for j in agent.fine_tuning.jobs.list()] == []
        with pytest.raises(openai.PermissionDeniedError):
            await agent.fine_tuning.jobs.create(model="tiny", training_file=name)
