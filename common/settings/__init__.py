"""All settings, in one tree; ``tree.py`` says where they come from."""

from common.settings.jobs import JobsSettings
from common.settings.limits import LimitsSettings
from common.settings.operator import OperatorSettings
from common.settings.scheduling import LoadTideSettings, PolicySettings, SchedulerSettings, TideSettings
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
from common.settings.tree import CONFIG_FILE, Settings, child_environment, load_settings
from common.settings.tuning import TuningSettings

__all__ = [
    "CONFIG_FILE",
    "ControlSettings",
    "EngineSettings",
    "GatewaySettings",
    "JobsSettings",
    "LimitsSettings",
    "LoadTideSettings",
    "OperatorSettings",
    "PolicySettings",
    "RaySettings",
    "RetentionSettings",
    "SandboxSettings",
    "SchedulerSettings",
    "Settings",
    "StoreSettings",
    "TideSettings",
    "TracingSettings",
    "TuningSettings",
    "child_environment",
    "load_settings",
]
