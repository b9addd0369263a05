"""logs, events, usage and top as people call them, and what is said of what was misspelt."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from common.environment import PREFIX
from common.errors import InvalidInput
from common.resources import parse_resource
from control.cli.asking.misspelt import odd_variables, setting_names
from control.console.formats import Output
from control.console.told.event_stream import follow_events
from tests.unit.control.cli.test_commands import Answer, control, error, items, run

__all__ = ["control"]
Install = Callable[[Answer], list[httpx.Request]]
NOTHING = {"group_by": ["tenant"], "rows": [], "total": {"events": 0}}


def of_attempt(attempt: int, printed: str) -> Answer:
    workload = {"metadata": {"name": "tiny-0", "project": "search"}, "status": {"attempt": attempt}}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=printed) if request.url.path.endswith("/logs") else items(workload)

    return answer


def test_the_start_before_is_asked_for_by_its_number(control: Install) -> None:
    seen = control(of_attempt(3, "a\n"))
    assert run("logs", "tiny-0", "-p") == 0
    assert seen[-1].url.params["attempt"] == "2"
    assert run("logs", "tiny-0", "-n", "search", "--previous", "-f") == 0
    assert run("logs", "tiny-0", "-p", "--attempt", "1") == 2
    control(of_attempt(1, ""))
    assert run("logs", "tiny-0", "-p") == 4


def test_a_span_of_time_is_asked_for_in_seconds(control: Install) -> None:
    seen = control(of_attempt(3, "a\n"))
    assert run("logs", "tiny-0", "--since", "10m", "--timestamps") == 0
    params = seen[-1].url.params
    assert (float(params["since_seconds"]), params["timestamps"]) == (600.0, "true")
    assert run("logs", "tiny-0") == 0
    assert not {"since_seconds", "timestamps"} & set(seen[-1].url.params)
    assert run("logs", "tiny-0", "--since", "lately") == 2


def test_a_start_that_has_printed_nothing_points_to_the_one_before(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    control(of_attempt(2, ""))
    assert run("logs", "tiny-0") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "logs tiny-0 -p" in shown.err


def event(number: int) -> dict[str, Any]:
    about = {"kind": "Workload", "name": "w", "level": "info", "reason": "Started", "message": f"m{number}"}
    return {"id": f"e{number}", "timeMs": 1, **about}


@pytest.mark.parametrize("output", [Output.JSON, Output.TABLE])
def test_events_are_followed_from_the_last_one_seen(
    output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str | None] = []
    answers = iter([[event(2)], [], [event(3)]])

    def ask(*, after: str | None = None) -> Sequence[dict[str, Any]]:
        asked.append(after)
        found = next(answers, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    follow_events([event(1)], ask, output, sleep=lambda seconds: None)
    assert asked == ["e1", "e2", "e2", "e3"]
    lines = capsys.readouterr().out.splitlines()
    if output is Output.JSON:
        assert [json.loads(line)["message"] for line in lines] == ["m1", "m2", "m3"]
    else:
        assert [line.split()[-1] for line in lines] == ["MESSAGE", "m1", "m2", "m3"]


def test_events_of_what_is_not_there_are_no_empty_table(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    control(lambda request: items())
    assert run("events", "ep", "nope") == 4
    assert run("events") == 0
    assert "none" in capsys.readouterr().out


def test_usage_since_is_a_moment_and_of_no_project_is_an_error(control: Install) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "projects" in request.url.path:
            return error(404, "not_found", "there is no Project nope")
        return httpx.Response(200, json=NOTHING)

    seen = control(answer)
    assert run("usage", "--since", "24h") == 0
    assert seen[0].url.params["from"].endswith("Z")
    assert run("usage", "--since", "1h", "--from", "2026-01-01T00:00:00Z") == 2
    assert run("usage", "-p", "nope") == 4


def test_what_ends_by_a_command_of_its_own_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, command in (("key", "keys revoke x"), ("file", "files delete x")):
        assert run("--key", "ck", "delete", kind, "x") == 2
        assert command in capsys.readouterr().err


def test_top_as_json_and_yaml(control: Install, capsys: pytest.CaptureFixture[str]) -> None:
    control(lambda request: httpx.Response(200, json={"pool": []}))
    assert run("top", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"pool": []}
    assert run("top", "-o", "yaml") == 0
    assert capsys.readouterr().out == "pool: []\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("COMPUTILITY_GATEWAY_PORT", "did you mean COMPUTILITY_GATEWAY__PORT?"),
        ("COMPUTILITY_FOO", "is no setting"),
        ("COMPUTILITY_HOEM", "did you mean COMPUTILITY_HOME?"),
    ],
)
def test_a_variable_that_is_no_setting_is_named(name: str, said: str) -> None:
    [line] = odd_variables({name: "1", "PATH": "/bin"})
    assert line.startswith(f"{name} ")
    assert said in line


def test_every_setting_is_known_and_misspelt_with_one_underscore_is_found() -> None:
    names = setting_names()
    assert {"COMPUTILITY_HOME", "COMPUTILITY_GATEWAY__PORT"} <= names
    assert odd_variables(dict.fromkeys(names, "1")) == []
    for name in names:
        wrong = PREFIX + name.removeprefix(PREFIX).replace("__", "_")
        if "__" in name and wrong not in names:
            assert "did you mean" in odd_variables({wrong: "1"})[0]


def test_services_of_a_pod_and_tools_of_ours_are_no_mistakes() -> None:
    assert odd_variables({"COMPUTILITY_GATEWAY_PORT": "tcp://1", "KUBERNETES_SERVICE_HOST": "1"}) == []
    assert odd_variables({"COMPUTILITY_SETUP_ENGINE": "none", "COMPUTILITY_HOME": "/x"}) == []


def test_a_word_that_is_misspelt_is_answered_with_the_nearest() -> None:
    document = {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Endpoint",
        "metadata": {"name": "e", "project": "p"},
        "spec": {"model": "m", "devices": {"vendors": ["nvida"]}},
    }
    with pytest.raises(InvalidInput, match=r"vendors\[0\].*did you mean nvidia\?"):
        parse_resource(document)
