"""Objects have every field that typed clients of OpenAI's API need, whatever state they are in."""

from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import TypeAdapter

from common.resources import File, FineTune, Metadata
from common.resources.tuning import Checkpoint, FileSpec, FineTuneSpec, FineTuneStatus
from common.store.port import Event
from finetune.objects import checkpoint_object, event_object, file_object, job_object, page


def _job(**status: object) -> FineTune:
    return FineTune(
        metadata=Metadata(name="ftjob-1", project="lab", created_ms=1_700_000_000_999),
        spec=FineTuneSpec(model="tiny", base="tiny", base_project="lab", training_file="file-1"),
        status=FineTuneStatus.model_validate(status),
    )


def test_a_fresh_job_fits_the_clients_type() -> None:
    shown = job_object(_job(), "acme")
    TypeAdapter(FineTuningJob).validate_python(shown, strict=True)
    required = {name for name, field in FineTuningJob.model_fields.items() if field.is_required()}
    assert required <= shown.keys()
    assert (shown["created_at"], shown["status"], shown["error"]) == (1_700_000_000, "queued", None)
    assert shown["hyperparameters"] == {
        "n_epochs": "auto",
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
    }


def test_a_finished_job_fits_the_clients_type() -> None:
    job = _job(
        state="succeeded",
        resolved={"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.0, "examples": 12},
        trained_tokens=900,
        fine_tuned_model="ft:tiny:acme::1",
        result_files=["file-2"],
        finished_ms=1_700_000_100_000,
        estimated_finish_ms=1_700_000_090_000,
    )
    shown = job_object(job, "acme")
    parsed = TypeAdapter(FineTuningJob).validate_python(shown)
    assert (parsed.trained_tokens, parsed.finished_at) == (900, 1_700_000_100)
    assert parsed.estimated_finish is None
    assert parsed.hyperparameters.n_epochs == 3
    assert "examples" not in shown["hyperparameters"]


def test_a_cancelled_job_is_shown_so_before_its_processes_ended() -> None:
    job = _job(state="running")
    job.spec.cancelled = True
    assert job_object(job, "acme")["status"] == "cancelled"
    job.status.state = "succeeded"
    assert job_object(job, "acme")["status"] == "succeeded"


def test_a_file_fits_the_clients_type() -> None:
    spec = FileSpec(filename="a", purpose="fine-tune", size_bytes=3, sha256="0", expires_ms=None)
    shown = file_object(File(metadata=Metadata(name="file-1", project="lab"), spec=spec))
    TypeAdapter(FileObject).validate_python(shown)


def test_events_and_checkpoints_fit_the_clients_types() -> None:
    event = Event("e", 5000, "warning", "Message", "Rows were cut", "FineTune", "ftjob-1", "lab")
    shown = event_object(event)
    TypeAdapter(FineTuningJobEvent).validate_python(shown)
    assert (shown["level"], shown["type"], shown["created_at"]) == ("warn", "message", 5)
    metrics = {"train_loss": 0.5, "unknown": 1.0}
    checkpoint = Checkpoint(id="c", step=4, path="/c", created_ms=9000, metrics=metrics)
    shown = checkpoint_object(_job(), "ft:x:ckpt-step-4", checkpoint)
    TypeAdapter(FineTuningJobCheckpoint).validate_python(shown)
    assert shown["metrics"] == {"step": 4, "train_loss": 0.5}


def test_an_empty_page_has_no_ids() -> None:
    assert page([], False) == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
