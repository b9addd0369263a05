"""Where a setting comes from, and that a child process finds the same ones."""

import os
from pathlib import Path

import pytest

from common.errors import InvalidInput
from common.settings import ControlSettings, Settings, child_environment, load_settings

LOAD_TIDES = "scheduler:\n  policy:\n    load_tides:\n"


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("COMPUTILITY_"):
            monkeypatch.delenv(name, raising=False)


def write(home: Path, text: str) -> None:
    (home / "computility.yaml").write_text(text)


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"COMPUTILITY_{name}", value)


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.gateway_url == "http://127.0.0.1:8000/v1"
    assert settings.control_url == "http://127.0.0.1:8001"
    assert settings.store_url == f"sqlite+aiosqlite:///{tmp_path}/state.db"


def test_the_environment_wins_over_the_file_field_by_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "log_level: debug\ngateway:\n  port: 9001\n  host: 0.0.0.0\n")
    set_environment(monkeypatch, HOME=str(tmp_path), GATEWAY__PORT="9002")
    settings = load_settings()
    assert settings.home == tmp_path
    assert (settings.gateway.port, settings.gateway.host, settings.log_level) == (9002, "0.0.0.0", "debug")


def test_an_argument_wins_over_both_field_by_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "gateway:\n  port: 9001\n  body_limit_bytes: 77\n")
    set_environment(monkeypatch, HOME="/elsewhere", GATEWAY__PORT="9002", GATEWAY__HOST="::1")
    settings = load_settings(home=tmp_path, gateway={"port": 9003}, instance=None)
    assert settings.home == tmp_path
    gateway = settings.gateway
    assert (gateway.port, gateway.host, gateway.body_limit_bytes) == (9003, "::1", 77)


@pytest.mark.parametrize(
    ("host", "loopback", "url"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:8001"),
        ("127.9.9.9", True, "http://127.9.9.9:8001"),
        ("localhost", True, "http://localhost:8001"),
        ("::1", True, "http://[::1]:8001"),
        ("0.0.0.0", False, "http://127.0.0.1:8001"),
        ("::", False, "http://[::1]:8001"),
        ("", False, "http://127.0.0.1:8001"),
        ("10.1.2.3", False, "http://10.1.2.3:8001"),
        ("127.0.0.1.example.com", False, "http://127.0.0.1.example.com:8001"),
    ],
)
def test_a_server_is_reached_where_it_listens(tmp_path: Path, host: str, loopback: bool, url: str) -> None:
    settings = load_settings(home=tmp_path, control={"host": host})
    assert (settings.control.is_loopback, settings.control_url) == (loopback, url)
    files = {"tls_certificate_file": "c.pem", "tls_key_file": "k.pem"}
    settings = load_settings(home=tmp_path, control={"host": host, **files})
    assert settings.control_url == url.replace("http:", "https:")


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("10.1.2.3", ("10.1.2.3", "127.0.0.1")),
        ("fd00::7", ("fd00::7", "127.0.0.1")),
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1", ("::1",)),
        ("0.0.0.0", ("0.0.0.0",)),
        ("::", ("::",)),
        ("", ("",)),
    ],
)
def test_a_server_listens_on_loopback_too_where_it_is_told(
    tmp_path: Path, host: str, hosts: tuple[str, ...]
) -> None:
    assert load_settings(home=tmp_path, gateway={"host": host}).gateway.hosts == (host,)
    assert load_settings(home=tmp_path, gateway={"host": host, "loopback_too": True}).gateway.hosts == hosts


def test_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings(home="~/here").home == tmp_path / "here"
    assert load_settings().home == tmp_path / ".computility"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gateway:\n  port: many\n", r"gateway\.port: must be a whole number"),
        ("gateway:\n  prot: 1\n", r"gateway\.prot: unknown setting; did you mean gateway\.port\?"),
        ("gatevay: {}\n", r"gatevay: unknown setting; did you mean gateway\?"),
        ("gateway:\n  port: 70000\n", r"gateway\.port: .*65535"),
        ("control:\n  tls_key_file: k.pem\n", r"control: .*go together"),
        ("gateway:\n  cors_origins: [chat.example.com]\n", r"gateway\.cors_origins: .*is no origin"),
        ("gateway:\n  cors_origins: ['https://a.example/']\n", r"gateway\.cors_origins: .*is no origin"),
        (LOAD_TIDES + "    - device_class: nvida\n", r"load_tides\[0\]\.device_class: .*nvidia, ascend"),
        (
            LOAD_TIDES + "    - requests_per_replica: 0\n",
            r"load_tides\[0\]\.requests_per_replica: .*greater than 0",
        ),
        (LOAD_TIDES + "    - headroom: .inf\n", r"load_tides\[0\]\.headroom: .*finite"),
        (
            LOAD_TIDES + "    - least_replicas: 3\n      most_replicas: 2\n",
            r"load_tides\[0\]\.most_replicas: .*2 is less than least_replicas \(3\)",
        ),
        (
            LOAD_TIDES + "    - device_class: amd\n    - device_class: amd\n",
            r"scheduler\.policy\.load_tides: .*amd has more than one rule",
        ),
        ("- a list\n", "must hold a mapping"),
        ("gateway: {", "is not YAML"),
        ("home: /elsewhere\n", "home cannot be set"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path, text)
    with pytest.raises(InvalidInput, match=says):
        load_settings(home=tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("GATEWAY__PORT", "many", r"gateway\.port: must be a whole number"),
        ("GATEWAY__PROT", "1", r"gateway\.prot: unknown setting; did you mean gateway\.port\?"),
        ("GATEWAY", "{", "gateway"),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    set_environment(monkeypatch, **{name: value})
    with pytest.raises(InvalidInput, match=says):
        load_settings(home=tmp_path)


def test_a_child_process_finds_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "gateway:\n  port: 9001\nscheduler:\n  cpu_device: always\n")
    set_environment(monkeypatch, CONTROL__PORT="9002", API_KEY="ck-secret")
    rule = {"device_class": "nvidia/H100", "most_replicas": 8}
    settings = load_settings(
        home=tmp_path,
        instance="one",
        internal_token="token",
        gateway={"port": 8000, "read_timeout_seconds": 1.5},
        control={"port": 8001},
        store={"url": "postgresql+asyncpg://me@db/x"},
        scheduler={"usage_interval_seconds": 5, "policy": {"load_tides": [rule]}},
    )
    environment = child_environment(settings, EXTRA="yes")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("COMPUTILITY_API_KEY")
    assert load_settings() == settings.model_copy(update={"api_key": ""})
    assert environment["EXTRA"] == "yes"
    assert "COMPUTILITY_API_KEY" not in environment


def test_folders_are_made_private(tmp_path: Path) -> None:
    made = load_settings(home=tmp_path / "new").folder("run")
    assert made == tmp_path / "new" / "run"
    assert made.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "url", ["http://a:99999", "http://a:0", "http://[:::]:1", "http://a:1/", "http://u:p@a:1"]
)
def test_an_address_that_no_client_takes_is_refused_as_it_is_read(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scheme://host:port"):
        Settings(home=tmp_path, control=ControlSettings(urls=[url]))


@pytest.mark.parametrize(
    "url", ["http://a", "https://[::1]:65535", "http://10.0.0.1:1", "http://a_b.c-d:8001"]
)
def test_an_address_of_a_server_is_taken(url: str, tmp_path: Path) -> None:
    assert Settings(home=tmp_path, control=ControlSettings(urls=[url, url], peer_url=url)).control_urls == (
        url,
    )
