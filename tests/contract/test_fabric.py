"""What every fabric does: the one in memory that the loop's tests use, and the one on Ray."""

import time

import pytest

from common.clock import SYSTEM_CLOCK
from common.errors import Conflict, NotFound, Unavailable
from common.ids import new_id
from common.resources.workload import Grant
from scheduler.ports import Billing, Fabric, GangOrder, GangRecord, HostPort, RankOrder
from tests.fixtures.fabric import FakeFabric, accelerator
from tests.fixtures.waiting import eventually

NODE = "node-a"


@pytest.fixture(params=["memory", pytest.param("ray", marks=pytest.mark.integration)])
def fabric(request: pytest.FixtureRequest) -> Fabric:
    if request.param == "ray":
        found: Fabric = request.getfixturevalue("ray_fabric")
        return found
    return FakeFabric(SYSTEM_CLOCK, node_a=[accelerator(NODE, 0)], node_b=[accelerator("node-b", 0)])


def order(
    *command: str,
    uid: str = "",
    attempt: int = 1,
    world_size: int = 1,
    rank: int = 0,
    master: HostPort | None = None,
    beside: int | None = None,
) -> GangOrder:
    grant = Grant(device="node-a-nvidia-0", index=0, vendor="nvidia", model="H100")
    ranks = (RankOrder(rank, "main", 0, command or ("sleep", "600"), {}, ("http",), (grant,)),)
    billing = Billing(tenant="acme", project="p", workload="contract")
    return GangOrder(uid or new_id("uid"), attempt, world_size, "digest", billing, ranks, master, "", beside)


async def gang(fabric: Fabric, wanted: GangOrder, node: str = NODE) -> GangRecord | None:
    for seen in await fabric.nodes():
        for record in seen.gangs if seen.name == node else ():
            if (record.uid, record.attempt) == (wanted.uid, wanted.attempt):
                return record
    return None


async def ended(fabric: Fabric, wanted: GangOrder) -> GangRecord:
    async def is_over() -> bool:
        record = await gang(fabric, wanted)
        return record is not None and not record.alive

    await eventually(is_over)
    record = await gang(fabric, wanted)
    assert record is not None
    return record


async def test_nodes_come_by_name_with_their_devices(fabric: Fabric) -> None:
    nodes = await fabric.nodes()
    assert [node.name for node in nodes] == sorted(node.name for node in nodes)
    first = nodes[0]
    assert (first.name, first.state) == (NODE, "Alive")
    assert first.devices[0].model == "H100"
    assert first.address


async def test_a_gang_runs_and_is_started_only_once(fabric: Fabric) -> None:
    wanted = order()
    first = await fabric.ensure_gang(NODE, wanted)
    again = await fabric.ensure_gang(NODE, wanted)
    assert first.ranks[0].pid == again.ranks[0].pid
    record = await gang(fabric, wanted)
    assert record is not None
    rank = record.ranks[0]
    assert (rank.state, rank.exit_code) == ("Running", None)
    assert rank.ports["http"] > 0
    assert rank.grants[0].device == "node-a-nvidia-0"
    assert record.billing == wanted.billing
    assert record.master is None


async def test_a_second_attempt_waits_for_the_end_of_the_first(fabric: Fabric) -> None:
    first = order()
    second = order(uid=first.uid, attempt=2)
    await fabric.ensure_gang(NODE, first)
    with pytest.raises(Conflict):
        await fabric.ensure_gang(NODE, second)
    await fabric.stop_gang(NODE, first.uid, 1, 1.0)
    await ended(fabric, first)
    record = await fabric.ensure_gang(NODE, second)
    assert record.alive


async def test_the_next_attempt_may_run_beside_the_one_that_it_replaces(fabric: Fabric) -> None:
    first = order()
    await fabric.ensure_gang(NODE, first)
    second = await fabric.ensure_gang(NODE, order(uid=first.uid, attempt=2, beside=1))
    assert second.alive
    with pytest.raises(Conflict):
        await fabric.ensure_gang(NODE, order(uid=first.uid, attempt=3, beside=2))
    old = await gang(fabric, first)
    assert old is not None
    assert old.alive


async def test_each_device_has_a_series_of_samples(fabric: Fabric) -> None:
    series = await fabric.series(NODE)
    assert set(series) >= {"node-a-nvidia-0"}
    assert all(samples and samples[0].healthy for samples in series.values())
    for samples in series.values():
        times = [sample.time_ms for sample in samples]
        assert times == sorted(set(times)), "the oldest first, each once"
    with pytest.raises(NotFound):
        await fabric.series("nowhere")


async def test_exit_codes_and_the_last_lines_are_kept_until_forgotten(fabric: Fabric) -> None:
    wanted = order("sh", "-c", "echo done; exit 3")
    await fabric.ensure_gang(NODE, wanted)
    rank = (await ended(fabric, wanted)).ranks[0]
    assert (rank.state, rank.exit_code, rank.log_tail) == ("Exited", 3, "done")
    assert rank.finished_ms is not None
    assert rank.finished_ms >= rank.started_ms
    again = await fabric.ensure_gang(NODE, wanted)
    assert not again.alive, "a known gang is not started anew"
    await fabric.forget_gang(NODE, wanted.uid, 1)
    assert await gang(fabric, wanted) is None
    await fabric.forget_gang(NODE, wanted.uid, 1)


