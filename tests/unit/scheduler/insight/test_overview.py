"""The pool in numbers: what is held, idle, broken, out of reach and stranded."""

from common.resources import Workload
from common.resources.pool import DeviceBudget, DeviceQuota, DeviceUse, QueueStatus
from tests.unit.scheduler.pool_scene import GIB, START_MS, PoolScene, devices


async def mixed_pool() -> PoolScene:
    scene = PoolScene()
    await scene.project("p")
    await scene.project("q")
    busy = devices("a", 4, utilisation_percent=50, memory_used_bytes=40 * GIB, power_watts=300)
    await scene.node("a", busy)
    broken = devices("b", 4)
    broken[3] = broken[3].model_copy(update={"healthy": False, "fault": "XID 79"})
    await scene.node("b", broken)
    await scene.node("c", devices("c", 2, vendor="ascend", model="Ascend910B", gib=64), cordoned=True)
    await scene.runs("mine", "a", 0, 1, 2, expected_seconds=600)
    await scene.runs("theirs", "b", 0, project="q")
    return scene


async def test_each_model_is_summed_over_the_nodes() -> None:
    scene = await mixed_pool()
    pool = (await scene.insight.overview(lambda project: True)).pool
    assert pool is not None
    ascend, nvidia = pool
    assert (nvidia.vendor, nvidia.model, nvidia.nodes, nvidia.devices) == ("nvidia", "H100", 2, 8)
    assert (nvidia.unhealthy, nvidia.unavailable) == (1, 0)
    assert (nvidia.allocated_millis, nvidia.idle_millis, nvidia.capacity_millis) == (4000, 3000, 8000)
    assert (nvidia.utilisation_percent, nvidia.power_watts) == (50, 1200)
    assert (nvidia.memory_used_bytes, nvidia.memory_bytes) == (160 * GIB, 640 * GIB)
    assert (ascend.unavailable, ascend.idle_millis, ascend.utilisation_percent) == (2, 0, None)


async def test_stranded_is_what_no_usual_request_can_use() -> None:
    scene = await mixed_pool()
    await scene.workload("pairs", request={"count": 2, "vendors": ["nvidia"]}, suspend=False)
    overview = await scene.insight.overview(lambda project: True)
    assert overview.nodes is not None
    free = {row.name: (row.free_millis, row.stranded_millis) for row in overview.nodes}
    assert free == {"a": (1000, 1000), "b": (2000, 0), "c": (0, 0)}
    assert overview.nodes[0].name == "a"
    assert overview.totals is not None
    assert (overview.totals.nodes, overview.totals.ready) == (3, 2)
    assert (overview.totals.free_millis, overview.totals.stranded_millis) == (3000, 1000)


async def test_a_node_shows_each_device_and_its_state() -> None:
    scene = await mixed_pool()
    nodes = (await scene.insight.overview(lambda project: True)).nodes
    assert nodes is not None
    rows = {row.name: row for row in nodes}
    assert [device.held_percent for device in rows["a"].devices] == [100, 100, 100, 0]
    assert [device.healthy for device in rows["b"].devices] == [True, True, True, False]
    assert (rows["c"].state, rows["c"].models) == ("Cordoned", ["2x ascend/Ascend910B"])


async def test_workloads_are_those_that_may_be_seen_the_largest_first() -> None:
    scene = await mixed_pool()
    everything = (await scene.insight.overview(lambda project: True)).workloads
    assert everything is not None
    assert [(row.name, row.millis, row.expected_end_ms) for row in everything] == [
        ("mine", 3000, START_MS + 600_000),
        ("theirs", 1000, None),
    ]
    own = (await scene.insight.overview(lambda project: project == "q", nodes=False, queues=False)).to_dict()
    assert [row["name"] for row in own["workloads"]] == ["theirs"]
    assert own.keys() == {"atMs", "workloads"}


