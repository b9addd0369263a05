"""What a job asks of the scheduler and of its worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.labels import IDENTITY_LABEL, KEY_LABEL, MODEL_LABEL
from common.resources import File, FineTune, Metadata, Model, Owner, Queue, Workload
from common.resources.serving import model_identity
from common.resources.workload import RestartPolicy, Sandbox, WorkloadRole, WorkloadSpec
from common.settings import Settings
from common.sources import local_path
from common.vocabulary import one_line
from finetune.core.hyperparameters import BASE_LEARNING_RATE
from finetune.core.job import Lora, TrainJob

ROLE = "trainer"
ADAPTER_PREFIX = "ft-"
MAX_RESTARTS = 3
HUB_CACHES = "$(HOME_DIR)/cache/huggingface"
"""What trainers have fetched from a hub, by project: who writes there might write another's model."""
BAD_INPUT_EXIT_CODE = 2

_BELOW_ENDPOINTS = 10
_LEAST_PRIORITY = -1_000_000
_MAX_LENGTH_TOKENS = 4096
_DEFAULT_LENGTH_TOKENS = 1024


@dataclass(frozen=True)
class DataFile:
    """A file of the job: where its bytes lie, and what messages call it."""

    path: Path
    name: str


def data_file(file: File, path: Path) -> DataFile:
    """The file with its bytes at ``path``: its id, and the name that it was uploaded with."""
    return DataFile(path, f"{file.name} ({file.spec.filename})")


def train_job(
    job: FineTune,
    model: Model,
    home: Path,
    training: DataFile,
    validation: DataFile | None,
    adapter_dir: Path,
) -> TrainJob:
    """The worker's orders. The hyper-parameters must be resolved."""
    resolved = job.status.resolved
    context = model.status.context_tokens or _DEFAULT_LENGTH_TOKENS
    return TrainJob(
        job_id=job.name,
        base_model=str(local_path(model.spec.source, home) or model.spec.source),
        training_file=str(training.path),
        training_file_name=training.name,
        validation_file=str(validation.path) if validation else None,
        validation_file_name=validation.name if validation else "",
        adapter_dir=str(adapter_dir),
        n_epochs=int(resolved["n_epochs"]),
        batch_size=int(resolved["batch_size"]),
        learning_rate=BASE_LEARNING_RATE * float(resolved["learning_rate_multiplier"]),
        suffix=job.spec.suffix,
        seed=job.spec.seed,
        max_length=min(context, _MAX_LENGTH_TOKENS),
        threads=max(1, job.spec.devices.count),
        lora=Lora(rank=job.spec.adapter_rank, alpha=2 * job.spec.adapter_rank),
    )


def trainer_workload(
    job: FineTune, model: Model, queue: Queue | None, folder: Path, orders: TrainJob, settings: Settings
) -> Workload:
    """One process that may be stopped at any time: it goes on from its last checkpoint. It sees its own
    folder, the model and its files, and has a network only where the model comes from a hub."""
    local = local_path(model.spec.source, settings.home) is not None
    shown = (orders.base_model if local else None, orders.training_file, orders.validation_file)
    role = WorkloadRole(
        name=ROLE,
        command=["$(PYTHON)", "-m", "finetune.train", "--job", str(folder)],
        env=_environment(job, local),
        devices=job.spec.devices.model_copy(deep=True),
        sandbox=Sandbox(
            readable=[path for path in shown if path],
            writable=[str(folder)] if local else [str(folder), _hub_cache(job)],
            network=not local,
        ),
    )
    return Workload(
        metadata=Metadata(
            name=job.name,
            project=job.project,
            labels={
                MODEL_LABEL: one_line(job.spec.model),
                IDENTITY_LABEL: model_identity(job.base_key),
                KEY_LABEL: one_line(job.spec.api_key),
            },
            owner=Owner(kind="FineTune", name=job.name, uid=job.metadata.uid),
        ),
        spec=WorkloadSpec(
            queue=job.spec.queue,
            priority=_priority(job, queue),
            kind="training",
            roles=[role],
            restart=RestartPolicy(policy="OnFailure", max_restarts=MAX_RESTARTS),
        ),
    )


def _priority(job: FineTune, queue: Queue | None) -> int:
    """Unless the job says otherwise: below what serves in the same queue."""
    if job.spec.priority is not None:
        return job.spec.priority
    usual = queue.spec.default_priority if queue else 0
    return max(_LEAST_PRIORITY, usual - _BELOW_ENDPOINTS)


def _environment(job: FineTune, local: bool) -> dict[str, str]:
    env = {
        "OMP_NUM_THREADS": str(max(1, job.spec.devices.count)),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    if local:
        env["HF_HUB_OFFLINE"] = "1"
    else:
        env["HF_HOME"] = _hub_cache(job)
    return env


def _hub_cache(job: FineTune) -> str:
    return f"{HUB_CACHES}/{job.project}"


def adapter_name(job: FineTune) -> str:
    """The name of the Adapter that the job makes."""
    return f"{ADAPTER_PREFIX}{job.name.removeprefix('ftjob-')}"


def adapter_served_name(job: FineTune, tenant: str) -> str:
    """What clients put in ``model``: ``ft:<base>:<tenant>:<suffix>:<short id>``."""
    return f"ft:{job.spec.model}:{tenant}:{job.spec.suffix or ''}:{job.metadata.uid[-8:]}"


def checkpoint_served_name(job: FineTune, tenant: str, step: int) -> str:
    """What clients put in ``model`` for the adapter as it was after a step."""
    return f"{adapter_served_name(job, tenant)}:ckpt-step-{step}"


def result_file(job: FineTune, name: str, sha256: str, size_bytes: int) -> File:
    """The File that holds the job's metrics by step."""
    return File.model_validate(
        {
            "kind": "File",
            "metadata": {"name": name, "project": job.project},
            "spec": {
                "filename": "step_metrics.csv",
                "purpose": "fine-tune-results",
                "sizeBytes": size_bytes,
                "sha256": sha256,
            },
        }
    )
