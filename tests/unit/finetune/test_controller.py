"""A job's way from queued to served and billed."""

import hashlib
import json
from pathlib import Path

import pytest

from common.resources import File, FineTune, Metadata, Queue
from common.resources.pool import QueueSpec
from common.resources.tuning import FineTuneSpec, Hyperparameters
from common.resources.workload import BUDGET_EXHAUSTED
from finetune.adapters.blob_folder import BlobFolder
from finetune.core.job import parse_job
from finetune.jobs.publisher import LOAD_WAIT_SECONDS
from tests.fixtures.tuning import JOB, PROJECT, WEIGHTS, TuningWorld


@pytest.fixture
async def world(tmp_path: Path) -> TuningWorld:
    made = TuningWorld(tmp_path)
    await made.fill()
    return made


async def test_a_queued_job_becomes_a_workload_with_orders(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    workload, job = await world.workload(), await world.job()
    assert workload is not None
    assert job.status.state == "queued"
    assert workload.metadata.owner is not None
    assert workload.metadata.owner.uid == job.metadata.uid
    assert workload.metadata.labels == {
        "computility.io/model": "tiny",
        "computility.io/model-identity": f"{PROJECT}/tiny",
        "computility.io/key": "ada",
    }
    assert workload.spec.restart.policy == "OnFailure"
    assert workload.spec.restart.max_restarts == 3
    role = workload.spec.roles[0]
    assert role.command == ["$(PYTHON)", "-m", "finetune.train", "--job", str(world.folder())]
    orders = parse_job(world.orders())
    assert orders.base_model == str(world.home / "models" / "tiny")
    assert Path(orders.training_file).read_bytes().count(b"\n") == 12
    assert (orders.n_epochs, orders.batch_size, orders.seed) == (3, 4, 3)
    assert orders.learning_rate == pytest.approx(4e-4)
    assert orders.lora.rank == 16


async def test_training_gives_way_to_serving_unless_told_otherwise(world: TuningWorld) -> None:
    await world.store.apply(Queue(metadata=Metadata(name="default"), spec=QueueSpec(default_priority=100)))
    await world.apply_job()
    await world.step()
    workload = await world.workload()
    assert workload is not None
    assert workload.spec.priority is not None
    assert workload.spec.priority < 100


async def test_a_priority_that_was_asked_for_is_kept(world: TuningWorld) -> None:
    await world.apply_job(priority=7)
    await world.step()
    workload = await world.workload()
    assert workload is not None
    assert workload.spec.priority == 7


async def test_progress_is_shown_while_it_trains(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    await world.set_phase("Running")
    await world.step()
    world.clock.advance(20)
    world.tell_steps(1, 2)
    world.tell("checkpoint", "Checkpoint", step=2, path="/c/2", train_loss=0.5)
    await world.step(3)
    status = (await world.job()).status
    assert (status.state, status.step, status.total_steps) == ("running", 2, 9)
    assert [(c.step, c.metrics) for c in status.checkpoints] == [(2, {"train_loss": 0.5})]
    assert status.started_ms is not None
    assert status.estimated_finish_ms == status.started_ms + 90_000
    assert (await world.messages())[-3:] == ["Step 1/9", "Step 2/9", "Checkpoint"]


async def test_a_budget_that_stops_it_is_told_once_and_training_goes_on_later(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    await world.set_phase("Running")
    await world.step()
    await world.set_phase("Pending", message="the budget cap is spent", code=BUDGET_EXHAUSTED)
    await world.step(3)
    stopped = (await world.job()).status
    condition = stopped.condition("MayRun")
    assert condition is not None
    assert (condition.status, condition.message) == ("False", "the budget cap is spent")
    assert stopped.state == "queued"
    assert (await world.messages()).count("The job waits: the budget cap is spent") == 1
    world.clock.advance(20)
    await world.set_phase("Running")
    await world.step(3)
    going_on = (await world.job()).status
    assert going_on.is_true("MayRun")
    assert (going_on.state, going_on.started_ms) == ("running", stopped.started_ms)
    assert (await world.messages()).count("The job has started on its device") == 1
    await world.run_to_end()
    assert (await world.job()).status.state == "succeeded"


async def test_half_a_line_is_read_when_it_is_whole(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    events = world.folder() / "events.jsonl"
    line = json.dumps({"type": "message", "created_at": 1, "message": "Loading", "data": {}}) + "\n"
    events.write_text("not json\n" + line[:20])
    await world.step()
    assert "Loading" not in await world.messages()
    events.write_text("not json\n" + line)
    await world.step()
    messages = await world.messages()
    assert messages.count("Loading") == 1
    assert any("unreadable at byte 0" in message for message in messages)


async def test_success_gives_an_adapter_a_result_file_and_a_bill(world: TuningWorld) -> None:
    await world.apply_job()
    await world.run_to_end()
    job = await world.job()
    (adapter,) = await world.adapters()
    assert job.status.state == "succeeded"
    assert job.status.fine_tuned_model == adapter.spec.served_name
    assert adapter.spec.served_name.startswith("ft:tiny:acme:zoo:")
    assert (adapter.spec.model, adapter.spec.model_project, adapter.spec.rank) == ("tiny", PROJECT, 16)
    published = Path(adapter.spec.path)
    assert published.is_relative_to(world.home / "adapters")
    assert (published / "adapter_model.safetensors").read_bytes() == WEIGHTS
    assert adapter.spec.digest == hashlib.sha256(WEIGHTS).hexdigest()
    lineage = adapter.spec.lineage
    assert (lineage.job, lineage.training_file, lineage.seed, lineage.trained_tokens) == (
        JOB,
        "file-1",
        3,
        900,
    )
    assert lineage.hyperparameters["n_epochs"] == 3
    (event,) = world.bill.events.values()
    assert (event.kind, event.tenant, event.key, event.model) == ("training", "acme", "ada", "tiny")
    assert event.quantities == {"trained_tokens": 900}
    assert event.device_class == "cpu/x86-64"
    result = await world.store.get(File, job.status.result_files[0], PROJECT)
    assert result.spec.purpose == "fine-tune-results"
    content = BlobFolder(world.home / "files").path(result.spec.sha256).read_text()
    assert content.splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,1.00000,,,",
        "2,0.50000,,,",
    ]


async def test_success_waits_until_a_running_engine_holds_the_adapter(world: TuningWorld) -> None:
    await world.apply_endpoint()
    await world.apply_job()
    await world.run_to_end()
    assert (await world.job()).status.state == "running"
    (adapter,) = await world.adapters()
    adapter.status.set_condition("Served", True, "Loaded", now_ms=world.clock.now_ms())
    await world.store.set_status(adapter)
    await world.step()
    assert (await world.job()).status.state == "succeeded"


async def test_an_engine_that_does_not_load_it_does_not_hold_up_the_job_for_ever(world: TuningWorld) -> None:
    await world.apply_endpoint()
    await world.apply_job()
    await world.run_to_end()
    world.clock.advance(LOAD_WAIT_SECONDS)
    await world.step()
    assert (await world.job()).status.state == "succeeded"


async def test_a_job_made_from_yaml_is_checked_and_resolved(world: TuningWorld) -> None:
    spec = FineTuneSpec(
        model="tiny",
        base="tiny",
        base_project=PROJECT,
        training_file="file-1",
        hyperparameters=Hyperparameters(n_epochs=2),
    )
    await world.store.apply(FineTune(metadata=Metadata(name=JOB, project=PROJECT), spec=spec))
    await world.step()
    assert (await world.job()).status.resolved["n_epochs"] == 2
    assert await world.workload() is not None


async def test_a_cancelled_job_stops_and_bills_what_was_trained(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    await world.set_phase("Running")
    world.tell_steps(1, 2, 3)
    job = await world.job()
    job.spec.cancelled = True
    await world.store.apply(job)
    await world.step()
    world.restart_controller()
    await world.step()
    assert (await world.job()).status.state == "cancelled"
    assert await world.workload() is None
    (event,) = world.bill.events.values()
    assert (event.quantities, event.outcome) == ({"trained_tokens": 300}, "cancelled")
    assert world.bill.posts == 1


async def test_a_job_cancelled_before_it_ran_costs_nothing(world: TuningWorld) -> None:
    await world.apply_job(cancelled=True)
    await world.step()
    assert (await world.job()).status.state == "cancelled"
    assert not world.bill.events


async def test_a_job_cancelled_while_its_adapter_is_loaded_leaves_no_adapter(world: TuningWorld) -> None:
    await world.apply_endpoint()
    await world.apply_job()
    await world.run_to_end()
    job = await world.job()
    job.spec.cancelled = True
    await world.store.apply(job)
    await world.step()
    assert (await world.job()).status.state == "cancelled"
    assert not await world.adapters()


async def test_the_workload_of_a_deleted_job_goes(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    await world.store.delete(FineTune, JOB, PROJECT)
    await world.step()
    assert await world.workload() is None