async def test_workloads_that_hold_as_much_come_by_age_then_by_project_and_name() -> None:
    scene = PoolScene()
    await scene.node("a", devices("a"))
    for place, (name, project, age_ms) in enumerate(
        [("b", "q", 0), ("a", "q", 0), ("z", "p", 0), ("y", "q", 60_000), ("x", "r", 60_000)]
    ):
        await scene.project(project)
        status = {"admitted_ms": START_MS - age_ms}
        await scene.runs(name, "a", place, project=project, status=status)
    rows = (await scene.insight.overview(lambda project: True)).workloads or ()
    assert [row.name for row in rows] == ["y", "x", "z", "a", "b"]


async def test_no_more_nodes_and_workloads_than_asked_for() -> None:
    scene = await mixed_pool()
    overview = await scene.insight.overview(lambda project: True, limit=1)
    assert (len(overview.nodes or ()), len(overview.workloads or ())) == (1, 1)
    assert overview.totals is not None
    assert overview.totals.nodes == 3


async def test_queues_are_counted_with_what_they_borrow_and_cohorts_with_all_below() -> None:
    scene = await mixed_pool()
    used = DeviceUse(device_class="nvidia/H100", week_seconds=1800.0)
    await scene.queue("company", cohort=True)
    await scene.queue(
        "research",
        QueueStatus(used=[used]),
        parent="company",
        quotas=[DeviceQuota(device_class="*", nominal_devices=1), DeviceQuota(device_class="nvidia")],
        budgets=[DeviceBudget(device_class="*", device_hours=1)],
    )
    quota = DeviceQuota(device_class="nvidia", nominal_devices=6)
    await scene.queue("serving", parent="company", quotas=[quota])
    await scene.runs("more", "b", 1, 2, queue="research")
    await scene.workload("waits", queue="serving", replicas=3, min_replicas=2, request={"count": 2})
    queues = (await scene.insight.overview(lambda project: True)).queues
    assert queues is not None
    rows = {row.name: row for row in queues}
    research, company = rows["research"], rows["company"]
    assert (research.nominal_millis, research.used_millis, research.borrowed_millis) == (1000, 2000, 1000)
    assert (research.budgets[0].spent_device_seconds, research.budgets[0].limit_device_seconds) == (
        1800,
        3600,
    )
    assert [quota.borrowed_millis for quota in rows["serving"].quotas] == [0]
    assert (rows["serving"].pending, rows["serving"].pending_millis) == (1, 4000)
    assert (company.cohort, company.used_millis, company.pending, company.running) == (True, 2000, 1, 1)
    assert {quota.device_class: quota.nominal_millis for quota in company.quotas} == {
        "*": 1000,
        "nvidia": 6000,
    }
    assert (company.nominal_millis, company.borrowed_millis) == (7000, 0)
    assert rows["default"].nominal_millis is None


async def test_what_no_quota_counts_is_not_shown_as_part_of_one() -> None:
    scene = PoolScene()
    await scene.project("p")
    await scene.node("a", devices("a", 2, vendor="cpu", model="EPYC"))
    await scene.queue("company", cohort=True)
    for name, device_class in (("all", "*"), ("own", "cpu")):
        quota = DeviceQuota(device_class=device_class, nominal_devices=1)
        await scene.queue(name, parent="company", quotas=[quota])
    await scene.runs("mine", "a", 0, 1, queue="all")
    queues = (await scene.insight.overview(lambda project: True)).queues
    rows = {row.name: row for row in queues or ()}
    assert (rows["all"].used_millis, rows["all"].covered_millis, rows["all"].nominal_millis) == (
        2000,
        0,
        1000,
    )
    assert rows["all"].borrowed_millis == 0
    assert (rows["company"].covered_millis, rows["company"].nominal_millis) == (2000, 2000)


async def test_the_numbers_are_those_of_the_workloads_in_the_store() -> None:
    scene = await mixed_pool()
    overview = await scene.insight.overview(lambda project: True)
    held = sum(
        grant.millis
        for workload in await scene.store.list(Workload)
        for rank in workload.status.ranks
        for grant in rank.grants
    )
    assert sum(row.allocated_millis for row in overview.pool or ()) == held
