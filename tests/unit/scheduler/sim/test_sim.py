"""The simulator carries out what the scheduler decides, counts progress and time right, and sees what is
wrong."""

from collections.abc import Callable, Sequence

import pytest

from common.errors import InvalidInput
from scheduler.core.model.types import (
    Admit,
    Assignment,
    Decision,
    Defer,
    Migrate,
    NodeView,
    Policy,
    Preempt,
    QueueView,
    Quota,
    Reason,
    Resize,
    Share,
    Tide,
)
from scheduler.core.placement.snapshot import Snapshot
from scheduler.sim.engine import simulate
from scheduler.sim.invariants import InvariantBroken
from scheduler.sim.jobs import Job, JobOutcome, NodeChange, RunState, TideChange, Turn
from scheduler.sim.options import Hooks, Options
from scheduler.sim.result import SimResult
from tests.unit.scheduler.sim_build import GIB, first_fit, gpu_job, gpu_node, play, then


def outcome(result: SimResult, name: str) -> JobOutcome:
    return next(o for o in result.outcomes if o.name == name)


def ranks_on(node: NodeView, *indexes: int) -> tuple[Assignment, ...]:
    return tuple(
        Assignment("main", n, n, node.name, (Share(node.devices[i].id, i, "nvidia", "A100", 80 * GIB),))
        for n, i in enumerate(indexes)
    )


def test_jobs_wait_run_and_end_on_the_virtual_clock() -> None:
    result = play([gpu_node("a")], [gpu_job("one", 4), gpu_job("two", 2, at_seconds=10)])
    one, two = outcome(result, "one"), outcome(result, "two")
    assert (one.first_start_ms, one.ended_ms, one.waited_seconds) == (0, 100_000, 0)
    assert (two.first_start_ms, two.ended_ms, two.waited_seconds) == (100_000, 200_000, 90)
    assert two.completion_seconds == 190
    assert two.reason == "NoRoom"
    assert result.totals.useful_device_seconds == 4 * 100 + 2 * 100
    # 400 device-seconds of the first 100 s and 200 of the second, of 4 devices for 1000 s
    assert result.utilisation() == pytest.approx(600 / 4000)
    assert list(result.series.values["model nvidia/A100"]) == [4, 2, *[0] * 8]
    assert result.series.values["pending"][0] == pytest.approx(0.9)


def test_the_same_input_gives_the_same_result() -> None:
    jobs = [gpu_job(f"j{n}", 1 + n % 3, 40 + 7 * n, at_seconds=5 * n) for n in range(30)]
    first, second = (play([gpu_node("a"), gpu_node("b")], jobs) for _ in range(2))
    assert first.summary() == second.summary()
    assert first.outcomes == second.outcomes


def test_a_preempted_job_loses_what_it_did_not_save_and_goes_on_from_there() -> None:
    script = then(
        {
            70: lambda snapshot: [Preempt("uid-long", "uid-other", "gives way")],
            80: lambda snapshot: [Defer("uid-long", (Reason("Held", "held"),), "wait")],
        }
    )
    jobs = [gpu_job("long", 4, 200, checkpoint_seconds=30, restart_seconds=20)]
    result = play([gpu_node("a")], [*jobs, gpu_job("tick", 1, 1, 70), gpu_job("tock", 1, 5, 90)], script)
    long = outcome(result, "long")
    assert long.preemptions == 1
    assert long.lost_device_seconds == 4 * 10  # it did 70 s and had saved 60
    # grace until 80 s; the short ones are through at 95 s; it restarts for 20 s and has 140 s to do
    assert long.waited_seconds == 15
    assert long.ended_ms == (95 + 20 + 140) * 1000
    assert long.useful_device_seconds == 4 * 200
    assert long.paused_device_seconds == 4 * (10 + 20)


