"""Fine-tune jobs and files, behind the OpenAI-shaped APIs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from common.resources.fields import (
    AdapterName,
    FileName,
    Message,
    Name,
    Number,
    OptionalName,
    Priority,
    Seed,
    Suffix,
    Text,
    TimeMs,
    Whole,
    Word,
)
from common.resources.meta import Model as Part
from common.resources.meta import Resource, Status
from common.resources.pool import DeviceRequest
from common.vocabulary import LINES_PATTERN

MAX_TAGS = 16
TagKey = Annotated[str, StringConstraints(max_length=64, pattern=f"^{LINES_PATTERN}$")]
TagValue = Annotated[str, StringConstraints(max_length=512, pattern=f"^{LINES_PATTERN}$")]
Tags = Annotated[dict[TagKey, TagValue], Field(max_length=MAX_TAGS)]
"""What OpenAI calls metadata: for the client's own use."""


class FileSpec(Part):
    """A stored file; its bytes lie in the blob store under ``sha256``."""

    filename: FileName
    purpose: Word
    size_bytes: Whole
    sha256: Text
    expires_ms: TimeMs | None = None


class FileStatus(Status):
    """``state`` and ``details`` as OpenAI's file object shows them."""

    state: Literal["uploaded", "processed", "error"] = "processed"
    details: Message = ""


class File(Resource):
    PLURAL: ClassVar[str] = "files"
    kind: Literal["File"] = "File"
    spec: FileSpec
    status: FileStatus = Field(default_factory=FileStatus)


class Hyperparameters(Part):
    """As the client gave them; ``auto`` is resolved when the job is made and kept in the status."""

    n_epochs: Whole | Literal["auto"] = "auto"
    batch_size: Whole | Literal["auto"] = "auto"
    learning_rate_multiplier: Number | Literal["auto"] = "auto"


class FineTuneSpec(Part):
    """A LoRA job. ``model`` is the served name that the client gave; ``base`` the Model behind it."""

    model: AdapterName
    base: Name
    base_project: Name
    training_file: Name
    validation_file: Name | None = None
    suffix: Suffix | None = None
    seed: Seed = 0
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    adapter_rank: Literal[1, 8, 16, 32, 64, 128] = 16
    metadata: Tags = Field(default_factory=dict)
    queue: Name = "default"
    priority: Priority | None = None
    devices: DeviceRequest = Field(default_factory=DeviceRequest)
    cancelled: bool = False
    api_key: OptionalName = Field("", description="name of the ApiKey that made it; it is billed")


class Checkpoint(Part):
    """A saved adapter in mid-training."""

    id: str
    step: int
    path: str
    created_ms: int
    metrics: dict[str, float] = Field(default_factory=dict)


class FineTuneStatus(Status):
    """``state`` is OpenAI's job status."""

    state: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"] = "queued"
    resolved: dict[str, float | int | str] = Field(default_factory=dict)
    trained_tokens: int | None = None
    step: int = 0
    total_steps: int = 0
    fine_tuned_model: str | None = None
    result_files: list[str] = Field(default_factory=list)
    checkpoints: list[Checkpoint] = Field(default_factory=list)
    started_ms: int | None = None
    finished_ms: int | None = None
    estimated_finish_ms: int | None = None
    events_offset_bytes: int = Field(0, description="how much of the worker's events.jsonl was taken over")
    events_recorded: int = Field(0, description="how many of these are events that can be listed")
    error_code: str = ""
    error_message: Message = ""
    error_param: str | None = None


class FineTune(Resource):
    PLURAL: ClassVar[str] = "finetunes"
    kind: Literal["FineTune"] = "FineTune"
    spec: FineTuneSpec
    status: FineTuneStatus = Field(default_factory=FineTuneStatus)

    @property
    def base_key(self) -> tuple[str | None, str]:
        """Project and name of the Model that it trains on."""
        return self.spec.base_project, self.spec.base
