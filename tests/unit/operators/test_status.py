"""A status of control as Kubernetes shows it."""

import json
from typing import Any

import pytest

from operators.core.status import MAX_STATUS_BYTES, Synced, bounded, moment, status_of

NOW_MS = 1_700_000_000_000
APPLIED = Synced(True, "Applied", "control has it", 4)
REFUSED = Synced(False, "InvalidInput", "spec.model: required, but missing", 5)


def seen(generation: int = 2, observed: int = 2, **status: Any) -> dict[str, Any]:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "",
        "lastTransitionMs": NOW_MS - 5000,
        "observedGeneration": observed,
    }
    return {
        "metadata": {"generation": generation},
        "status": {"observedGeneration": observed, "conditions": [ready], **status},
    }


def by_type(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["type"]: c for c in status["conditions"]}


def test_conditions_are_of_the_custom_resources_generation() -> None:
    status = status_of(seen(), {}, APPLIED, NOW_MS)
    ready = by_type(status)["Ready"]
    assert ready["observedGeneration"] == 4 == status["observedGeneration"]
    assert ready["lastTransitionTime"] == "2023-11-14T22:13:15Z"
    stale = by_type(status_of(seen(3, 2), {}, APPLIED, NOW_MS))["Ready"]
    assert stale["observedGeneration"] == 3


def test_a_refusal_keeps_what_was_observed_before() -> None:
    old = status_of(seen(), {}, APPLIED, NOW_MS)
    status = status_of(seen(), old, REFUSED, NOW_MS + 9000)
    assert status["observedGeneration"] == 4
    synced = by_type(status)["Synced"]
    assert (synced["status"], synced["reason"], synced["message"]) == (
        "False",
        "InvalidInput",
        "spec.model: required, but missing",
    )


def test_time_moves_only_with_the_status() -> None:
    first = status_of(None, {}, REFUSED, NOW_MS)
    again = status_of(None, first, Synced(False, "NotFound", "gone", 5), NOW_MS + 9000)
    assert by_type(again)["Synced"]["lastTransitionTime"] == moment(NOW_MS)
    better = status_of(None, again, APPLIED, NOW_MS + 9000)
    assert by_type(better)["Synced"]["lastTransitionTime"] == moment(NOW_MS + 9000)


def test_the_same_again_is_the_same() -> None:
    first = status_of(seen(message="a"), {}, APPLIED, NOW_MS)
    assert status_of(seen(message="a"), json.loads(json.dumps(first)), APPLIED, NOW_MS + 60_000) == first


def test_engines_are_counted_for_the_scale_subresource() -> None:
    assert status_of(seen(replicas=[{}, {}]), {}, APPLIED, NOW_MS)["currentReplicas"] == 2
    assert "currentReplicas" not in status_of(seen(replicas=2), {}, APPLIED, NOW_MS)


def test_load_of_devices_is_left_out() -> None:
    device = {"id": "a", "powerWatts": 300, "memoryUsedBytes": 1}
    status = status_of(seen(devices=[device], memoryAvailableBytes=5), {}, APPLIED, NOW_MS)
    assert status["devices"] == [{"id": "a"}]
    assert "memoryAvailableBytes" not in status


def test_long_lists_lose_their_ends() -> None:
    ranks = [{"role": "worker", "rank": i, "node": "n" * 100} for i in range(4096)]
    status = status_of(seen(ranks=ranks, pending=[{"code": "x"}]), {}, APPLIED, NOW_MS)
    assert len(json.dumps(status)) <= MAX_STATUS_BYTES
    assert status["ranks"] == ranks[: len(status["ranks"])]
    assert status["truncated"] == ["ranks"]
    assert status["pending"] == [{"code": "x"}]


def test_what_cannot_be_cut_is_left_out() -> None:
    status = {"text": "x" * 100, "conditions": [1], "observedGeneration": 3}
    assert bounded(status, 50) == {"conditions": [1], "observedGeneration": 3}


def test_empty_texts_are_left_out() -> None:
    status = status_of(seen(state="", ranks=[{"node": "", "rank": 0}]), {}, APPLIED, NOW_MS)
    assert "state" not in status
    assert status["ranks"] == [{"rank": 0}]
    assert "message" not in by_type(status)["Ready"]


@pytest.mark.parametrize(
    "old",
    [
        {"conditions": [{"type": "Synced", "status": "True"}]},
        {"conditions": [{}]},
        {"conditions": None},
    ],
)
@pytest.mark.parametrize("said", [None, {}, {"conditions": None}, {"conditions": [{}]}])
def test_statuses_that_lack_anything_are_read(old: dict[str, Any], said: dict[str, Any] | None) -> None:
    status = status_of({"metadata": {}, "status": said}, old, Synced(True, "Applied", "", 1), 1000)
    assert status["conditions"][-1]["lastTransitionTime"] == "1970-01-01T00:00:01Z"
