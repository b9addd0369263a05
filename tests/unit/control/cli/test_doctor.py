"""What doctor says for what it finds."""

from pathlib import Path

import pytest

from common.client import Client
from common.errors import Forbidden, Unauthenticated, Unavailable
from common.settings import Settings, load_settings
from control.cli.doctor_checks import checks
from control.cli.doctor_checks.checks import Check, judge_devices
from control.cli.doctor_checks.loop_check import check_loops, judge_loops
from control.cli.doctor_checks.set_aside_check import check_set_aside, judge_set_aside
from control.cli.doctor_checks.usage_check import check_usage
from control.cli.machine.doctor import report, show
from inference.gateway.books.aside import keep_rejected

CPU = {"id": "c", "vendor": "cpu", "model": "EPYC", "healthy": True}
GPU = {"id": "GPU-1", "vendor": "nvidia", "model": "H100", "healthy": True}


def test_devices_are_counted_by_model() -> None:
    found = judge_devices({"devices": [GPU, {**GPU, "id": "GPU-2"}]})
    assert (found.level, found.message) == ("ok", "2× nvidia/H100")


def test_a_machine_with_only_a_cpu_is_fit_and_told_so() -> None:
    found = judge_devices({"devices": [CPU]})
    assert found.level == "ok"
    assert "run on the CPU" in found.message


def test_an_unhealthy_device_is_a_warning_and_none_a_failure() -> None:
    sick = judge_devices({"devices": [GPU, {**GPU, "id": "GPU-2", "healthy": False, "fault": "ECC"}]})
    assert (sick.level, "GPU-2: ECC" in sick.message) == ("warn", True)
    assert judge_devices({"devices": [], "faults": {"nvidia": "no driver"}}).level == "fail"


def test_missing_parts_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "ENGINES", ("no-such-engine",))
    found = checks.check_engine(load_settings(home=tmp_path))
    assert (found.level, "make setup" in found.advice) == ("fail", True)


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.os, "access", lambda *_: False)
    found = checks.check_home(load_settings(home=tmp_path / "sub"))
    assert (found.level, "--home" in found.advice) == ("fail", True)


def test_ports_that_a_killed_up_left_in_use_are_freed_by_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(home=tmp_path)
    monkeypatch.setattr(checks, "is_free", lambda host, port: False)
    monkeypatch.setattr(checks, "holder", lambda port: "python (pid 5)")
    assert "--gateway-port PORT" in checks.check_ports(settings).advice
    settings.folder("run").joinpath("instance").write_text("ins-1")
    monkeypatch.setattr(checks, "pids_of", lambda instance: {5} if instance == "ins-1" else set())
    found = checks.check_ports(settings)
    assert (found.level, found.advice) == ("fail", "`computility down` stops it")


def test_a_home_that_others_can_look_into_is_told(tmp_path: Path) -> None:
    assert checks.check_home(load_settings(home=tmp_path)).level == "ok"
    tmp_path.chmod(0o750)
    found = checks.check_home(load_settings(home=tmp_path))
    assert (found.level, f"chmod 700 {tmp_path}" in found.advice) == ("warn", True)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("gateway", "level"),
    [
        ({}, "ok"),
        ({"host": "::1"}, "ok"),
        ({"host": "0.0.0.0", "tls_certificate_file": "c", "tls_key_file": "k"}, "ok"),
        ({"host": "0.0.0.0", "allow_clear_text": True}, "warn"),
        ({"host": "10.0.0.7"}, "fail"),
    ],
)
def test_keys_that_cross_a_network_in_clear_are_told(
    tmp_path: Path, gateway: dict[str, object], level: str
) -> None:
    found = checks.check_listeners(load_settings(home=tmp_path, gateway=gateway))
    assert (found.level, "tls_certificate_file" in found.advice) == (level, level != "ok")


def test_the_report_fails_only_when_a_check_fails(capsys: pytest.CaptureFixture[str]) -> None:
    fine, bad = Check("a", "warn", "little", "add some"), Check("b", "fail", "none", "install it")
    assert report([fine])["ok"] is True
    assert report([fine, bad])["ok"] is False
    show([fine, bad])
    out = capsys.readouterr().out
    assert "→ install it" in out


def test_a_loop_whose_passes_fail_is_named_with_what_it_met() -> None:
    well = {"name": "endpoints", "trouble": ""}
    bad = {"name": "scheduler", "trouble": "the last 9 passes failed: OverflowError in scheduler/views.py:1"}
    found = judge_loops({"ready": False, "store": "ok", "loops": [well, bad]})
    assert found.level == "fail"
    assert found.message == f"scheduler: {bad['trouble']}"
    assert "log of control" in found.advice
    assert judge_loops({"ready": True, "store": "ok", "loops": [well]}).level == "ok"
    assert judge_loops({"ready": False, "store": "unreachable", "loops": [well]}).level == "fail"


def test_a_control_that_does_not_run_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(client: Client) -> None:
        raise Unavailable("cannot reach control")

    monkeypatch.setattr(Client, "ready", away)
    assert check_loops(load_settings(home=tmp_path)).level == "ok"


def test_control_is_asked_where_up_said_that_it_listens(tmp_path: Path) -> None:
    (tmp_path / "cli.json").write_text('{"control_url": "nonsense://elsewhere"}')
    assert "nonsense://elsewhere" in check_loops(load_settings(home=tmp_path)).message


def test_usage_that_was_set_aside_is_told_with_what_to_do(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert check_usage(settings).level == "ok"
    folder = settings.folder("spool") / "gateway-8000"
    folder.mkdir()
    keep_rejected(folder, [({"id": "use-1"}, "no such project"), ("{torn", "is no JSON")])
    found = check_usage(settings)
    assert (found.level, "2 in" in found.message) == ("warn", True)
    assert "put right" in found.advice


def test_stored_resources_that_are_set_aside_are_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {"kind": "Endpoint", "name": "odd", "project": "lab", "reason": "spec.priority: at most 1000000"}
    found = judge_set_aside([one, {"kind": "Tenant", "name": "t", "reason": "metadata.name: too long"}] * 4)
    assert (found.level, "DELETE /api/v1/set-aside" in found.advice) == ("warn", True)
    assert "Endpoint odd of project lab (spec.priority: at most 1000000)" in found.message
    assert "and 3 more" in found.message
    assert judge_set_aside([]).level == "ok"
    settings = load_settings(home=tmp_path, api_key="ck-x")
    for error in (Forbidden("no"), Unauthenticated("no"), Unavailable("away")):

        def ask(client: Client, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(Client, "set_aside", ask)
        assert check_set_aside(settings).level == "ok"
    assert check_set_aside(load_settings(home=tmp_path)).level == "ok"
