"""All settings, in one tree. The only module that reads the process environment.

Every field can be set as ``COMPUTILITY_<SECTION>__<FIELD>``, e.g. ``COMPUTILITY_GATEWAY__PORT=9000``, or in
``<COMPUTILITY_HOME>/computility.yaml``. The environment wins over the file, an argument over both.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from common.errors import InvalidInput, Problem
from common.resources.pool import DeviceClass

CONFIG_FILE = "computility.yaml"
_OF_THE_CALLER = ("COMPUTILITY_API_KEY", "COMPUTILITY_CONTROL_BASE_URL", "COMPUTILITY_GATEWAY_BASE_URL")
"""What the command line is told and no process of the instance has to know."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ControlSettings(_Section):
    """The control process."""

    host: str = "127.0.0.1"
    port: int = Field(8001, ge=1, le=65535)
    upload_limit_bytes: int = Field(512 * 1024**2, gt=0, description="largest file that /v1/files takes")


class GatewaySettings(_Section):
    """The gateway process."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    body_limit_bytes: int = Field(16 * 1024**2, gt=0, description="largest request body for inference paths")
    connect_timeout_seconds: float = Field(5.0, gt=0)
    read_timeout_seconds: float = Field(
        600.0, gt=0, description="longest silence of an engine within one request"
    )


class StoreSettings(_Section):
    """Where state lives."""

    url: str = Field("", description="SQLAlchemy URL; empty = SQLite in COMPUTILITY_HOME")


class RaySettings(_Section):
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


class TideSettings(_Section):
    """In this window so many devices of the class are for inference; training may use the rest."""

    device_class: DeviceClass = "*"
    inference_devices: FiniteFloat = Field(ge=0)
    window: str = Field(description="such as 'Mon-Fri 08:00-20:00' or '22:00-06:00'")


class LoadTideSettings(_Section):
    """So many devices of the class are for inference as the load of its engines asks for; training may use
    the rest. Where windows are open for the class too, the larger counts."""

    device_class: DeviceClass = "*"
    requests_per_replica: FiniteFloat = Field(
        32, gt=0, description="requests that run or wait in one engine when it is full"
    )
    kv_cache_limit: FiniteFloat = Field(
        0.9, gt=0, le=1, description="part of an engine's KV cache in use when it is full"
    )
    first_token_limit_seconds: FiniteFloat = Field(
        0, ge=0, description="95th percentile beyond which all its engines count as full; 0 = not looked at"
    )
    devices_per_replica: FiniteFloat = Field(
        1, ge=0.001, le=1024, description="room is made in steps of so many; as many as an engine has"
    )
    headroom: FiniteFloat = Field(0.25, ge=0, le=10, description="so much more than the load")
    ahead_seconds: int = Field(
        900, ge=0, le=7200, description="how far ahead it looks: training's grace and a model's start"
    )
    release_seconds: int = Field(
        1200, ge=0, le=7200, description="what was not needed for so long is given back to training"
    )
    least_replicas: int = Field(0, ge=0, description="room for so many is kept, whatever the load")
    most_replicas: int | None = Field(None, ge=0, description="room for no more is made; unset = no limit")

    @field_validator("most_replicas")
    @classmethod
    def _most_is_not_below_least(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("least_replicas", 0)
        if value is not None and value < least:
            raise ValueError(f"{value} is less than least_replicas ({least})")
        return value


class PolicySettings(_Section):
    """How the scheduler decides; weights that are not given keep their defaults."""

    weights: dict[str, float] = Field(
        default_factory=dict,
        description="accelerator, heterogeneity, fragmentation, packing, topology, energy, price, data, near",
    )
    min_run_seconds: int = Field(300, ge=0, description="before one of its priority may preempt a workload")
    reserve: int = Field(
        1, ge=0, description="for so many blocked workloads room is held; promises to more than one may slip"
    )
    preempt: bool = True
    defragment: bool = True
    max_moves: int = Field(8, ge=0, description="workloads moved in one cycle")
    patience_seconds: int = Field(
        0,
        ge=0,
        description="so long a share waits on a nearly full pool rather than leave a rest that nobody wants",
    )
    topology: list[str] = Field(
        ["computility.io/island", "computility.io/rack", "computility.io/zone"],
        description="node label keys from the closest to the widest domain",
    )
    tides: list[TideSettings] = Field(default_factory=list, description="by the calendar")
    load_tides: list[LoadTideSettings] = Field(
        default_factory=list, description="by the load of engines; a class that is not named has none"
    )
    utc_offset_minutes: int = Field(0, ge=-840, le=840, description="of the windows of tides")

    @field_validator("load_tides")
    @classmethod
    def _one_rule_per_class(cls, value: list[LoadTideSettings]) -> list[LoadTideSettings]:
        classes = [rule.device_class.lower() for rule in value]
        for name in classes:
            if classes.count(name) > 1:
                raise ValueError(f"device_class: {name} has more than one rule")
        return value


class SchedulerSettings(_Section):
    """The scheduler loop and the node agents."""

    cycle_seconds: float = Field(
        0.5, gt=0, description="pause between two cycles when nothing wakes the loop"
    )
    cpu_device: Literal["auto", "always", "never"] = Field(
        "auto", description="offer a node's CPU as a device: auto = only where no accelerator is found"
    )
    device_file: str = Field("", description="YAML file that tells each node's devices instead of a probe")
    node_late_seconds: float = Field(
        5.0,
        gt=0,
        description="silence after which a node gets nothing new; what runs there is left alone",
    )
    node_lost_seconds: float = Field(20.0, gt=0, description="silence after which a node counts as lost")
    catalogue_file: str = Field("", description="YAML rows of device models, over those that come with us")
    policy: PolicySettings = PolicySettings()
    flap_backoff_seconds: float = Field(
        60.0, ge=0, description="a node that is lost twice within an hour waits so long; doubles each time"
    )
    stop_grace_seconds: float = Field(10.0, ge=0, description="between SIGTERM and SIGKILL of a gang")
    usage_interval_seconds: int = Field(
        60, gt=0, description="how often device time of running gangs is metered"
    )


class RetentionSettings(_Section):
    """What is kept of work that has ended. Beyond ``bytes`` the longest unused goes first; 0 = no limit."""

    log_days: float = Field(14.0, ge=0, description="logs of processes, on each node")
    log_bytes: int = Field(0, ge=0, description="of all logs of processes in one COMPUTILITY_HOME")
    job_days: float = Field(14.0, ge=0, description="work folders of fine-tuning jobs; adapters are kept")
    job_bytes: int = Field(0, ge=0, description="of all work folders")


class EngineSettings(_Section):
    """Defaults for engines that Endpoints start."""

    cpu_kv_cache_gib: int = Field(1, ge=1)
    omp_threads: int = Field(1, ge=1)
    start_timeout_seconds: float = Field(600.0, gt=0)


def _default_home() -> Path:
    return Path.home() / ".computility"


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class Settings(BaseSettings):
    """The whole tree. ``home`` holds all state of the instance."""

    model_config = SettingsConfigDict(env_prefix="COMPUTILITY_", env_nested_delimiter="__", extra="forbid")

    home: Path = Field(default_factory=_default_home)
    instance: str = Field("", description="set by `up` for the processes it starts")
    api_key: str = Field(
        "", description="of the command line; empty = the one that `up` kept in home/cli.json"
    )
    control_base_url: str = Field(
        "", description="of the command line; empty = home/cli.json, then control.*"
    )
    gateway_base_url: str = Field(
        "", description="of the command line, with /v1; empty as above, then gateway.*"
    )
    internal_token: str = Field(
        "", description="shared by control and gateway; `up` keeps it in home/run/token"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    control: ControlSettings = ControlSettings()
    gateway: GatewaySettings = GatewaySettings()
    store: StoreSettings = StoreSettings()
    ray: RaySettings = RaySettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    engine: EngineSettings = EngineSettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = init_settings().get("home") or env_settings().get("home") or _default_home()
        content = _read_file(_absolute(Path(home)) / CONFIG_FILE)
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=content)

    @field_validator("home")
    @classmethod
    def _home_is_absolute(cls, value: Path) -> Path:
        return _absolute(value)

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.store.url or f"sqlite+aiosqlite:///{self.home / 'state.db'}"

    @property
    def control_url(self) -> str:
        return f"http://{self.control.host}:{self.control.port}"

    @property
    def gateway_url(self) -> str:
        """What an OpenAI client takes as ``base_url``."""
        return f"http://{self.gateway.host}:{self.gateway.port}/v1"

    def folder(self, name: str) -> Path:
        """``home/<name>``, made when missing. Used: run, logs, files, jobs, adapters, models, spool."""
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path


def load_settings(**overrides: Any) -> Settings:
    """Settings from ``overrides`` over the environment over ``home/computility.yaml``, field by field.

    A section is given as a mapping, e.g. ``gateway={"port": 9000}``; None means not given. Raises
    ``InvalidInput`` that names each wrong field.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except SettingsError as error:
        raise InvalidInput(f"settings are wrong: {error}: {error.__cause__}") from error
    except ValidationError as error:
        problems = tuple(Problem(".".join(str(p) for p in e["loc"]), e["msg"]) for e in error.errors())
        text = "; ".join(f"{p.path}: {p.message}" for p in problems)
        raise InvalidInput(f"settings are wrong: {text}", problems=problems) from error


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{path} must hold a mapping")
    if "home" in content:
        raise InvalidInput(f"{path}: home cannot be set in a file that lies in it", param="home")
    return content


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """This process's environment plus what a process of the instance needs to find the same settings."""
    env = {name: value for name, value in os.environ.items() if name not in _OF_THE_CALLER}
    env.update(
        COMPUTILITY_HOME=str(settings.home),
        COMPUTILITY_INSTANCE=settings.instance,
        COMPUTILITY_INTERNAL_TOKEN=settings.internal_token,
        COMPUTILITY_LOG_LEVEL=settings.log_level,
        COMPUTILITY_LOG_FORMAT=settings.log_format,
    )
    for section, content in settings.model_dump(mode="json").items():
        if isinstance(content, dict):
            for key, value in content.items():
                text = value if isinstance(value, str) else json.dumps(value)
                env[f"COMPUTILITY_{section}__{key}".upper()] = text
    env.update(extra)
    return env