def test_a_job_with_fewer_ranks_is_slower_in_proportion() -> None:
    def halve(snapshot: Snapshot) -> list[Decision]:
        held = snapshot.running[0].placement
        return [Resize("uid-wide", held[:2], "gives two back")]

    result = play(
        [gpu_node("a")],
        [gpu_job("wide", 4, 100, least=1, resize_seconds=10), gpu_job("two", 2, 5, at_seconds=50)],
        then({50: halve}),
    )
    # 50 s at full speed, 10 s of pause, 50 s of work at half speed
    assert outcome(result, "wide").ended_ms == (50 + 10 + 100) * 1000
    assert outcome(result, "wide").resizes == 1
    assert outcome(result, "wide").lost_device_seconds == 0
    assert outcome(result, "two").first_start_ms == 51_000, "room made by a resize is used soon"


def test_a_moved_job_goes_on_elsewhere() -> None:
    home, other = gpu_node("a"), gpu_node("b")
    move = then({50: lambda snapshot: [Migrate("uid-one", ranks_on(other, 0, 1), "makes room")]})
    result = play(
        [home, other],
        [gpu_job("one", 2, 100, restart_seconds=7), gpu_job("late", 4, 10, at_seconds=50)],
        move,
    )
    assert outcome(result, "one").ended_ms == 107_000
    assert outcome(result, "one").moves == 1
    assert outcome(result, "late").first_start_ms == 51_000


def test_what_ran_on_a_lost_node_starts_again_elsewhere() -> None:
    jobs = [gpu_job("one", 4, 100, checkpoint_seconds=0), gpu_job("two", 4, 100)]
    lost = NodeView("a", gpu_node("a").devices, alive=False)
    changes = [NodeChange(60_000, lost), NodeChange(500_000, gpu_node("a"))]
    options = Options(1000, start_ms=0)
    result = simulate(
        [gpu_node("a"), gpu_node("b")],
        [QueueView("default")],
        jobs,
        Policy(),
        options,
        first_fit,
        changes=changes,
    )
    hit = next(o for o in result.outcomes if o.failures)
    assert hit.lost_device_seconds == 4 * 60
    assert hit.ended_ms == 200_000
    assert sum(o.failures for o in result.outcomes) == 1


def test_a_broken_device_takes_down_only_its_own() -> None:
    node = gpu_node("a")
    broken = NodeView("a", (*node.devices[:3], _unhealthy(node)))
    result = simulate(
        [node],
        [QueueView("default")],
        [gpu_job(f"j{n}", 1, 100) for n in range(4)],
        Policy(),
        Options(1000, start_ms=0),
        first_fit,
        changes=[NodeChange(50_000, broken)],
    )
    assert sorted(o.failures for o in result.outcomes) == [0, 0, 0, 1]
    assert max(o.ended_ms or 0 for o in result.outcomes) == 170_000, "30 s were saved"


def _unhealthy(node: NodeView):  # type: ignore[no-untyped-def]
    last = node.devices[3]
    return type(last)(last.id, last.index, last.vendor, last.model, last.memory_bytes, healthy=False)


def test_cycles_can_be_batched_without_moving_events() -> None:
    result = play(
        [gpu_node("a")], [gpu_job("one", 4, 95), gpu_job("two", 4, 10, at_seconds=1)], batch_seconds=60
    )
    assert outcome(result, "one").ended_ms == 95_000
    assert outcome(result, "two").first_start_ms == 120_000


def test_figures_are_about_the_horizon_and_jobs_may_drain_after_it() -> None:
    jobs = [gpu_job("one", 4, 150), gpu_job("two", 4, 100)]
    cut = play([gpu_node("a")], jobs, horizon_seconds=200)
    assert outcome(cut, "two").ended_ms is None
    drained = play([gpu_node("a")], jobs, horizon_seconds=200, drain_seconds=1000)
    assert outcome(drained, "two").ended_ms == 250_000
    assert drained.utilisation() == cut.utilisation() == 1.0
    assert drained.totals == cut.totals
    assert cut.totals.useful_device_seconds == 4 * 200


def test_figures_may_begin_after_a_warm_up() -> None:
    jobs = [gpu_job("one", 4, 150), gpu_job("two", 2, 100)]
    warm = play([gpu_node("a")], jobs, warmup_seconds=100, horizon_seconds=100)
    assert (warm.start_ms, warm.end_ms) == (100_000, 200_000)
    assert warm.totals.useful_device_seconds == 4 * 50 + 2 * 50
    assert warm.utilisation() == pytest.approx(300 / 400)