async def test_news_come_with_each_step_of_a_gang_and_not_without(fabric: Fabric) -> None:
    async def is_news(seconds: float) -> bool:
        began = time.monotonic()
        await fabric.news(seconds)
        return time.monotonic() - began < seconds

    wanted, lasting = order("sh", "-c", "echo done; exit 3"), order("sleep", "600")
    await fabric.nodes()
    await fabric.ensure_gang(NODE, lasting)
    assert await is_news(30)
    await fabric.nodes()
    await fabric.mark_metered(NODE, lasting.uid, 1, {0: 1})
    assert not await is_news(1.0), "marks of device time are no news"
    await fabric.ensure_gang(NODE, wanted)
    while (record := await gang(fabric, wanted)) is None or record.alive:
        assert await is_news(30)
    await fabric.forget_gang(NODE, wanted.uid, 1)
    assert await is_news(30)


async def test_what_lives_is_not_forgotten(fabric: Fabric) -> None:
    wanted = order()
    await fabric.ensure_gang(NODE, wanted)
    with pytest.raises(Conflict):
        await fabric.forget_gang(NODE, wanted.uid, 1)


async def test_stopping_is_repeatable_and_shows(fabric: Fabric) -> None:
    wanted = order()
    await fabric.ensure_gang(NODE, wanted)
    await fabric.stop_gang(NODE, wanted.uid, 1, 1.0)
    await fabric.stop_gang(NODE, wanted.uid, 1, 1.0)
    record = await ended(fabric, wanted)
    assert record.stopping
    assert record.ranks[0].exit_code == 143
    await fabric.stop_gang(NODE, "uid-unknown", 1, 1.0)


async def test_the_first_node_of_a_gang_picks_the_master(fabric: Fabric) -> None:
    first = order(world_size=2)
    record = await fabric.ensure_gang(NODE, first)
    assert record.master is not None
    assert record.master.port > 0
    second = order(uid=first.uid, world_size=2, rank=1, master=record.master)
    other = await fabric.ensure_gang("node-b", second)
    assert other.master == record.master


async def test_metering_marks_stay_with_the_gang(fabric: Fabric) -> None:
    wanted = order()
    await fabric.ensure_gang(NODE, wanted)
    await fabric.mark_metered(NODE, wanted.uid, 1, {0: 7})
    record = await gang(fabric, wanted)
    assert record is not None
    assert record.ranks[0].metered_spans == 7


@pytest.mark.parametrize(
    ("offset", "limit", "data", "following"),
    [(0, 100, b"hello\n", 6), (2, 2, b"ll", 4), (-3, 100, b"lo\n", 6), (99, 10, b"", 6)],
)
async def test_logs_are_read_in_pieces(
    fabric: Fabric, offset: int, limit: int, data: bytes, following: int
) -> None:
    wanted = order("sh", "-c", "echo hello; exit 0")
    await fabric.ensure_gang(NODE, wanted)
    await ended(fabric, wanted)
    chunk = await fabric.read_log(NODE, wanted.uid, 1, 0, offset, limit)
    assert (chunk.data, chunk.next_offset, chunk.size_bytes) == (data, following, 6)


async def test_what_is_not_there_is_said_so(fabric: Fabric) -> None:
    with pytest.raises(NotFound):
        await fabric.ensure_gang("nowhere", order())
    with pytest.raises(NotFound):
        await fabric.read_log(NODE, "uid-of-nothing", 1, 0, 0, 10)


async def test_orders_of_an_earlier_leader_are_refused(fabric: Fabric) -> None:
    first, second = order(), order()
    await fabric.nodes()
    await fabric.lead(7)
    await fabric.ensure_gang(NODE, first)
    await fabric.lead(8)
    await fabric.stop_gang(NODE, "nobody", 1, 0.0)
    await fabric.lead(7)
    for refused in (
        fabric.ensure_gang(NODE, second),
        fabric.stop_gang(NODE, first.uid, 1, 0.0),
        fabric.forget_gang(NODE, first.uid, 1),
    ):
        with pytest.raises(Unavailable) as error:
            await refused
        assert error.value.code == "not_leading"
    await fabric.lead(9)
    await fabric.nodes()
    record = await gang(fabric, first)
    assert record is not None
    assert record.alive
    assert not record.stopping
    assert await gang(fabric, second) is None


async def test_without_its_agents_a_fabric_shows_no_node_and_starts_nothing(fabric: Fabric) -> None:
    await fabric.ensure_gang(NODE, order())
    await fabric.dismiss_agents()
    await fabric.dismiss_agents()
    assert list(await fabric.nodes()) == []
    with pytest.raises(NotFound):
        await fabric.ensure_gang(NODE, order())
