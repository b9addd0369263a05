"""What a workload is told when it waits: from resources in a store to the answer, one case per reason."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from common.resources.meta import Owner
from common.resources.pool import DeviceBudget, DeviceQuota, DeviceUse, QueueStatus
from common.resources.workload import PendingReason, Rollout, WorkloadAffinity, WorkloadStatus
from tests.unit.scheduler.pool_scene import GIB, MINUTE_MS, START_MS, PoolScene, devices

NEXT_MONDAY_MS = 1_700_438_400_000  # 2023-11-20T00:00Z; the clock stands in the week before


@dataclass(frozen=True)
class Case:
    """``build`` makes the pool and the workload ``w``; then this is what ``w`` is told."""

    build: Callable[[PoolScene], Awaitable[object]]
    code: str
    says: str
    remedy: str
    never: bool = False


async def vendor_mismatch(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.workload("w", request={"vendors": ["ascend"]})


async def model_mismatch(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.workload("w", request={"models": ["B200"]})


async def memory_too_large(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.workload("w", request={"memory_bytes": 120 * GIB})


async def busy(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.runs("other", "a", 0, 1, 2, 3, 4)
    await s.workload("w", request={"count": 4})


async def gang_too_large(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.workload("w", replicas=3, request={"count": 4})


async def gang_scattered(s: PoolScene) -> None:
    await s.node("a", devices("a"), labels={"rack": "one"})
    await s.node("b", devices("b"), labels={"rack": "two"})
    await s.workload("w", replicas=2, request={"count": 8}, affinity=WorkloadAffinity(same="rack"))


async def gang_scattered_now(s: PoolScene) -> None:
    for name, rack in (("a", "one"), ("b", "one"), ("c", "two")):
        await s.node(name, devices(name), labels={"rack": rack})
    await s.runs("other", "a", 0)
    await s.workload("w", replicas=2, request={"count": 8}, affinity=WorkloadAffinity(same="rack"))


async def queue_limit(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.queue("default", max_devices=4)
    await s.runs("other", "a", 0, 1, 2)
    await s.workload("w", request={"count": 2})


async def quota_exhausted(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    quota = DeviceQuota(device_class="nvidia", nominal_devices=4)
    await s.queue("research", quotas=[quota])
    await s.runs("other", "a", 0, 1, 2, queue="research")
    await s.workload("w", queue="research", request={"count": 2})


async def nothing_to_borrow(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.queue("company", cohort=True)
    for name, nominal in (("research", 2), ("serving", 6)):
        quota = DeviceQuota(device_class="nvidia", nominal_devices=nominal)
        await s.queue(name, parent="company", quotas=[quota])
    await s.runs("theirs", "a", 0, 1, 2, 3, 4, 5, queue="serving")
    await s.runs("ours", "a", 6, 7, queue="research")
    await s.workload("w", queue="research")


async def budget_spent(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    used = DeviceUse(device_class="nvidia/H100", week_seconds=36_000.0, month_seconds=36_000.0)
    budget = DeviceBudget(device_class="nvidia", device_hours=10)
    await s.queue("default", QueueStatus(used=[used], used_ms=START_MS), budgets=[budget])
    await s.workload("w")


async def cordoned(s: PoolScene) -> None:
    await s.node("a", devices("a"), cordoned=True)
    await s.workload("w")


async def lost(s: PoolScene) -> None:
    await s.node("a", devices("a"), ready=False)
    await s.workload("w")


async def on_probation(s: PoolScene) -> None:
    await s.node("a", devices("a"), flapping_until_ms=START_MS + MINUTE_MS)
    await s.workload("w")


async def unhealthy(s: PoolScene) -> None:
    await s.node("a", devices("a", 1, healthy=False, fault="XID 79"))
    await s.workload("w", request={"vendors": ["nvidia"]})


async def label_mismatch(s: PoolScene) -> None:
    await s.node("a", devices("a"), labels={"disk": "slow"})
    await s.workload("w", request={"node_labels": {"disk": "fast"}})


async def anti_affinity(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.runs("other", "a", 0, labels={"app": "db"})
    await s.workload("w", affinity=WorkloadAffinity(apart={"app": "db"}))


async def illegal_count(s: PoolScene) -> None:
    await s.node("a", devices("a", 16, vendor="ascend", model="Ascend910C", gib=64))
    await s.workload("w", request={"count": 3, "vendors": ["ascend"]})


async def unknown_queue(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.workload("w", queue="night")


async def forbidden_queue(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.queue("night")
    await s.project("q", "day")
    await s.workload("w", project="q", queue="night")


async def back_off(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    status = WorkloadStatus(restarts=3, attempt=3, next_start_ms=START_MS + 8000)
    await s.workload("w", status=status)


async def suspended(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.workload("w", suspend=True)


async def no_project(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    await s.workload("w", project="nobody")


async def still_stopping(s: PoolScene) -> None:
    await s.node("a", devices("a"))
    reason = PendingReason(code="StillStopping", message="waits for its previous processes to end")
    await s.workload("w", status=WorkloadStatus(pending=[reason], message=reason.message))


async def empty_pool(s: PoolScene) -> None:
    await s.workload("w")


CASES = {
    "vendor": Case(vendor_mismatch, "VendorMismatch", "no ascend device", "allow one of: nvidia", True),
    "model": Case(model_mismatch, "ModelMismatch", "no device of model B200", "allow one of: H100", True),
    "memory": Case(memory_too_large, "DeviceMemory", "120.0 GiB", "80.0 GiB", True),
    "busy": Case(busy, "DevicesBusy", "needs 4 devices on one node, at most 3 free", "1 more such device"),
    "gang": Case(gang_too_large, "GangSize", "2 of the gang's 3 ranks", "lower replicas", True),
    "scattered": Case(gang_scattered, "TopologyDomain", "no rack has room for all 2 ranks", "rack", True),
    "scattered-now": Case(gang_scattered_now, "TopologyDomain", "all 2 ranks in one rack", "workloads end"),
    "queue-limit": Case(queue_limit, "QueueLimit", "3 of maxDevices 4 are in use", "1 device of the queue"),
    "quota": Case(quota_exhausted, "QuotaExhausted", "has 4 nominal, 3 in use", "free in"),
    "cohort": Case(nothing_to_borrow, "CohortExhausted", "0 left to borrow in cohort company", "free in"),
    "budget": Case(budget_spent, "BudgetSpent", "10 of 10 device-hours", "2023-11-20 00:00 UTC"),
    "cordoned": Case(cordoned, "NodeCordoned", "waits for a node to be uncordoned", "uncordon a"),
    "lost": Case(lost, "NodeLost", "waits for a node to come back", "bring back a"),
    "probation": Case(on_probation, "NodeFlapping", "probation", "the probation of a ends"),
    "unhealthy": Case(unhealthy, "DeviceUnhealthy", "a device to become healthy", "a/0 on a (XID 79)"),
    "labels": Case(label_mismatch, "NodeLabels", "lacks the labels disk=fast", "label a node with", True),
    "apart": Case(anti_affinity, "AntiAffinity", "closed to it (affinity.apart)", "end"),
    "illegal": Case(illegal_count, "IllegalCount", "does not allow 3 devices", "1, 2, 4, 6", True),
    "queue": Case(unknown_queue, "QueueUnknown", "there is no queue night", "apply a Queue named night"),
    "back-off": Case(back_off, "BackOff", "restarted 3 times", "computility logs w"),
    "suspended": Case(suspended, "Suspended", "it is suspended", "spec.suspend to false"),
    "project": Case(no_project, "ProjectUnknown", "no project nobody", "apply a Project named nobody"),
    "forbidden": Case(forbidden_queue, "QueueNotAllowed", "may not use queue night", "use one of: day"),
    "stopping": Case(still_stopping, "StillStopping", "its previous processes to end", ""),
    "empty": Case(empty_pool, "NoNodes", "the pool has none", "a node joins"),
}


@pytest.mark.parametrize("name", CASES)
async def test_each_kind_of_waiting_has_its_one_reason(name: str) -> None:
    case, scene = CASES[name], PoolScene(policy={"preempt": False, "defragment": False})
    await scene.project()
    await case.build(scene)
    project = {"project": "nobody", "forbidden": "q"}.get(name, "p")
    answer = await scene.explain("w", project)
    assert answer.phase == "Pending"
    assert answer.reasons[0].code == case.code
    assert case.says in answer.reasons[0].message
    assert case.says in answer.message
    assert case.remedy in answer.remedy
    assert answer.never_fits == case.never
    assert (answer.eta_ms is None) == bool(answer.no_eta)


async def full_node(status: dict[str, object] | None = None) -> PoolScene:
    """Eight devices, all held by a workload of less importance."""
    scene = PoolScene(policy={"min_run_seconds": 0})
    await scene.project()
    await scene.node("a", devices("a"))
    await scene.runs("low", "a", *range(8), priority=-5, status=status)
    scene.clock.advance(1)
    return scene


async def test_preemption_in_progress_is_the_reason_before_and_while_the_victims_leave() -> None:
    before = await full_node()
    await before.workload("w", request={"count": 4}, priority=5)
    answer = await before.explain("w")
    assert (answer.reasons[0].code, answer.never_fits) == ("Preempting", False)
    assert "waits for 1 workload to give up" in answer.message
    meanwhile = await full_node({"phase": "Preempting", "leaves_by_ms": START_MS + 10_000})
    await meanwhile.workload("w", request={"count": 4}, priority=5)
    answer = await meanwhile.explain("w")
    assert answer.reasons[0].code == "Preempting"
    assert "give up their places already" in answer.message
    assert answer.remedy == "their grace periods end"


async def test_room_that_is_made_is_not_promised_to_others_who_ask_for_the_same() -> None:
    scene = await full_node({"phase": "Preempting", "leaves_by_ms": START_MS + 10_000})
    for name in ("first", "second"):
        await scene.workload(name, request={"count": 8}, priority=5)
    codes = [(await scene.explain(name)).reasons[0].code for name in ("first", "second")]
    assert codes == ["Preempting", "DevicesBusy"]


async def test_room_held_for_another_is_the_reason_and_that_one_is_not_named_to_strangers() -> None:
    scene = PoolScene(policy={"preempt": False, "defragment": False})
    await scene.project()
    await scene.project("theirs")
    await scene.node("a", devices("a"))
    await scene.runs("there", "a", *range(4), expected_seconds=600)
    await scene.workload("secret-plan", project="theirs", priority=1, request={"count": 8})
    await scene.workload("w", request={"count": 2})
    await scene.workload("short", request={"count": 2}, expected_seconds=60)
    held = await scene.explain("secret-plan", "theirs")
    assert held.reserved_ms == held.eta_ms == START_MS + 600_000
    answer = await scene.explain("w")
    assert answer.reasons[0].code == "HeldForOthers"
    assert "behind a workload of queue default" in answer.message
    assert "secret-plan" not in str(answer.to_dict())
    assert "expectedSeconds" in answer.remedy
    assert "fits now" in (await scene.explain("short")).message


async def test_filters_are_counted_over_the_nodes_behind_the_dominant_reason() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a", 4, vendor="ascend", model="Ascend910B", gib=64))
    await scene.node("b", devices("b"))
    await scene.node("c", devices("c"))
    await scene.workload("w", request={"count": 8, "vendors": ["ascend"]})
    answer = await scene.explain("w")
    assert [(reason.code, reason.nodes) for reason in answer.reasons] == [
        ("DeviceCount", 1),
        ("VendorMismatch", 2),
        ("DeviceCount", 1),
    ]
    assert "lower devices.count to at most 4" in answer.remedy
    assert answer.no_eta == "it never fits on this pool"


async def test_a_spent_budget_and_a_back_off_say_from_when_on() -> None:
    scene = PoolScene()
    await scene.project()
    await budget_spent(scene)
    assert (await scene.explain("w")).not_before_ms == NEXT_MONDAY_MS
    scene = PoolScene()
    await scene.project()
    await back_off(scene)
    assert (await scene.explain("w")).not_before_ms == START_MS + 8000
    scene.clock.advance(8)
    assert "fits now" in (await scene.explain("w")).message


async def test_the_place_in_the_queue_and_its_numbers() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    await scene.queue("company", cohort=True)
    for name, nominal in (("research", 2), ("serving", 6)):
        quota = DeviceQuota(device_class="nvidia", nominal_devices=nominal)
        await scene.queue(name, parent="company", quotas=[quota])
    await scene.runs("ours", "a", 0, 1, 2, 3, 4, queue="research")
    await scene.workload("first", queue="research", request={"count": 4}, priority=1)
    await scene.workload("elsewhere", queue="serving", request={"count": 8})
    await scene.workload("w", queue="research", request={"count": 4})
    answer = await scene.explain("w")
    assert (answer.position, answer.waiting) == (2, 2)
    numbers = answer.queue_numbers
    assert numbers is not None
    assert (numbers.nominal_millis, numbers.used_millis, numbers.borrowed_millis) == (2000, 5000, 3000)
    assert (numbers.pending, numbers.pending_millis, numbers.running) == (2, 8000, 1)
    assert numbers.share == pytest.approx(5 / 8)


async def test_what_runs_says_where_since_when_until_when_and_how_many() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    await scene.runs("w", "a", 0, 1, replicas=4, min_replicas=1, request={"count": 2}, expected_seconds=3600)
    answer = await scene.explain("w")
    assert (answer.phase, answer.since_ms, answer.expected_end_ms) == (
        "Running",
        START_MS,
        START_MS + 240 * MINUTE_MS,  # with one rank of four
    )
    assert [rank.node for rank in answer.ranks] == ["a"]
    size = answer.sizes[0]
    assert (size.role, size.ranks, size.least, size.most) == ("main", 1, 1, 4)
    assert (answer.position, answer.no_eta) == (None, "")


async def test_who_waits_is_told_when_it_is_expected_to_start() -> None:
    scene = PoolScene(policy={"preempt": False, "defragment": False})
    await scene.project()
    await scene.node("a", devices("a"))
    await scene.runs("there", "a", *range(8), expected_seconds=600)
    request = {"count": 8}
    for name in ("first", "second"):
        await scene.workload(name, request=request, expected_seconds=1200)
        scene.clock.advance(60)
    first, second = [await scene.explain(name) for name in ("first", "second")]
    assert first.eta_ms == first.reserved_ms == START_MS + 10 * MINUTE_MS
    assert (second.eta_ms, second.no_eta) == (START_MS + 30 * MINUTE_MS, "")
    await scene.workload("endless", request=request, priority=1)
    after = await scene.explain("first")
    assert (after.eta_ms, after.no_eta) == (None, "it does not start within the time that is looked ahead")


async def test_independent_replicas_are_told_what_the_first_of_them_waits_for() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    status = WorkloadStatus(phase="Running", message="1 of 2 replicas are ready")
    request = {"count": 8}
    group = await scene.workload(
        "w", replicas=2, request=request, status=status, rollout=Rollout(independent=True)
    )
    owner = Owner(kind="Workload", name="w", uid=group.metadata.uid)
    await scene.runs("w-main-0", "a", *range(8), owner=owner)
    await scene.workload("w-main-1", request=request, owner=owner)
    answer = await scene.explain("w")
    assert answer.message.startswith("1 of 2 replicas are ready; w-main-1: waits for running workloads")
    assert (answer.reasons[0].code, answer.position) == ("DevicesBusy", 1)


async def test_a_gang_that_is_told_to_end_says_by_when() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    status = {"phase": "Preempting", "leaves_by_ms": START_MS + 10_000, "message": "makes room for p/big"}
    await scene.runs("w", "a", 0, status=status)
    answer = await scene.explain("w")
    assert (answer.message, answer.leaves_by_ms) == ("makes room for p/big", START_MS + 10_000)


async def test_what_fits_now_says_so() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    await scene.workload("w")
    answer = await scene.explain("w")
    assert (answer.message, answer.eta_ms) == ("fits now: the next cycle places it", START_MS)
    assert answer.reasons == []


async def test_an_answer_is_worked_out_anew_when_something_has_changed() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.workload("w")
    assert (await scene.explain("w")).reasons[0].code == "NoNodes"
    await scene.node("a", devices("a"))
    assert (await scene.explain("w")).reasons == []
