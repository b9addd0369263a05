"""Specs that are written in Kubernetes otherwise than in control: keys end in a Secret, and jobs are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from common.resources.fields import AdapterName, LongName, ModelNames, Name, Priority, Seed, Suffix, TimeMs
from common.resources.meta import Model
from common.resources.pool import DeviceRequest
from common.resources.tuning import Hyperparameters, Tags

DataKey = Annotated[str, StringConstraints(max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
FileId = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class ApiKeyManifest(Model):
    """A key of the namespace's project. It lies in a Secret, under api-key, and is revoked when this goes.
    Another value of the annotation computility.io/rotate makes a new one."""

    role: Literal["member", "agent"] = "agent"
    models: ModelNames = Field(
        default_factory=list, description="served names it may use; empty = all visible"
    )
    expires_ms: TimeMs | None = Field(None, description="milliseconds since the epoch; unset = never")
    secret_name: LongName | None = Field(None, description="of the Secret; unset = as this is called")


class DataSource(Model):
    """A key of a ConfigMap of the namespace, with lines of JSON."""

    config_map: LongName
    key: DataKey


class FineTuneManifest(Model):
    """A LoRA job of the namespace's project. It is made once: a spec that changes later is refused."""

    model: AdapterName = Field(description="served name of what is tuned")
    training_file: FileId | None = Field(None, description="id of an uploaded file; or trainingData")
    training_data: DataSource | None = None
    validation_file: FileId | None = None
    validation_data: DataSource | None = None
    suffix: Suffix | None = None
    seed: Seed | None = None
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    adapter_rank: Literal[1, 8, 16, 32, 64, 128] | None = None
    metadata: Tags = Field(default_factory=dict)
    queue: Name = "default"
    priority: Priority | None = None
    devices: DeviceRequest = Field(default_factory=DeviceRequest)
