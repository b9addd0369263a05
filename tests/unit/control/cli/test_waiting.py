"""wait, rollout status, drain, finetunes watch: until something is so, on a clock that is told to move."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from common.client import Client
from common.clock import VirtualClock
from common.errors import ComputilityError, InvalidInput, NotFound, Unavailable
from control.cli.access.finetunes import follow
from control.cli.asking.kinds import kind_named
from control.cli.changes.nodes import until_empty
from control.cli.changes.waiting import judge_for, until
from control.console.told.moments import parse_span
from control.console.told.settling import progress_of

Answers = Iterator[list[dict[str, Any]]]


def client_of(answers: Answers) -> Client:
    """Each list that is asked for is the next."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"items": next(answers)})

    return Client("http://control", "ck", transport=httpx.MockTransport(answer))


def workload(phase: str, node: str = "vm", **status: Any) -> dict[str, Any]:
    metadata = {"name": "w", "project": "p", "generation": 2}
    return {
        "kind": "Workload",
        "metadata": metadata,
        "status": {"phase": phase, "ranks": [{"node": node}], **status},
    }


def waited(wanted: str, answers: Answers, seconds: float = 5) -> int:
    """Looks that it took."""
    clock, looks = VirtualClock(), 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        clock.advance(seconds)

    with client_of(answers) as client:
        until(client, kind_named("wl"), "w", None, judge_for(wanted), seconds, clock=clock, sleep=sleep)
    return looks


def test_it_is_waited_for_a_value_and_for_the_end() -> None:
    assert waited("status.phase=Running", iter([[], [workload("Pending")], [workload("Running")]])) == 2
    assert waited("delete", iter([[workload("Running")], []])) == 1


def test_a_condition_counts_where_it_is_of_the_newest_spec() -> None:
    def known(status: str, observed: int) -> list[dict[str, Any]]:
        found = {"type": "Ready", "status": status, "reason": "R", "observedGeneration": observed}
        return [workload("Running", conditions=[found])]

    assert waited("condition=Ready", iter([known("True", 1), known("False", 2), known("True", 2)])) == 2
    assert waited("condition=ready=false", iter([known("False", 2)])) == 0


def test_what_does_not_come_ends_with_what_is_there() -> None:
    def always() -> Answers:
        while True:
            yield [workload("Pending")]

    with pytest.raises(Unavailable, match=r"status\.phase is Pending"):
        waited("status.phase=Running", always())

    def never() -> Answers:
        while True:
            yield []

    with pytest.raises(NotFound):
        waited("status.phase=Running", never())


@pytest.mark.parametrize("text", ["", "ready", "condition=", "condition", "phase=Running", "status.phase"])
def test_what_cannot_be_waited_for_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--for"):
        judge_for(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("0", 0)]
)
def test_spans(text: str, seconds: int) -> None:
    assert parse_span(text, "--since") == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1w", "1h 5", "1m1h", "١h", "9" * 40])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--since"):
        parse_span(text, "--since")


def endpoint(observed: int, ready: str, answering: int, **replica: Any) -> dict[str, Any]:
    found = {"type": "Ready", "status": ready, "reason": "R", "message": "so", "observedGeneration": observed}
    return {
        "kind": "Endpoint",
        "metadata": {"name": "e", "generation": 3},
        "spec": {"model": "m", "replicas": 2},
        "status": {"conditions": [found], "readyReplicas": answering, "replicas": [replica]},
    }


@pytest.mark.parametrize(
    ("document", "content"),
    [
        (endpoint(2, "True", 2), False),
        (endpoint(3, "False", 0), False),
        (endpoint(3, "True", 1), False),
        (endpoint(3, "True", 2, draining=True), False),
        (endpoint(3, "True", 2), True),
        (workload("Starting", observedGeneration=2), False),
        (workload("Running", observedGeneration=1), False),
        (workload("Running", observedGeneration=2), True),
        ({"kind": "Tenant", "metadata": {"name": "t"}}, True),
    ],
)
def test_a_change_is_in_place_when_all_that_is_wanted_answers(
    document: dict[str, Any], content: bool
) -> None:
    assert progress_of(document)[0] is content


def test_an_endpoint_that_is_to_have_no_engine_is_in_place_once_it_has_none() -> None:
    document = endpoint(3, "False", 0, workload="e-0", phase="Ready", draining=True)
    document["spec"]["replicas"] = 0
    assert not progress_of(document)[0]
    document["status"]["replicas"] = []
    assert progress_of(document)[0]


