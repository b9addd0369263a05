"""Contexts: which Computility a command is about."""

import json
import stat
from pathlib import Path

import pytest

from common.errors import InvalidInput, NotFound
from control.cli.asking.contexts import contexts_file, read_contexts
from control.cli.asking.session import Session
from tests.unit.control.cli.test_commands import run


@pytest.fixture(autouse=True)
def _of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("HOME", "API_KEY", "CONTROL_BASE_URL", "GATEWAY_BASE_URL"):
        monkeypatch.delenv(f"COMPUTILITY_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_contexts_are_made_used_and_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "set", "prod", "--url", "https://c:1", "--key", "ck-secret", "-p", "search") == 0
    assert run("config", "set", "lab", "--url", "http://lab:1") == 0
    assert run("config", "current") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "prod"
    assert stat.S_IMODE(contexts_file().stat().st_mode) == 0o600
    assert run("config", "list") == 0
    listed = capsys.readouterr().out
    assert "ck-secret" not in listed
    assert "https://c:1" in listed
    assert run("config", "use", "lba") == 4
    assert "did you mean lab?" in capsys.readouterr().err
    assert run("config", "use", "lab") == 0
    assert read_contexts().current == "lab"
    assert run("config", "delete", "lab") == 0
    assert run("config", "current") == 2
    assert list(read_contexts().known) == ["prod"]


def test_a_context_says_where_who_and_which_project() -> None:
    run("config", "set", "prod", "--url", "http://prod:1", "--key", "ck-prod", "-p", "search")
    session = Session.load()
    assert (session.credentials.control_url, session.credentials.key) == ("http://prod:1", "ck-prod")
    assert session.project == "search"


def test_options_win_over_a_named_context_over_the_environment_over_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run("config", "set", "one", "--url", "http://one:1", "--key", "ck-one")
    run("config", "set", "two", "--url", "http://two:1", "--key", "ck-two")
    assert Session.load().credentials.key == "ck-one"
    monkeypatch.setenv("COMPUTILITY_API_KEY", "ck-environment")
    assert Session.load().credentials.key == "ck-environment"
    assert Session.load().credentials.control_url == "http://one:1"
    assert Session.load(context="two").credentials.key == "ck-two"
    assert Session.load(key="ck-option", context="two").credentials.key == "ck-option"
    with pytest.raises(NotFound, match="did you mean one"):
        Session.load(context="onee")


def test_where_a_home_is_told_no_context_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("config", "set", "prod", "--url", "http://prod:1", "--key", "ck-prod")
    home = tmp_path / "local"
    home.mkdir()
    (home / "cli.json").write_text(json.dumps({"api_key": "ck-kept", "control_url": "http://kept:1"}))
    assert Session.load(home).credentials.key == "ck-kept"
    monkeypatch.setenv("COMPUTILITY_HOME", str(home))
    assert Session.load().credentials.control_url == "http://kept:1"
    assert Session.load().settings.home == home


def test_a_context_with_a_home_is_a_local_one(tmp_path: Path) -> None:
    run("config", "set", "other", "--home", str(tmp_path / "other"), "--use")
    assert Session.load().home == tmp_path / "other"
    assert Session.load().settings.home == tmp_path / "other"


def test_settings_of_the_whole_tree_count_where_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Session.load(tmp_path)
    assert plain.credentials.control_url == "http://127.0.0.1:8001"
    monkeypatch.setenv("COMPUTILITY_CONTROL__PORT", "9001")
    assert Session.load(tmp_path).credentials.control_url == "http://127.0.0.1:9001"
    monkeypatch.delenv("COMPUTILITY_CONTROL__PORT")
    (tmp_path / "computility.yaml").write_text("control: {urls: ['http://a:1', 'http://b:1']}\n")
    assert Session.load(tmp_path).credentials.control_url == "http://a:1"


@pytest.mark.parametrize("text", ["{", "[]", '{"contexts": 3}', '{"contexts": {"a": []}}'])
def test_a_file_that_holds_no_contexts_is_named(text: str) -> None:
    contexts_file().parent.mkdir(parents=True)
    contexts_file().write_text(text)
    with pytest.raises(InvalidInput, match=r"contexts\.json"):
        read_contexts()
