"""All settings, in one tree.

Every field can be set as ``COMPUTILITY_<SECTION>__<FIELD>``, e.g. ``COMPUTILITY_GATEWAY__PORT=9000``, or in
``<COMPUTILITY_HOME>/computility.yaml``. The environment wins over the file, an argument over both.
Of tracing, OpenTelemetry's own variables say what ours do not.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from common.environment import variables
from common.errors import InvalidInput, Problem
from common.private import at_home, make_folder_in_home, make_home
from common.resources.saying import problems_of
from common.settings.batches import BatchSettings
from common.settings.costs import CostsSettings
from common.settings.jobs import JobsSettings
from common.settings.limits import LimitsSettings
from common.settings.operator import OperatorSettings
from common.settings.scheduling import SchedulerSettings
from common.settings.services import (
    ControlSettings,
    EngineSettings,
    GatewaySettings,
    RaySettings,
    RetentionSettings,
    SandboxSettings,
    StoreSettings,
)
from common.settings.tracing import TracingSettings
from common.settings.tuning import TuningSettings

CONFIG_FILE = "computility.yaml"
_OF_THE_CALLER = ("COMPUTILITY_API_KEY", "COMPUTILITY_CONTROL_BASE_URL", "COMPUTILITY_GATEWAY_BASE_URL")
"""What the command line is told and no process of the instance has to know."""
_TRACING = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "endpoint",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "traces_endpoint",
    "OTEL_SERVICE_NAME": "service_name",
}
"""OpenTelemetry's variables, and our fields that say the same."""
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def _default_home() -> Path:
    return Path.home() / ".computility"


def _absolute(path: Path) -> Path:
    return at_home(path).absolute()


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
    metrics_token: str = Field(
        "",
        description="opens /metrics of both servers; empty = one that `up` keeps in home/run/metrics_token",
    )
    tls_ca_file: str = Field(
        "",
        description="PEM of the authorities that signed certificates of servers; empty = the system's",
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
    sandbox: SandboxSettings = SandboxSettings()
    tuning: TuningSettings = TuningSettings()
    jobs: JobsSettings = JobsSettings()
    batches: BatchSettings = BatchSettings()
    tracing: TracingSettings = TracingSettings()
    limits: LimitsSettings = LimitsSettings()
    costs: CostsSettings = CostsSettings()
    operator: OperatorSettings = OperatorSettings()

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
        others = (InitSettingsSource(settings_cls, init_kwargs=found) for found in (_standard(), content))
        return init_settings, env_settings, *others

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
        """Of the control process that listens where these settings say."""
        return self.control.base_url

    @property
    def control_urls(self) -> tuple[str, ...]:
        """Of all control processes that are known; any of them does."""
        return tuple(dict.fromkeys(self.control.urls)) or (self.control_url,)

    @property
    def gateway_url(self) -> str:
        """What an OpenAI client takes as ``base_url``."""
        return f"{self.gateway.base_url}/v1"

    def folder(self, name: str) -> Path:
        """``home/<name>``, made when missing, closed to other users of the machine like the home itself.

        Used: run, logs, files, jobs, work, adapters, models, spool, provider-keys. Raises ``SetupError``
        where the home is for everybody.
        """
        path = self.home / name
        make_home(self.home)
        make_folder_in_home(path)
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
        problems = tuple(map(_with_nearest, problems_of(error)))
        text = "; ".join(f"{p.path}: {p.message}" for p in problems)
        raise InvalidInput(f"settings are wrong: {text}", problems=problems) from error


def _with_nearest(problem: Problem) -> Problem:
    """Of a setting that there is not: with the one that may have been meant."""
    if problem.code != "extra_forbidden":
        return problem
    *above, name = problem.path.split(".")
    section: Any = Settings
    for part in above:
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        section = field.annotation if field is not None else None
    near = get_close_matches(name, getattr(section, "model_fields", ()), n=1)
    meant = f"; did you mean {'.'.join((*above, near[0]))}?" if near else ""
    return Problem(problem.path, f"unknown setting{meant}", problem.code)


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


def _standard() -> dict[str, Any]:
    """What OpenTelemetry's own variables say, where they do not turn tracing off or name a protocol that is
    not spoken here."""
    told = {name: value for name, value in variables().items() if name.startswith("OTEL_") and value}
    off = told.get("OTEL_SDK_DISABLED", "").lower() == "true" or told.get("OTEL_TRACES_EXPORTER") == "none"
    protocol = next((told[name] for name in _PROTOCOLS if name in told), "http/protobuf")
    if off or protocol != "http/protobuf":
        return {}
    return {"tracing": {field: told[name] for name, field in _TRACING.items() if name in told}}


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """This process's environment plus what a process of the instance needs to find the same settings."""
    env = {name: value for name, value in variables().items() if name not in _OF_THE_CALLER}
    env.update(
        COMPUTILITY_HOME=str(settings.home),
        COMPUTILITY_INSTANCE=settings.instance,
        COMPUTILITY_INTERNAL_TOKEN=settings.internal_token,
        COMPUTILITY_METRICS_TOKEN=settings.metrics_token,
        COMPUTILITY_TLS_CA_FILE=settings.tls_ca_file,
        COMPUTILITY_LOG_LEVEL=settings.log_level,
        COMPUTILITY_LOG_FORMAT=settings.log_format,
    )
    for section, content in settings.model_dump(mode="json").items():
        if isinstance(content, dict):
            for key, value in content.items():
                name = f"COMPUTILITY_{section}__{key}".upper()
                env.pop(name, None)
                if value is not None:  # what is unset has no text that says so
                    env[name] = value if isinstance(value, str) else json.dumps(value)
    env.update(extra)
    return env