class Ramp:
    """Starts a service at 10 s, and ends it when it has run for a minute; the tide follows."""

    def first_ms(self) -> int:
        return 10_000

    def act(self, now_ms: int, state: Callable[[str], RunState | None]) -> Turn:
        if now_ms == 10_000:
            service = gpu_job("service", 4, None, kind="inference")
            return Turn(submit=(service,), tides=(Tide("nvidia", 4000),), again_ms=70_000)
        seen = state("uid-service")
        assert seen is not None
        assert seen.started_ms == 10_000
        return Turn(end=("uid-service",), tides=())


def test_an_actor_submits_ends_and_moves_the_tide() -> None:
    seen: list[tuple[Tide, ...]] = []

    def decide(snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
        seen.append(policy.tides)
        return first_fit(snapshot, policy, now_ms)

    result = simulate(
        [gpu_node("a")],
        [QueueView("default")],
        [gpu_job("train", 4, 10, at_seconds=20)],
        Policy(),
        Options(1000, start_ms=0),
        decide,
        actors=[Ramp()],
        changes=[TideChange(500_000, (Tide("nvidia", 1000),))],
    )
    assert outcome(result, "train").first_start_ms == 70_000
    assert seen[0] == (Tide("nvidia", 4000),)
    assert seen[-1] == (Tide("nvidia", 1000),)
    assert result.series.values["inference"].sum() > 0


def test_forecasts_are_compared_with_what_happened() -> None:
    def forecast(snapshot: Snapshot, policy: Policy, now_ms: int) -> dict[str, int]:
        return {workload.uid: 110_000 for workload in snapshot.pending}

    result = simulate(
        [gpu_node("a")],
        [QueueView("default")],
        [gpu_job("one", 4, 100), gpu_job("two", 4, 100)],
        Policy(),
        Options(1000, start_ms=0, eta_seconds=50),
        first_fit,
        hooks=Hooks(forecast=forecast),
    )
    assert [(eta.uid, eta.started_ms) for eta in result.etas] == [("uid-two", 100_000)]
    assert result.summary()["eta"] == {"forecasts": 1, "median_relative_error_percent": 10.0}


def changed(home: NodeView, **more: object) -> tuple[Assignment, ...]:
    return tuple(a._replace(**more) for a in ranks_on(home, 0, 1))  # type: ignore[arg-type]


def shares_changed(node: NodeView, **more: object) -> tuple[Assignment, ...]:
    return tuple(
        a._replace(shares=(a.shares[0]._replace(**more),))  # type: ignore[arg-type]
        for a in ranks_on(node, 0, 1)
    )


WRONG: dict[str, Callable[[NodeView], Sequence[Decision]]] = {
    "DeviceOverused": lambda node: [
        Admit("uid-one", ranks_on(node, 0, 1)),
        Admit("uid-two", ranks_on(node, 1, 2)),
    ],
    "GangBroken": lambda node: [Admit("uid-one", ranks_on(node, 0))],
    "RankTwice": lambda node: [Admit("uid-one", (ranks_on(node, 0)[0], ranks_on(node, 1)[0]))],
    "RoleUnknown": lambda node: [
        Admit("uid-one", (*ranks_on(node, 0, 1), ranks_on(node, 2)[0]._replace(role="x")))
    ],
    "NotWaiting": lambda node: [Admit("uid-nobody", ranks_on(node, 0, 1))],
    "NotRunning": lambda node: [Preempt("uid-one", "uid-two", "")],
    "NodeUnusable": lambda node: [Admit("uid-one", changed(node, node="x"))],
    "DeviceUnusable": lambda node: [Admit("uid-one", shares_changed(node, device="x"))],
    "MemoryOverused": lambda node: [Admit("uid-one", shares_changed(node, memory_bytes=81 * GIB))],
}


@pytest.mark.parametrize("code", sorted(WRONG))
def test_a_wrong_decision_is_found_in_its_cycle(code: str) -> None:
    node = gpu_node("a")
    decide = then({5: lambda snapshot: WRONG[code](node)})
    jobs = [gpu_job("early", 4, 4), gpu_job("one", 2, at_seconds=5), gpu_job("two", 2, at_seconds=5)]
    with pytest.raises(InvariantBroken) as error:
        play([node], jobs, decide)
    assert error.value.code == code
    assert error.value.cycle == 3
    assert str(error.value).startswith(f"cycle 3: {code}: ")


@pytest.mark.parametrize(
    ("queues", "code"),
    [
        ([QueueView("default", max_devices=3)], "LimitExceeded"),
        ([QueueView("default", parent="all"), QueueView("all", 3, is_cohort=True)], "LimitExceeded"),
        ([QueueView("default", quotas=(Quota("nvidia", 3000),))], "QuotaExceeded"),
        (
            [
                QueueView("default", parent="all", quotas=(Quota("*", 1000, borrowing_millis=2000),)),
                QueueView("other", parent="all", quotas=(Quota("*", 4000),)),
                QueueView("all", is_cohort=True),
            ],
            "QuotaExceeded",
        ),
        (
            [
                QueueView("default", parent="all", quotas=(Quota("*", 2000),)),
                QueueView("other", parent="all", quotas=(Quota("*", 1000),)),
                QueueView("all", is_cohort=True),
            ],
            "QuotaExceeded",
        ),
    ],
)
def test_more_than_a_queue_may_have_is_found(queues: list[QueueView], code: str) -> None:
    with pytest.raises(InvariantBroken) as error:
        play([gpu_node("a")], [gpu_job("one", 4)], queues=queues)
    assert error.value.code == code


def test_a_start_later_than_promised_is_found() -> None:
    def promise(snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
        decided = first_fit(snapshot, policy, now_ms)
        return [
            Defer(d.uid, d.reasons, d.remedy, reserved_ms=100_000) if isinstance(d, Defer) else d
            for d in decided
        ]

    jobs = [gpu_job("one", 4, 500, expected_seconds=100), gpu_job("two", 4)]
    with pytest.raises(InvariantBroken, match="ReservationDelayed"):
        play([gpu_node("a")], jobs, promise, promises=True)
    kept = [gpu_job("one", 4, 90, expected_seconds=100), gpu_job("two", 4)]
    assert outcome(play([gpu_node("a")], kept, promise, promises=True), "two").first_start_ms == 90_000


def test_what_cannot_be_played_is_refused() -> None:
    with pytest.raises(InvalidInput):
        play([gpu_node("a")], [gpu_job("one"), gpu_job("one")])
    with pytest.raises(InvalidInput):
        play([gpu_node("a")], [], horizon_seconds=0)


def test_a_share_of_a_device_strands_the_rest_of_it() -> None:
    def place(snapshot: Snapshot) -> list[Decision]:
        (one,) = ranks_on(gpu_node("a"), 0)
        share = one.shares[0]._replace(millis=250, memory_bytes=GIB)
        return [Admit(w.uid, (one._replace(shares=(share,)),)) for w in snapshot.pending]

    result = play([gpu_node("a")], [gpu_job("part", 1, 1000)], then({0: place}))
    assert result.summary()["stranded_devices_mean"] == 0.75


def test_a_job_says_how_many_devices_it_asks_for() -> None:
    job: Job = gpu_job("one", 3)
    assert job.devices == 3


def test_preemptions_for_a_job_that_does_not_start_on_what_they_freed_are_counted() -> None:
    def wait(*nominated: Assignment) -> Defer:
        return Defer("uid-other", (Reason("Preempting", "waits"),), "they end", nominated=nominated)

    def played(then_it: Callable[[Snapshot], Sequence[Decision]]) -> int:
        node = gpu_node("a")
        script: dict[int, Callable[[Snapshot], Sequence[Decision]]] = {
            50: lambda _: [Preempt("uid-long", "uid-other", ""), wait(*ranks_on(node, 0, 1, 2, 3))],
            60: then_it,
        }
        jobs = [gpu_job("long", 4, 200), gpu_job("other", 4, 10, at_seconds=50)]
        return play([node], jobs, then(script)).useless_preemptions

    assert played(lambda _: [Admit("uid-other", ranks_on(gpu_node("a"), 0, 1, 2, 3))]) == 0
    assert played(lambda _: [Admit("uid-long", ranks_on(gpu_node("a"), 0, 1, 2, 3)), wait()]) == 1
