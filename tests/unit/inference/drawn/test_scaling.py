"""How many engines there are to be, in drawn courses, and what is told of it, is what was approved."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.clock import VirtualClock
from common.load import EngineLoad, ReplicaLoad
from common.resources import Endpoint
from common.resources.meta import Metadata
from common.resources.scaling import AutoscalingSpec, EngineRole, RoleScaling, ScalingSchedule, ScalingTargets
from common.resources.serving import EndpointSpec, EndpointStatus, Replica
from common.wire import Demand, DemandReport
from inference.autoscaling import autoscaler
from inference.autoscaling import board as board_module
from inference.autoscaling.answers import explain_scaling
from inference.autoscaling.autoscaler import rest_after
from inference.autoscaling.board import DemandBoard
from inference.autoscaling.limits import is_open, rule_of
from inference.autoscaling.watch import EndpointWatch
from inference.core.autoscaling.choice import Candidate, choose_replicas
from inference.core.autoscaling.scaler import RoleScaler, Rule
from inference.core.autoscaling.signals import RoleLoad, Targets, counted, signals_of
from tests.fixtures import approving as approved
from tests.unit.inference.autoscaling.elastic_world import ElasticWorld

Patch = pytest.MonkeyPatch
INFINITE = float("inf")
MOMENTS_MS = (1_700_000_000_000, 1_700_040_000_000, 1_711_846_800_000, 1_711_850_400_000, 1_729_990_800_000)
"""Among them hours at which clocks are put forward or back in Berlin."""


def _told(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else approved.told(value)


def _choice(rng: random.Random, _: Patch) -> str:
    """Which engines stay."""
    indices = rng.sample(range(7), rng.randrange(7))
    candidates = [
        Candidate(
            f"e-{index}",
            index,
            rng.random() < 0.7,
            rng.random() < 0.3,
            rng.random() < 0.3,
            rng.choice((None, 0, 0, 1, 2)),
        )
        for index in indices
    ]
    return str(choose_replicas(candidates, rng.randrange(9), lambda index: f"new-{index}"))


def _load(rng: random.Random) -> RoleLoad:
    ready = rng.choice((0, 1, 2, 3, 8))
    telling = rng.choice((ready, ready, ready, max(0, ready - 1), 0))
    busy = rng.choice((0, 1, 4, 11)) if telling else 0
    return RoleLoad(
        ready,
        telling,
        busy * rng.choice((0, 1, telling)),
        rng.choice((0, 0, 1, telling, telling + 1, 2 * telling, 30)) if telling else 0,
        rng.choice((0.0, 0.5, 1.0)) * telling,
        rng.choice((None, None, 70.0, 70.5, 99.5, 100.0, 150.0, 400.0)),
        rng.choice((0, 0, 0, 0, 1, 3, 20)),
        rng.random() < 0.4,
    )


def _targets(rng: random.Random) -> Targets:
    return Targets(
        rng.choice((1.0, 4.0, 10.0)),
        rng.choice((0.0, 1.0, 2.0)),
        rng.choice((0.5, 1.0)),
        rng.choice((None, 100.0, 50.5)),
    )


def _signals(rng: random.Random, _: Patch) -> str:
    """What each sign of load asks for, in words and figures."""
    load = _load(rng)
    found = signals_of(load, _targets(rng))
    words = [counted(number, "engine") for number in (0, 0.5, 0.51, 1, 1.4, 1.6, 2)]
    return f"{load.is_known} {[(one.name, _told(one.replicas), one.text) for one in found]} {words}"


def _rule(rng: random.Random) -> Rule:
    least = rng.choice((0, 0, 1, 2))
    return Rule(
        _targets(rng),
        least,
        max(least, rng.choice((0, 1, 3, 8, 30))),
        rng.choice((0.0, 15.0, 60.0)),
        rng.choice((0.0, 10.0, 30.0)),
        rng.choice((10.0, 30.0, 60.0)),
        rng.choice(("Minimum", "Schedule")),
    )


def _scaler(rng: random.Random, _: Patch) -> str:
    """Looks at one role, one after the other."""
    now = 100.0
    scaler, rule, load = RoleScaler(rng.choice((0, 1, 2, 5)), now), _rule(rng), _load(rng)
    lines = []
    for _number in range(rng.choice((1, 4, 12, 24))):
        now += rng.choice((0.0, 5.0, 5.0, 5.0, 5.0, 10.0, 15.0, 15.0, 30.0, 60.0, 60.1, -1.0))
        if rng.random() < 0.4:
            load = _load(rng)
        if rng.random() < 0.05:
            rule = _rule(rng)
        decision = scaler.look(load, rule, now, may_sleep=rng.random() < 0.8)
        told = (decision.wanted, decision.reason, decision.message, decision.asked)
        inside = (
            scaler.active_seconds,
            scaler._changed_seconds,
            scaler._raised_seconds,
            scaler._since_seconds,
        )
        lines.append(f"{told} {scaler.wanted} {inside} {list(scaler._asked)} {list(scaler._last_asked)}")
    return "\n".join(lines)


def _schedule(rng: random.Random) -> ScalingSchedule:
    least = rng.choice((0, 1, 2, 3))
    return ScalingSchedule(
        window=rng.choice(("Mon-Fri 08:00-20:00", "22:00-06:00", "Sun 01:00-03:00", "Tue,Wed 00:00-24:00")),
        time_zone=rng.choice(("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York")),
        min_replicas=least,
        max_replicas=rng.choice((None, 3, 4)),
    )


def _autoscaling(rng: random.Random) -> AutoscalingSpec:
    return AutoscalingSpec(
        min_replicas=rng.choice((0, 0, 1, 2)),
        max_replicas=rng.choice((4, 6)),
        targets=ScalingTargets(
            requests_per_replica=rng.choice((2.0, 10.0)),
            queued_per_replica=rng.choice((0.0, 1.0)),
            kv_cache_use=rng.choice((0.5, 0.8)),
            ttft_milliseconds=rng.choice((None, 100.0)),
        ),
        scale_down_after_seconds=rng.choice((0, 15, 60)),
        cool_down_seconds=rng.choice((0, 10)),
        scale_to_zero_after_seconds=rng.choice((10, 30)),
        schedules=[_schedule(rng) for _ in range(rng.choice((0, 0, 1, 3)))],
    )


def _moment_ms(rng: random.Random) -> int:
    return rng.choice(MOMENTS_MS) + rng.choice((-1, 0, 1, 3_600_000 * rng.randrange(48)))


def _limits(rng: random.Random, _: Patch) -> str:
    """The rule that is in force at a time."""
    spec, now_ms = _autoscaling(rng), _moment_ms(rng)
    opened = [is_open(one, now_ms) for one in spec.schedules]
    return f"{opened} {_told(rule_of(spec, rng.choice((None, 250.0)), now_ms))}"


def _endpoint(rng: random.Random) -> Endpoint:
    gpu = {"vendors": ["nvidia"]}
    if rng.random() < 0.5:
        wish: dict[str, Any] = {"autoscaling": _autoscaling(rng)}
    else:
        both = _autoscaling(rng), rng.choice((_autoscaling(rng), None))
        if both[1] is None or both[0].may_sleep != both[1].may_sleep:
            both = both[0].model_copy(update={"min_replicas": 1}), both[1]
            both = both[0], both[1] and both[1].model_copy(update={"min_replicas": 1})
        wish = {"mode": "disaggregated"}
        for name, scaling in zip(("prefill", "decode"), both, strict=True):
            wish[name] = {"devices": gpu, "autoscaling": scaling}
    wish["slo"] = {"ttftMilliseconds": rng.choice((None, 100))}
    meta = Metadata(name="chat", project=rng.choice(("p", None)), uid="u")
    return Endpoint(metadata=meta, spec=EndpointSpec.model_validate({"model": "m", **wish}))


def _replica(rng: random.Random, role: EngineRole, number: int) -> ReplicaLoad:
    first = rng.randrange(4)
    load = EngineLoad(
        rng.choice((0, 0, 1, 5, 20)),
        rng.choice((0, 0, 0, 1, 2, 9)),
        rng.choice((0.0, 0.5, 0.8, 1.0, 2.5, -1.0)),
        rng.choice(((), ((0.1, first), (0.5, first + rng.choice((0, 3))), (INFINITE, first + 6)))),
        rng.choice((0, 0, 1, 2)),
    )
    return ReplicaLoad(f"{role}{number}", "nvidia/x", 1000, load if rng.random() < 0.9 else None)


def _watch(rng: random.Random, _: Patch) -> str:
    """Looks at an Endpoint, and what is told of each."""
    clock = VirtualClock(_moment_ms(rng))
    endpoint, watch, lines = _endpoint(rng), EndpointWatch(clock), []
    for _number in range(rng.choice((1, 6, 14))):
        clock.advance(rng.choice((0.0, 5.0, 5.0, 5.0, 15.0, 30.0, 61.0)))
        replicas = {
            role: [_replica(rng, role, number) for number in range(rng.choice((0, 1, 1, 2)))]
            for role in (*endpoint.spec.roles, *rng.choice(((), ("prefill",))))
        }
        demand = Demand(endpoint="p/chat", held=rng.choice((0, 0, 0, 1, 5)), active=rng.choice((0, 0, 1)))
        watch.look(endpoint, replicas, demand)
        for role, seen in watch.roles.items():
            lines.append(f"{role}: {_told(seen.load)} {seen.decision} {_told(seen.rule)} {seen.changed}")
        if rng.random() < 0.8:
            endpoint.status = _status(rng, watch, clock)
        now = clock.monotonic_seconds() + rng.choice((0.0, 2.5, -100.0))
        told = explain_scaling(endpoint, watch if rng.random() < 0.9 else None, now)
        lines.append(told.model_dump_json())
        if rng.random() < 0.1:
            endpoint.spec = _endpoint(rng).spec
    return "\n".join(lines)


def _status(rng: random.Random, watch: EndpointWatch, clock: VirtualClock) -> EndpointStatus:
    roles: tuple[EngineRole, ...] = ("", "prefill", "decode")
    return EndpointStatus(
        replicas=[
            Replica(
                workload=f"w{number}",
                role=rng.choice(roles),
                ready=rng.random() < 0.6,
                draining=rng.random() < 0.3,
            )
            for number in range(rng.choice((0, 2, 5)))
        ],
        scaling=[
            RoleScaling(
                role=role, wanted=seen.scaler.wanted, reason="R", message=f"m {role}", since_ms=clock.now_ms()
            )
            for role, seen in watch.roles.items()
            if rng.random() < 0.8
        ],
    )


def _board(rng: random.Random, patch: Patch) -> str:
    """What gateways tell of who waits, and what is known of it."""
    patch.setattr(board_module, "MAX_GATEWAYS", 3)
    clock = VirtualClock()
    board, lines = DemandBoard(clock), []
    for _number in range(rng.choice((1, 5, 20))):
        clock.advance(rng.choice((0.0, 0.0, 5.0, 10.0, 15.0, 15.001)))
        demands = [
            Demand(endpoint=name, held=rng.choice((0, 0, 1, 3)), active=rng.choice((0, 1, 2)))
            for name in rng.sample("abc", rng.randrange(4))
        ]
        board.report(DemandReport(gateway=rng.choice("ghijk"), demands=tuple(demands)))
        lines.append(
            f"{board._news.is_set()} {list(board._told)} {[_told(board.of(name)) for name in 'abc']}"
        )
        if rng.random() < 0.5:
            board._news.clear()
    return "\n".join(lines)


def _rests(_: random.Random, __: Patch) -> str:
    return str([rest_after(seconds / 16) for seconds in range(40)])


WORLDS: dict[str, tuple[Callable[[random.Random, Patch], str], int, int]] = {
    "choices": (_choice, 400, 6),
    "signals": (_signals, 400, 4),
    "courses of a role": (_scaler, 1200, 2),
    "limits": (_limits, 300, 3),
    "looks": (_watch, 250, 1),
    "demands": (_board, 200, 2),
    "rests": (_rests, 1, 1),
}


@pytest.mark.parametrize("name", WORLDS)
def test_how_many_engines_there_are_to_be_is_what_was_approved(name: str, monkeypatch: Patch) -> None:
    ask, draws, read = WORLDS[name]
    answers = [ask(random.Random(seed), monkeypatch) for seed in range(draws)]
    approved.check(Path(__file__).with_name("scaling.txt"), {name: approved.kept(answers, read)})


class _Course:
    """An Endpoint whose engines are as busy as is drawn."""

    def __init__(self, rng: random.Random, home: Path) -> None:
        self.rng = rng
        self.world = ElasticWorld(home)

    async def play(self, steps: int) -> str:
        rng, world, lines = self.rng, self.world, []
        least = rng.choice((0, 1))
        scaling = {
            "minReplicas": least,
            "maxReplicas": rng.choice((2, 4)),
            "targets": {"requestsPerReplica": 4},
            "scaleDownAfterSeconds": 15,
            "coolDownSeconds": rng.choice((0, 10)),
            "scaleToZeroAfterSeconds": 30,
        }
        await world.begin(autoscaling=scaling)
        for _ in range(steps):
            await rng.choice(tuple(self._acts()))()
            await world.go(rng.choice((5.0, 10.0, 30.0)))
            world.work([rng.choice((0, 0, 1, 4, 9)) for _ in world.up])
            lines.append(await self._told())
        events = await world.store.events(kind="Endpoint")  # those of one millisecond in any order
        told = [(one.time_ms, one.level, one.reason, one.message, one.project, one.data) for one in events]
        return "\n".join([*lines, *sorted(map(str, told))])

    def _acts(self) -> Iterator[Callable[[], Awaitable[None]]]:
        async def nothing() -> None:
            """Time goes by."""

        async def hold() -> None:
            self.world.hold(self.rng.choice((0, 1, 5)), self.rng.choice("gh"))

        async def restart() -> None:
            self.world.restart_autoscaler()

        async def silent() -> None:
            for url in sorted(self.world.engines.running)[:1]:
                self.world.engines.running[url].load = None

        yield from (nothing, nothing, nothing, hold, hold, restart, silent)

    async def _told(self) -> str:
        endpoint = await self.world.endpoint()
        status = endpoint.status
        replicas = [(one.workload, one.ready, one.draining, one.phase) for one in status.replicas]
        watch = self.world.autoscaler.watch_of(endpoint)
        told = explain_scaling(endpoint, watch, self.world.clock.monotonic_seconds())
        scaling = [one.model_dump_json() for one in status.scaling]
        return f"{scaling} {replicas} {await self.world.served()} {told.model_dump_json()}"


async def test_endpoints_follow_their_load_as_approved(tmp_path: Path) -> None:
    answers = []
    for seed in range(10):
        home = tmp_path / str(seed)
        home.mkdir()
        answers.append(await _Course(random.Random(seed), home).play(8))
    file = Path(__file__).with_name("scaling.txt")
    approved.check(file, {"courses of Endpoints": approved.kept(answers, 1)})


async def test_looks_wait_for_news_no_longer_than_to_the_next_one(monkeypatch: Patch, tmp_path: Path) -> None:
    """After each look there is a rest, and then a wait for somebody who waits."""
    scaler, stop, waits = ElasticWorld(tmp_path).autoscaler, asyncio.Event(), list[float]()

    async def news(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            stop.set()

    async def step() -> None:
        if len(waits) == 1:
            raise ValueError("a bad look")

    monkeypatch.setattr(scaler.board, "news", news)
    monkeypatch.setattr(scaler, "step", step)
    monkeypatch.setattr(autoscaler, "rest_after", lambda computed: 0.01)
    async with asyncio.timeout(5):
        await scaler.run(stop)
    assert waits == [autoscaler.LOOK_SECONDS - 0.01] * 3
