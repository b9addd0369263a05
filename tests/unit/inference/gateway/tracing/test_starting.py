"""Where requests are not traced nothing of OpenTelemetry is imported, and where it lacks that is said."""

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import SetupError
from common.settings import Settings, TracingSettings
from inference.gateway.app import Gateway

LOADED = """
import sys
from common.settings import Settings
from inference.gateway.app import Gateway
gateway = Gateway(Settings())
roots = {name.partition(".")[0] for name in sys.modules}
print(gateway.tracer, sorted(roots & {"opentelemetry", "requests"}))
"""


def test_off_imports_nothing(tmp_path: Path) -> None:
    env = {"COMPUTILITY_HOME": str(tmp_path), "PATH": ""}
    root = Path(__file__).parents[5]
    ran = subprocess.run(
        [sys.executable, "-c", LOADED], env=env, cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "None []\n"


def test_without_the_libraries_a_gateway_that_is_to_trace_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, *rest: Any) -> Any:
        if name == "inference.gateway.tracing.tracer":
            raise ModuleNotFoundError("No module named 'opentelemetry'", name="opentelemetry")
        return found(name, *rest)

    found = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    tracing = TracingSettings(endpoint="http://127.0.0.1:4318")
    with pytest.raises(
        SetupError, match=r"opentelemetry is not installed: pip install 'computility\[tracing\]'"
    ):
        Gateway(Settings(home=tmp_path, tracing=tracing))
