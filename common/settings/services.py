"""The processes, the store, the Ray cluster, engines, and what is kept of ended work."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from common.resources.fields import LongName
from common.settings.listener import ListenerSettings
from common.settings.section import Section


class ControlSettings(ListenerSettings):
    """The control process."""

    host: str = "127.0.0.1"
    port: int = Field(8001, ge=1, le=65535)
    upload_limit_bytes: int = Field(512 * 1024**2, gt=0, description="largest file that /v1/files takes")
    max_watches_per_key: int = Field(16, ge=1, description="streams of changes that one key may have open")


class GatewaySettings(ListenerSettings):
    """The gateway process."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    body_limit_bytes: int = Field(16 * 1024**2, gt=0, description="largest request body for inference paths")
    connect_timeout_seconds: float = Field(5.0, gt=0)
    read_timeout_seconds: float = Field(
        600.0, gt=0, description="longest silence of an engine within one request"
    )


class StoreSettings(Section):
    """Where state lives."""

    url: str = Field("", description="SQLAlchemy URL; empty = SQLite in COMPUTILITY_HOME")
    history_bytes: int = Field(
        64 * 1024**2, ge=1024**2, description="of changes kept for those who watch; then the oldest go"
    )


class RaySettings(Section):
    """The Ray cluster that runs gangs."""

    address: str = Field("", description="Ray address to join; empty = `up` starts a local Ray")
    clusters: dict[str, str] = Field(
        default_factory=dict, description="name -> Ray address of further clusters that feed the same pool"
    )
    accelerator_resources: list[str] = Field(
        ["GPU", "NPU", "TPU", "HPU", "MLU", "DCU", "neuron_cores"],
        description="Ray resources that the node agents hold, so that no other Ray job gets the devices",
    )
    node_address: str = Field(
        "", description="where gangs listen; empty = the address that Ray tells; `up` sets it for a local Ray"
    )
    object_store_bytes: int = Field(100 * 1024**2, ge=78 * 1024**2, description="of the local Ray")

    @field_validator("clusters")
    @classmethod
    def _names_are_parts_of_node_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, address in value.items():
            if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name):
                raise ValueError(f"the cluster name {name!r} must be 1-40 characters of a-z, 0-9 and '-'")
            if not address:
                raise ValueError(f"the cluster {name} needs the address of its Ray")
        return value


class RetentionSettings(Section):
    """What is kept of work that has ended. Beyond ``bytes`` the longest unused goes first; 0 = no limit."""

    log_days: float = Field(14.0, ge=0, description="logs of processes, on each node")
    log_bytes: int = Field(0, ge=0, description="of all logs of processes in one COMPUTILITY_HOME")
    process_log_bytes: int = Field(
        16 * 1024**2,
        ge=0,
        description="of one process's log, also while it runs; then it begins anew, and what it held is kept "
        "till the next time, so that a log takes about twice as much",
    )
    job_days: float = Field(14.0, ge=0, description="work folders of fine-tuning jobs; adapters are kept")
    job_bytes: int = Field(0, ge=0, description="of all work folders")


class EngineSettings(Section):
    """Defaults for engines that Endpoints start."""

    cpu_kv_cache_gib: int = Field(1, ge=1)
    omp_threads: int = Field(1, ge=1)
    start_timeout_seconds: float = Field(600.0, gt=0)
    media_domains: list[LongName] = Field(
        default_factory=list,
        description="hosts from which engines may fetch the images and sounds that requests name by URL; "
        "empty = none, so that no tenant reaches the platform's own network through an engine",
    )
