"""An engine of two ranks, as if on two nodes (here both on this one), answers like one of one rank, and ends
and comes back as a whole."""

from collections.abc import Iterator
from typing import Any

import openai
import psutil
import pytest

from common.resources.meta import API_VERSION
from tests.fixtures.platform import Running
from tests.fixtures.probe import Probe, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NAME = "wide"
UP_WITHIN_SECONDS = 300
ASK: Any = {
    "messages": [{"role": "user", "content": "Tell me a long story about a small town."}],
    "max_tokens": 24,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def platform(running_platform: Running) -> Iterator[Probe]:
    running_platform.wait_ready()
    probe = Probe(running_platform)
    model = running_platform.status()["spec"]["model"]
    spec = {
        "model": model,
        "servedName": NAME,
        "nodes": 2,
        "devices": {"vendors": ["cpu"], "count": 0},
        "engine": {"maxAdapters": 0, "maxContextTokens": 512, "args": ["--enforce-eager"]},
    }
    metadata = {"name": NAME, "project": probe.project}
    probe.admin.apply({"apiVersion": API_VERSION, "kind": "Endpoint", "metadata": metadata, "spec": spec})
    yield probe
    probe.admin.delete("endpoints", NAME, probe.project)
    eventually(lambda: not _workloads(probe), 60, "the end of the engine")
    probe.close()


def _workloads(platform: Probe) -> list[Any]:
    workloads = platform.admin.list("workloads", platform.project)
    return [one for one in workloads if one["metadata"]["name"] == f"{NAME}-0"]


def _answer(client: Any, model: str) -> Any:
    """None while nobody answers for it."""
    try:
        return client.chat.completions.create(model=model, **ASK)
    except (openai.NotFoundError, openai.InternalServerError):
        return None


def _processes(workload: Any) -> list[psutil.Process]:
    launchers = [psutil.Process(rank["pid"]) for rank in workload["status"]["ranks"]]
    return [process for one in launchers for process in (one, *one.children(recursive=True))]


def test_an_engine_of_two_ranks_answers_like_one_and_is_restarted_whole(platform: Probe) -> None:
    client = platform.member("wide-reader")
    eventually(lambda: _answer(client, NAME) is not None, UP_WITHIN_SECONDS, "the engine of two ranks")
    wide, single = _answer(client, NAME), _answer(client, platform.model)
    assert wide.choices[0].message.content == single.choices[0].message.content != ""
    assert wide.usage.to_dict() == single.usage.to_dict()

    before = platform.workload(f"{NAME}-0")
    ranks = {rank["role"]: rank for rank in before["status"]["ranks"]}
    assert {role: rank["state"] for role, rank in ranks.items()} == {"engine": "Ready", "worker": "Running"}
    processes = _processes(before)
    psutil.Process(ranks["worker"]["pid"]).children()[0].kill()
    eventually(lambda: not any(p.is_running() for p in processes), 60, "the end of all of its processes")
    eventually(lambda: _answer(client, NAME) is not None, UP_WITHIN_SECONDS, "its return")
    after = platform.workload(f"{NAME}-0")["status"]
    assert (after["attempt"], after["restarts"]) == (before["status"]["attempt"] + 1, 1)
    again = _answer(client, NAME)
    assert again.choices[0].message.content == wide.choices[0].message.content
