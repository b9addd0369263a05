"""Changes of an Endpoint of one replica, by real engines: no request is refused, and a change that does not
come up replaces nothing and says why.

These come last, since the engine has another name afterwards.
"""

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.fixtures.asking import asking, tokens, total, wait_for_more
from tests.fixtures.platform import USAGE_INTERVAL_SECONDS, Running
from tests.fixtures.probe import Probe, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROLLED_WITHIN_SECONDS = 240
CRASHES_TOLD_WITHIN_SECONDS = 240
"""Twice the time in which a real engine comes to read its arguments, on a busy machine."""
WRONG = "--no-such-flag"


@pytest.fixture(scope="module")
def platform(running_platform: Running) -> Iterator[Probe]:
    running_platform.wait_ready()
    probe = Probe(running_platform)
    yield probe
    probe.close()


def replicas(platform: Probe) -> dict[str, dict[str, Any]]:
    return {one["workload"]: one for one in platform.served()["status"]["replicas"]}


def changed(platform: Probe, **engine: Any) -> dict[str, Any]:
    """The Endpoint with other settings of its engines, to be applied."""
    document = deepcopy(platform.served())
    document.pop("status")
    document["metadata"].pop("resourceVersion", None)
    document["spec"]["engine"] |= engine
    return document


def test_a_change_of_the_only_engine_refuses_no_request_and_cuts_off_no_answer(platform: Probe) -> None:
    client, [old] = platform.member("roller"), replicas(platform)
    with asking(client, platform.model) as used:
        wait_for_more(used, 1)
        platform.admin.apply(changed(platform, args=["--max-num-seqs", "64"]))
        eventually(lambda: len(replicas(platform)) == 2, 30, "an engine beside the old one")
        words = ("rollout", "status", f"ep/{platform.endpoint}", "-p", platform.project)
        done = platform.cli(*words, timeout_seconds=ROLLED_WITHIN_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        wait_for_more(used, 3)
    [new] = replicas(platform)
    assert new != old
    events = platform.admin.events("Endpoint", platform.endpoint, platform.project, limit=1000)
    [replaced] = [one["message"] for one in events if one["reason"] == "EngineReplaced"]
    assert replaced.startswith(f"{old} was stopped, because it has other arguments than are wanted")
    platform.wait_posted()
    paid = platform.billed("roller")
    assert (paid["prompt_tokens"], paid["completion_tokens"]) == (total(used).prompt, total(used).completion)
    assert paid["requests"] == len(used)


def test_a_change_that_does_not_come_up_replaces_nothing_and_says_why(platform: Probe, tmp_path: Any) -> None:
    client, [old] = platform.member("survivor"), replicas(platform)
    where, file = ("-p", platform.project), tmp_path / "endpoint.yaml"
    file.write_text(yaml.safe_dump(changed(platform, args=[WRONG])))
    with asking(client, platform.model) as used:
        wait_for_more(used, 1)
        began = time.monotonic()
        limit = f"{CRASHES_TOLD_WITHIN_SECONDS}s"
        words = ("apply", "-f", str(file), "--wait", "--timeout", limit)
        waited = platform.cli(*words, timeout_seconds=2 * CRASHES_TOLD_WITHIN_SECONDS)
        told_after = time.monotonic() - began
        assert (waited.returncode, told_after < CRASHES_TOLD_WITHIN_SECONDS) == (6, True), waited.stderr
        [new] = set(replicas(platform)) - {old}
        texts = [
            waited.stderr,
            platform.cli("get", "ep", platform.endpoint, *where).stdout,
            platform.cli("describe", "ep", platform.endpoint, *where).stdout,
            platform.cli("explain", f"endpoint/{platform.endpoint}", *where).stdout,
            platform.cli("explain", new, *where).stdout,
            platform.cli("events", "wl", new, *where).stdout,
        ]
        for text in (" ".join(one.split()) for one in texts):
            assert "exit code 2" in text
            assert f"unrecognized arguments: {WRONG}" in text
        assert replicas(platform)[old]["ready"]
        check_that_pauses_cost_nothing(platform, new)
        undone = platform.cli("rollout", "undo", f"ep/{platform.endpoint}", *where)
        assert undone.returncode == 0, undone.stderr
        eventually(lambda: set(replicas(platform)) == {old}, 60, "the end of the new engine")
        wait_for_more(used, 1)


def check_that_pauses_cost_nothing(platform: Probe, crashing: str) -> None:
    """Between two starts only the other engine's device is billed."""
    eventually(lambda: platform.workload(crashing)["status"]["phase"] == "CrashLoopBackOff", what="a pause")
    time.sleep(2 * USAGE_INTERVAL_SECONDS)  # until what its last start used is metered
    status, begun = platform.workload(crashing)["status"], time.monotonic()
    metered = platform.billed()["device_seconds"]
    while platform.workload(crashing)["status"] == status and time.monotonic() - begun < 5:
        time.sleep(0.2)
    took = time.monotonic() - begun
    assert platform.billed()["device_seconds"] - metered <= took + 2 * USAGE_INTERVAL_SECONDS


def test_a_folder_that_is_not_there_is_told_at_once_and_stops_nothing(platform: Probe, tmp_path: Any) -> None:
    client, before = platform.member("keeper"), platform.served()
    [model] = [
        m
        for m in platform.admin.list("models", platform.project)
        if m["metadata"]["name"] == before["spec"]["model"]
    ]
    model.pop("status")
    model["metadata"].pop("resourceVersion")
    wrong, endpoint = deepcopy(model), changed(platform)
    wrong["spec"]["source"] = str(tmp_path / "nothing")
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump_all([wrong, endpoint]))
    try:
        began = time.monotonic()
        waited = platform.cli("apply", "-f", str(file), "--wait", "--timeout", "60s")
        assert (waited.returncode, time.monotonic() - began < 30) == (6, True), waited.stdout + waited.stderr
        assert "there is no folder" in waited.stderr
        assert tokens(
            client.chat.completions.create(
                model=platform.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4
            ).usage
        ).completion
    finally:
        platform.admin.apply(model)
    platform.running.wait_ready()
    assert [one["workload"] for one in platform.served()["status"]["replicas"]] == [
        one["workload"] for one in before["status"]["replicas"]
    ]
