"""What the lifecycle is told of a workload, what counts as news of its gang, and what there is room for."""

from dataclasses import replace
from typing import Any

import pytest

from common.resources import Metadata, Node, Workload
from common.resources.pool import NodeSpec, NodeStatus
from common.resources.workload import NextGang, Rollout, WorkloadRole, WorkloadSpec, WorkloadStatus
from scheduler.core.lifecycle.lifecycle import HOLDING, Seen
from scheduler.core.model.types import Assignment, Share
from scheduler.ports import Billing, GangRecord, RankRecord
from scheduler.translate.observed import Observed, _is_marked, seen_of
from scheduler.translate.room import Room
from scheduler.translate.views import roles_digest
from tests.fixtures.fabric import accelerator

ROLES = [
    WorkloadRole.model_validate(
        {"name": "main", "command": ["x"], "ports": ["http"], "readiness": {"port": "http"}}
    )
]
DIGEST = roles_digest(ROLES)
DEFAULT_GRACE_SECONDS = 30.0


def seen(phase: str = "Running", next_: NextGang | None = None, digest: str = DIGEST, **spec: Any) -> Seen:
    status = WorkloadStatus.model_validate({"phase": phase, "attempt": 1, "placedDigest": digest})
    status.next = next_
    workload = Workload(
        metadata=Metadata(name="w", project="p"), spec=WorkloadSpec(roles=ROLES, **spec), status=status
    )
    return seen_of(workload, [], [], Observed(), {}, DEFAULT_GRACE_SECONDS)


@pytest.mark.parametrize(("surge", "may"), [(0, False), (1, True), (2, True)])
def test_a_new_gang_starts_beside_the_old_one_where_one_may_be_more(surge: int, may: bool) -> None:
    assert seen(rollout=Rollout(max_surge=surge, max_unavailable=1)).may_surge is may


@pytest.mark.parametrize(("given", "grace"), [(None, DEFAULT_GRACE_SECONDS), (0, 0), (7, 7)])
def test_the_grace_is_its_own_or_else_the_default_one(given: int | None, grace: float) -> None:
    assert seen(grace_seconds=given).grace_seconds == grace


@pytest.mark.parametrize("phase", ["Pending", "Starting", "Running", "Ready", "Restarting", "Succeeded"])
def test_a_change_of_roles_counts_while_places_are_held(phase: str) -> None:
    assert seen(phase, digest="before").spec_changed is (phase in HOLDING)
    assert not seen(phase).spec_changed


@pytest.mark.parametrize(("digest", "usable"), [(DIGEST, True), ("before", False)])
@pytest.mark.parametrize("beside", [True, False])
def test_a_successor_of_roles_that_are_not_wanted_any_more_is_of_no_use(
    digest: str, usable: bool, beside: bool
) -> None:
    assert seen().successor is None
    found = seen(next_=NextGang(cause="Update", beside=beside, attempt=2, digest=digest, ranks=[])).successor
    assert found is not None
    assert (found.attempt, found.beside, found.usable, found.ranks) == (2, beside, usable, ())


RANK = RankRecord(0, "main", 0, "Running", "10.0.0.1", 5)
GANG = GangRecord("u", 1, "d", Billing("t", "p", "w"), (RANK, replace(RANK, rank=1)))


@pytest.mark.parametrize(
    ("new", "marked"),
    [
        (GANG, True),
        (replace(GANG, ranks=(replace(RANK, metered_spans=3), GANG.ranks[1])), True),
        (replace(GANG, stopping=True), False),
        (replace(GANG, digest="e"), False),
        (replace(GANG, ranks=GANG.ranks[:1]), False),
        (replace(GANG, ranks=(*GANG.ranks, replace(RANK, rank=2))), False),
        (replace(GANG, ranks=(replace(RANK, state="Exited"), GANG.ranks[1])), False),
        (replace(GANG, ranks=(RANK, replace(GANG.ranks[1], pid=7))), False),
    ],
)
def test_only_marks_of_posted_device_time_are_no_news(new: GangRecord, marked: bool) -> None:
    assert _is_marked(GANG, new) is marked


def room(slots: int = 1, healthy: bool = True, ready: bool = True, held: Any = (), **spec: Any) -> Room:
    device = accelerator("a", 0).model_copy(update={"slots": slots, "healthy": healthy})
    status = NodeStatus(devices=[device])
    status.set_condition("Ready", ready, "AgentAnswers", now_ms=1, generation=1)
    return Room([Node(metadata=Metadata(name="a"), spec=NodeSpec(**spec), status=status)], held)


def takes(millis: int, node: str = "a") -> tuple[Assignment, ...]:
    device = accelerator("a", 0)
    return (Assignment("main", 0, 0, node, (Share(device.id, 0, device.vendor, device.model, 1, millis),)),)


@pytest.mark.parametrize(
    ("of", "fits"),
    [
        ({}, True),
        ({"healthy": False}, False),
        ({"ready": False}, False),
        ({"cordoned": True}, False),
        ({"drain": True}, False),
        ({"held": [takes(1)]}, False),
        ({"held": [takes(1000, "b")]}, True),
        ({"held": [takes(500), takes(500)], "slots": 2}, True),
        ({"held": [takes(500), takes(501)], "slots": 2}, False),
    ],
)
def test_there_is_room_on_what_is_whole_and_not_held(of: dict[str, Any], fits: bool) -> None:
    assert room(**of).take(takes(1000)) is fits


def test_what_is_taken_is_taken_and_what_is_refused_takes_nothing() -> None:
    left = room()
    assert not left.take(takes(1001))
    assert not left.take(takes(600) + takes(401))
    assert left.take(takes(600))
    assert not left.take(takes(401))
    assert left.take(takes(400))
    assert not left.take(takes(1))
    assert left.take(takes(1000), instead_of=takes(1000)), "it has that already"
    assert not left.take(takes(1001), instead_of=takes(1000))
    assert left.take(())
    assert not room().take(takes(1, "elsewhere"))