def test_what_has_failed_is_not_waited_for() -> None:
    with pytest.raises(Unavailable, match="out of memory"):
        progress_of(workload("Failed", message="out of memory"))


@pytest.mark.parametrize(
    ("reason", "phase"), [("RollingOut", "CrashLoopBackOff"), ("RollingOut", "Failed"), ("PathNotFound", "")]
)
def test_a_change_that_never_comes_up_is_not_waited_for_while_old_engines_serve(
    reason: str, phase: str
) -> None:
    document = endpoint(3, "True", 1, workload="e-0", phase="Ready", outdated=True)
    document["status"]["conditions"][0].update(reason=reason, message="there is no folder /x")
    new = {"workload": "e-1", "phase": phase or "Pending", "message": "exit code 2: error: no such flag"}
    document["status"]["replicas"].append(new)
    with pytest.raises(Unavailable, match="no such flag" if phase else "no folder"):
        progress_of(document)


def test_a_model_that_cannot_be_served_is_told_at_once_and_what_was_said_of_the_last_one_does_not_count() -> (
    None
):
    found = {"type": "Ready", "status": "True", "reason": "Found", "message": "/x", "observedGeneration": 1}
    model = {"kind": "Model", "metadata": {"name": "m", "generation": 2}, "status": {"conditions": [found]}}
    assert not progress_of(model)[0]
    found["observedGeneration"] = 2
    assert progress_of(model)[0]
    found.update(status="False", reason="PathNotFound", message="there is no folder /x")
    with pytest.raises(Unavailable, match="no folder"):
        progress_of(model)


@pytest.mark.parametrize(
    ("reason", "replica", "told"),
    [
        ("NoReplicaReady", {"neverFits": True, "message": "no node has 8 devices"}, "no node has 8 devices"),
        ("NoReplicaReady", {"neverFits": True}, "it fits on no node"),
        ("TooLittleMemory", {}, "of weights on each device do not fit"),
    ],
)
def test_an_engine_that_fits_nowhere_is_not_waited_for(
    reason: str, replica: dict[str, Any], told: str
) -> None:
    document = endpoint(3, "False", 0, workload="e-0", phase="Pending", **replica)
    ready = document["status"]["conditions"][0]
    ready.update(reason=reason, message="15.0 GiB of weights on each device do not fit into 7.4 GiB")
    with pytest.raises(Unavailable, match=told):
        progress_of(document)
    document["status"]["replicas"][0]["outdated"] = True
    if reason != "TooLittleMemory":  # the one that leaves is no reason to give up
        assert not progress_of(document)[0]


def test_a_drain_ends_when_nothing_has_a_process_on_the_node() -> None:
    clock = VirtualClock()
    answers = iter(
        [
            [workload("Running"), workload("Running", node="b")],
            [workload("Migrating")],
            [workload("Succeeded")],
        ]
    )
    with client_of(answers) as client:
        until_empty(client, "vm", 9, clock=clock, sleep=clock.advance)
    assert next(answers, None) is None


def test_a_drain_that_does_not_end_names_what_stays() -> None:
    clock = VirtualClock()

    def always() -> Answers:
        while True:
            yield [workload("Running")]

    with client_of(always()) as client, pytest.raises(Unavailable, match="p/w"):
        until_empty(client, "vm", 3, clock=clock, sleep=clock.advance)


def job(state: str, step: int = 0) -> list[dict[str, Any]]:
    status = {"state": state, "step": step, "totalSteps": 4, "fineTunedModel": "ft:x", "errorMessage": "oh"}
    return [{"kind": "FineTune", "metadata": {"name": "ftjob-1", "project": "p"}, "status": status}]


def test_a_job_is_followed_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([job("queued"), job("running", 2), job("running", 2), job("succeeded", 4)])
    sleep: Callable[[float], None] = lambda seconds: None  # noqa: E731
    with client_of(answers) as client:
        follow(client, "ftjob-1", None, sleep=sleep)
    assert capsys.readouterr().out.splitlines() == [
        "queued 0/4",
        "running 2/4",
        "succeeded 4/4",
        "ftjob-1 succeeded: ft:x",
    ]
    with client_of(iter([job("failed")])) as client, pytest.raises(ComputilityError, match="oh"):
        follow(client, "ftjob-1", None, sleep=sleep)
