"""Batches in OpenAI's shape. Times become whole seconds."""

from __future__ import annotations

from typing import Any

from common.resources import Batch
from finetune.objects import seconds

_TIMES = (
    "in_progress",
    "expires",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)


def batch_object(batch: Batch) -> dict[str, Any]:
    """OpenAI's batch; one whose end was asked for is shown so at once."""
    spec, status = batch.spec, batch.status
    asked = spec.cancelled and status.state in ("validating", "in_progress")
    errors = [one.model_dump() for one in status.errors]
    return {
        "id": batch.name,
        "object": "batch",
        "endpoint": spec.endpoint,
        "model": status.model or None,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": spec.input_file,
        "completion_window": f"{spec.window_hours}h",
        "status": "cancelling" if asked else status.state,
        "output_file_id": status.output_file or None,
        "error_file_id": status.error_file or None,
        "created_at": seconds(batch.metadata.created_ms),
        **{f"{name}_at": seconds(getattr(status, f"{name}_ms")) for name in _TIMES},
        "request_counts": {
            "total": status.total,
            "completed": status.completed,
            "failed": status.failed,
        },
        "usage": _usage(batch),
        "metadata": dict(spec.metadata) or None,
    }


def _usage(batch: Batch) -> dict[str, Any]:
    status = batch.status
    return {
        "input_tokens": status.prompt_tokens,
        "input_tokens_details": {"cached_tokens": status.cached_tokens},
        "output_tokens": status.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": status.prompt_tokens + status.completion_tokens,
    }
