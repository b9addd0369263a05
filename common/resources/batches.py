"""Batches: many requests in a file, answered when there is room."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from common.resources.fields import Message, Name, OptionalName, WholeSeconds
from common.resources.meta import Model as Part
from common.resources.meta import Resource, Status
from common.resources.tuning import Tags

BatchEndpoint = Literal[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/rerank",
    "/v1/score",
]
"""Paths that a batch may ask for."""
BatchState = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
"""OpenAI's states."""
BATCH_PURPOSE = "batch"
"""Of a File with the requests of a batch, one a line."""
OUTPUT_PURPOSE = "batch_output"
"""Of the Files with its answers and with what failed."""
DEFAULT_WINDOW_HOURS, MAX_WINDOW_HOURS = 24, 168


class BatchSpec(Part):
    """A batch is made once: later only ``cancelled`` changes."""

    input_file: Name
    endpoint: BatchEndpoint
    window_hours: int = Field(
        DEFAULT_WINDOW_HOURS, ge=1, le=MAX_WINDOW_HOURS, description="what is not done by then never is"
    )
    metadata: Tags = Field(default_factory=dict)
    output_expires_seconds: WholeSeconds | None = Field(
        None, description="after which its files are removed; unset = they stay"
    )
    cancelled: bool = False
    api_key: OptionalName = Field("", description="name of the ApiKey that made it; it is billed")
    api_key_uid: OptionalName = Field("", description="that key's; the next of its name is another one")


class BatchProblem(Part):
    """What is wrong with a line of the file, or, without ``line``, with the batch."""

    code: str
    message: Message
    line: int | None = None
    param: str | None = None


class BatchStatus(Status):
    """``state`` is OpenAI's. ``ending``: what it comes to while its files are written. ``completed`` and
    ``failed`` count lines, of ``total``; the tokens are those that are billed."""

    state: BatchState = "validating"
    ending: Literal["", "completed", "expired", "cancelled"] = ""
    total: int = 0
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    model: str = ""
    errors: list[BatchProblem] = Field(default_factory=list)
    output_file: str = ""
    error_file: str = ""
    expires_ms: int | None = None
    in_progress_ms: int | None = None
    finalizing_ms: int | None = None
    completed_ms: int | None = None
    failed_ms: int | None = None
    expired_ms: int | None = None
    cancelling_ms: int | None = None
    cancelled_ms: int | None = None


class Batch(Resource):
    PLURAL: ClassVar[str] = "batches"
    kind: Literal["Batch"] = "Batch"
    spec: BatchSpec
    status: BatchStatus = Field(default_factory=BatchStatus)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status.state in ("completed", "failed", "expired", "cancelled")
