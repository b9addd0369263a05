"""Our resources in the shapes of OpenAI's fine-tuning and file objects. Times become whole seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.resources import File, FineTune
from common.resources.tuning import Checkpoint
from common.store.port import Event

TERMINAL = ("succeeded", "failed", "cancelled")
_CHECKPOINT_METRICS = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
_LEVELS = {"info": "info", "warning": "warn", "error": "error"}


def seconds(ms: int | None) -> int | None:
    """Whole seconds since the epoch."""
    return None if ms is None else ms // 1000


def file_object(file: File) -> dict[str, Any]:
    return {
        "id": file.name,
        "object": "file",
        "bytes": file.spec.size_bytes,
        "created_at": seconds(file.metadata.created_ms),
        "expires_at": seconds(file.spec.expires_ms),
        "filename": file.spec.filename,
        "purpose": file.spec.purpose,
        "status": file.status.state,
        "status_details": file.status.details or None,
    }


def job_status(job: FineTune) -> str:
    """OpenAI's status; a job that was cancelled is shown so at once, before its processes have ended."""
    return "cancelled" if job.spec.cancelled and job.status.state not in TERMINAL else job.status.state


def job_object(job: FineTune, tenant: str) -> dict[str, Any]:
    spec, status = job.spec, job.status
    hyperparameters = {**spec.hyperparameters.model_dump(), **_resolved(status.resolved)}
    error = {"code": status.error_code, "message": status.error_message, "param": status.error_param}
    return {
        "id": job.name,
        "object": "fine_tuning.job",
        "created_at": seconds(job.metadata.created_ms),
        "finished_at": seconds(status.finished_ms),
        "estimated_finish": seconds(status.estimated_finish_ms) if job_status(job) == "running" else None,
        "model": spec.model,
        "fine_tuned_model": status.fine_tuned_model,
        "organization_id": tenant,
        "status": job_status(job),
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "training_file": spec.training_file,
        "validation_file": spec.validation_file,
        "result_files": list(status.result_files),
        "trained_tokens": status.trained_tokens,
        "error": error if status.error_code else None,
        "seed": spec.seed,
        "integrations": [],
        "metadata": dict(spec.metadata),
        "user_provided_suffix": spec.suffix,
    }


def _resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    return {name: values[name] for name in names if name in values}


def event_object(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": seconds(event.time_ms),
        "level": _LEVELS[event.level],
        "message": event.message,
        "type": "metrics" if event.reason == "Metrics" else "message",
        "data": dict(event.data),
    }


def checkpoint_object(job: FineTune, served_name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """``served_name``: what it answers to once it is served."""
    metrics = {name: checkpoint.metrics[name] for name in _CHECKPOINT_METRICS if name in checkpoint.metrics}
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": seconds(checkpoint.created_ms),
        "fine_tuned_model_checkpoint": served_name,
        "step_number": checkpoint.step,
        "fine_tuning_job_id": job.name,
        "metrics": {**metrics, "step": checkpoint.step},
    }


def page(items: Sequence[Mapping[str, Any]], has_more: bool) -> dict[str, Any]:
    """A list object."""
    return {
        "object": "list",
        "data": list(items),
        "has_more": has_more,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
    }
