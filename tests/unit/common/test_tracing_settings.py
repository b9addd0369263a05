"""Where spans go: our settings, and OpenTelemetry's own variables where ours say nothing."""

import os
from pathlib import Path

import pytest

from common.errors import InvalidInput
from common.settings import child_environment, load_settings

BASE = "http://collector:4318"


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("COMPUTILITY_", "OTEL_")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COMPUTILITY_HOME", str(tmp_path))


def told(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[str, str]:
    """Where spans go then, and of which service they are."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracing = load_settings().tracing
    return tracing.url, tracing.service_name


def test_nothing_is_traced_unless_somebody_says_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch) == ("", "computility-gateway")
    assert load_settings().tracing.engines_url == ""


def test_our_settings_and_a_trailing_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, COMPUTILITY_TRACING__ENDPOINT=f"{BASE}/")[0] == f"{BASE}/v1/traces"
    assert load_settings().tracing.engines_url == f"{BASE}/v1/traces"
    monkeypatch.setenv("COMPUTILITY_TRACING__ENGINES", "false")
    assert load_settings().tracing.engines_url == ""


def test_the_standards_variables_where_ours_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{BASE}/base", "OTEL_SERVICE_NAME": "front"}
    assert told(monkeypatch, **names) == (f"{BASE}/base/v1/traces", "front")
    assert told(monkeypatch, COMPUTILITY_TRACING__SERVICE_NAME="ours") == (f"{BASE}/base/v1/traces", "ours")
    assert told(monkeypatch, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{BASE}/as-it-is")[0] == f"{BASE}/as-it-is"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SDK_DISABLED", "True"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_the_standards_variables_turn_nothing_on_where_they_say_so(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert told(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=BASE, **{name: value})[0] == ""


def test_the_protocol_of_traces_counts_first(monkeypatch: pytest.MonkeyPatch) -> None:
    protocols = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    assert told(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=BASE, **protocols)[0] == f"{BASE}/v1/traces"


def test_a_child_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(tracing={"endpoint": BASE, "sample_ratio": 0.25})
    for name, value in child_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere:1")
    assert load_settings().tracing == settings.tracing


@pytest.mark.parametrize(
    "value",
    [
        "collector:4318",
        "grpc://collector:4317",
        "http://",
        "http://user:secret@collector",
        "http://collector/?key=1",
        "http://collector/#x",
        "http://collector:port",
        "http://collector /x",
        "http://collector\n",
        "http://c\u00f6llector",
    ],
)
@pytest.mark.parametrize("field", ["endpoint", "traces_endpoint"])
def test_what_is_no_address_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=rf"tracing\.{field}: .*http\(s\)://host"):
        load_settings(tracing={field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("sample_ratio", 1.1), ("sample_ratio", -1), ("queue_spans", 0)]
)
def test_numbers_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=rf"tracing\.{field}"):
        load_settings(tracing={field: value})
