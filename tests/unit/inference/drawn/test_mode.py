"""How an Endpoint of mode ``auto`` would be served, in drawn worlds, is what was approved."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from inference.core.mode import batching, candidates, pilot
from inference.core.mode.batching import BatchingEngine, Job, PassTimes
from inference.core.mode.candidates import capacity, fleet_of, role_variants
from inference.core.mode.decide import Assessed, Contender, Rules, Standing, decide_mode
from inference.core.mode.fleet import Fleet
from inference.core.mode.pilot import assess, latest, look
from inference.core.mode.rehearsal import Rehearsal, Stage, is_good
from inference.core.mode.replay import LeastWork, Replay
from inference.core.mode.traffic import LONGEST_TOKENS, ServedRequest, TrafficLog
from inference.core.performance.device_figures import Layout
from inference.core.performance.options import Leg, Mode, Option, Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import DECODE_SLOWER, Point, Traffic
from inference.core.performance.steps import Engine, NotKnown
from inference.core.performance.supply import Role
from tests.fixtures import approving as approved
from tests.fixtures.performance_scene import LLAMA_8B, shape
from tests.unit.inference.drawn import mode_scene as scene
from tests.unit.inference.drawn.mode_scene import FAST, SLOW

Patch = pytest.MonkeyPatch


def _told(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else approved.told(value)


class _Noted(LeastWork):
    """Routes as ``LeastWork`` does and notes what it is asked and told."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def choose(self, engines: Sequence[BatchingEngine], job: Job, now_seconds: float) -> BatchingEngine:
        taken = super().choose(engines, job, now_seconds)
        among = [one.number for one in engines]
        self._lines.append(f"{job.number} to {taken.number} of {among} at {_told(now_seconds)}")
        return taken

    def read(self, job: Job, engine: BatchingEngine) -> None:
        self._lines.append(f"{job.number} read by {engine.number}")

    def left(self, job: Job, engine: BatchingEngine) -> None:
        self._lines.append(f"{job.number} left {engine.number}")


def _job(job: Job) -> str:
    times = (job.at_seconds, job.first_seconds, job.last_seconds, job.delay_seconds, job.ttft_ms, job.itl_ms)
    return f"{job.number} {job.unread} {job.handed_over} {job.tokens} {' '.join(map(_told, times))}"


def _engine(one: BatchingEngine) -> str:
    counts = (one.number, one.role, one.unread_tokens, one.in_flight, one.version, one.is_idle)
    inside = (one._held, one._context, one._passes, len(one.waiting), len(one.reading), len(one.writing))
    return f"{counts} {inside} {one._stretch}"


def _replay(rng: random.Random, patch: Patch) -> str:
    """A course of requests on a few engines with little room, all that happens to each."""
    patch.setattr(batching, "STEP_TOKENS", rng.choice((64, 256)))
    patch.setattr(batching, "MOST_SEQUENCES", rng.choice((2, 4, 40)))
    source = scene.Source()
    times = {
        which: PassTimes(
            Engine(shape(LLAMA_8B), of.figures, Layout(1, rng.choice((1, 2)))),
            scene.Simple(which + 1.0, source.asked),
        )
        for which, of in enumerate((FAST, SLOW))
    }
    for one in times.values():
        one.kv_tokens = rng.choice((64, 128, 1024))
        one.dispatch_seconds = rng.choice((0.0, 0.0625))
    roles = rng.choice((("",), ("", ""), ("prefill", "decode"), ("prefill", "prefill", "decode", "decode")))
    roles = rng.choice((roles, roles, ("prefill",), ("prefill", "")))
    engines = [BatchingEngine(at, times[rng.randrange(2)], role) for at, role in enumerate(roles)]
    lines: list[str] = []
    done: list[Job] = []
    replay = Replay(engines, _Noted(lines), done.append, rng.choice((0, 32, 64)))
    at = 0.0
    for number in range(rng.choice((1, 2, 6, 20))):
        at += rng.choice((0.0, 0.008, 0.0625, 0.5))
        prompt, output = rng.choice((1, 31, 32, 61, 62, 63, 64, 65, 200)), rng.choice((1, 2, 3, 16))
        replay.until(at)
        lines += map(_engine, engines)
        replay.arrive(Job(number, at, prompt, output, rng.choice((1, prompt, prompt))))
        if rng.random() < 0.05:
            engines[0].role = rng.choice(("", "decode"))
    replay.until(float("inf"))
    sums = [f"{approved.digest(str(source.asked))} {[_told(one.kv_tokens) for one in times.values()]}"]
    return "\n".join([*lines, *map(_job, done), *map(_engine, engines), *sums])


def _passes(rng: random.Random, _: Patch) -> str:
    """What passes of an engine take, and what its source is asked: each size once."""
    source = scene.Source()
    layout = rng.choice((Layout(), Layout(1, 2), Layout(2)))
    times = PassTimes(Engine(shape(LLAMA_8B), FAST.figures, layout), source.steps(_engine_of(layout)))
    told: list[Any] = [times.kv_tokens, times.dispatch_seconds]
    for _number in range(12):
        sequences = rng.choice((0, 1, 2, 3, 64))
        context = sequences * rng.choice((1, 4, 7, 8, 12, 100, 191, 192, 255, 256, 257, 320, 511, 512, 700))
        prompt = rng.choice((1, 5, 100, 1000, 8192))
        tokens = max(1, int(prompt * rng.choice((0.25, 0.5, 1, 1.5, 2, 3))))
        told.append(times.reading(tokens, prompt, sequences, context))
        if sequences:
            told.append(times.decode(sequences, context))
        told.append(times.transfer_seconds(tokens, rng.choice((1e9, 12.5e9))))
    return " ".join(map(_told, told)) + f" {source.asked}"


def _engine_of(layout: Layout) -> Engine:
    return Engine(shape(LLAMA_8B), FAST.figures, layout)


RULES = [
    Rules(margin, hold, roles, engines, start, horizon)
    for margin, hold, roles in ((0.25, 30.0, 60.0), (0.25, 0.0, 60.0), (0.125, 60.0, 250.0))
    for engines, start, horizon in ((600.0, 1024.0, 2048.0), (120.0, 0.0, 2048.0), (60.0, 2048.0, 1024.0))
]
WORTHS = (-0.5, 0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.5, float("nan"), float("inf"))


def _fleets(rng: random.Random) -> list[Fleet]:
    """Some that have the same engines, and some that have other ones."""
    base = scene.fleet(rng, (FAST, SLOW))
    return [base, base.engines_only, *(scene.fleet(rng, (FAST, SLOW)) for _number in range(3))]


def _decision(rng: random.Random, _: Patch) -> str:
    """Looks one after the other at what some fleets are worth."""
    rules, fleets = rng.choice(RULES), _fleets(rng)
    lines, now = [f"{rules.most_in_an_hour}"], 10_000.0
    changes = tuple(
        (now - rng.choice((3600.0, 3599.0, 1800.0, 60.0, 30.0, 0.0, -30.0)), rng.random() < 0.5)
        for _number in range(rng.choice((0, 0, 1, 2, 3)))
    )
    since = (now, now - 30.0, now - 600.0, now + 30.0)
    held = [
        Contender(rng.choice(fleets), rng.choice(since), now - 5.0, rng.choice((0.3, 0.5)))
        for _number in range(rng.choice((0, 0, 1, 2)))
    ]
    standing = Standing(tuple(held), changes)
    present, worths = rng.choice(fleets), {one: rng.choice(WORTHS) for one in fleets}
    for _number in range(rng.choice((1, 2, 8))):
        others = [Assessed(one, worths[one], rng.choice(("", "good"))) for one in rng.sample(fleets, 3)]
        have = Assessed(present, worths[present], rng.choice(("", "fair")))
        verdict = decide_mode(have, others[: rng.choice((0, 1, 3, 3))], standing, rules, now)
        lines.append(f"{verdict.taken and verdict.taken.words} {verdict.standing} {verdict.reasons}")
        standing, present = verdict.standing, verdict.taken or present
        now += rng.choice((0.0, 15.0, 30.0, 30.0, 60.0, 3600.0, -10.0))
        if rng.random() < 0.3:
            worths = {one: rng.choice(WORTHS) for one in fleets}
    return "\n".join(lines)


def _fleet(rng: random.Random, _: Patch) -> str:
    """What is told of fleets, and what has to be started to go from one to the other."""
    one, other = scene.fleet(rng), scene.fleet(rng, (FAST, SLOW))
    counts = (one.engines, one.readers, one.devices, _told(one.cost), one.mode, one.restarts(other))
    groups = [(each.words, each.devices) for each in one.groups]
    return f"{one.words} {counts} {groups} {one.engines_only.words} {other.restarts(one)} {one == other}"


def _traffic(rng: random.Random, _: Patch) -> str:
    """What is kept of what came, and its profile."""
    log, lines = TrafficLog(rng.choice((8.0, 64.0, 600.0)), rng.choice((4, 40))), []
    now = 0.0
    for _number in range(rng.choice((1, 3, 20, 60))):
        now += rng.choice((0.0, 0.5, 1.0, 1.0, 8.0))
        began = now - rng.choice((0.0, 0.0, 1.0, 2.0, 8.0, -1.0, 1e3))
        prompt, output = (
            rng.choice((1, 2, 100, 300, LONGEST_TOKENS)),
            rng.choice((1, 1, 7, LONGEST_TOKENS)),
        )
        if rng.random() < 0.2:
            prompt, output = rng.choice(((0, 1), (1, 0), (LONGEST_TOKENS + 1, 1), (1, LONGEST_TOKENS + 1)))
        cached = rng.choice((0, 0, 1, prompt // 2, prompt, prompt + 1, -1))
        log.add(ServedRequest(rng.choice((began,) * 9 + (float("nan"),)), now, prompt, output, cached))
        if rng.random() < 0.3:
            told = [(one.started_seconds, one.prompt_tokens, one.cached_tokens) for one in log.recent(now)]
            lines.append(f"{now} {len(log._kept)} {told}")
            found = log.profile(now + rng.choice((0.0, 1.0, 100.0)))
            lines.append(f"{found and _told([*map(_told, vars_of(found)), found.words])}")
    one, other = scene.profile(rng), scene.profile(rng)
    lines.append(f"{one.words} {_told(one.moved_from(other))} {_told(other.moved_from(one))}")
    return "\n".join(lines)


def vars_of(found: Any) -> list[Any]:
    return [getattr(found, name) for name in type(found).__dataclass_fields__]


def _costs(one: Any) -> str:
    return f"{_told(one.reads)} {_told(one.writes)}"


def _variants(rng: random.Random, _: Patch) -> str:
    """Which roles are tried, what they cost, and what engines serve at all."""
    source = scene.Source()
    sources = [Roofline()] if rng.random() < 0.3 else [source]
    played, fleet = Stage(shape(LLAMA_8B), sources), scene.fleet(rng)
    requests, seen, limits = scene.served(rng, 12), scene.profile(rng), scene.slo(rng)
    lines = [fleet.words]
    try:
        times = [played.times(one.supply, one.layout) for one in fleet.groups]
        if rng.random() < 0.5:  # a limit that a batch meets to the last digit
            batch, middle = rng.choice((2, 4, 8, 16)), seen.prompt_tokens + seen.output_tokens // 2
            exact = 1e3 * (DECODE_SLOWER * times[0].decode(batch, batch * middle))
            limits = Slo(limits.ttft_ms, exact)
        costs = [candidates._costs(one, seen, limits) for one in times]
        lines += map(_costs, costs)
        for split in list(candidates._splits(fleet.engines_only, costs)):
            parts = [_told(candidates._busiest(split, costs, part)) for part in (1.0, 0.5, 0.0)]
            lines.append(f"{split.words} {parts}")
        lines += [one.words for one in role_variants(played, fleet, requests, seen, limits)]
        lines.append(_told(capacity(played, fleet, seen, limits)))
        some = role_variants(played, fleet, requests, seen, limits, rng.choice((0, 1, 3)))
        lines.append(str([one.words for one in some]))
    except NotKnown as unknown:
        lines.append(str(unknown))
    return "\n".join([*lines, str(source.asked)])


def _of_option(rng: random.Random, _: Patch) -> str:
    """The fleet that an option of the performance model is."""
    point = Point(4, 100.0, 10.0, 2.0, "x")
    of_legs: tuple[tuple[Role, ...], ...] = (
        ("serve",),
        ("prefill", "decode"),
        ("prefill", "decode", "decode"),
        ("serve", "serve"),
    )
    roles = rng.choice(of_legs)
    legs = tuple(
        Leg(role, rng.choice((FAST, FAST, SLOW)), rng.choice(scene.LAYOUTS[1:]), rng.choice((1, 2, 3)), point)
        for role in roles
    )
    mode: Mode = "disaggregated" if len(roles) > 1 else rng.choice(("single", "replicated"))
    made = fleet_of(Option(mode, legs, Traffic(100, 10)))
    return f"{made.words} {made.groups} {made.min_prompt_tokens}"


def _rehearsed(rng: random.Random, _: Patch) -> str:
    """What a fleet would make of what came, at several loads."""
    source = scene.Source()
    played, fleet = scene.stage(source, rng), scene.fleet(rng, (FAST, FAST, SLOW, SLOW, SLOW, scene.STRANGE))
    requests, limits = scene.served(rng, 30), scene.slo(rng)
    lines = [fleet.words]
    try:
        lines.append(str([(one.number, one.role) for one in played.engines(fleet)]))
        for load in (1.0, rng.choice((0.5, 2.0, 16.0))):
            found = played.rehearse(fleet, requests, limits, load)
            lines.append(" ".join(map(_told, (found.good, found.ttft_ms, found.itl_ms))))
        lines.append(str(played.rehearse(fleet, requests, limits) == found) + str(len(played._times)))
    except NotKnown as unknown:
        lines.append(str(unknown))
    return "\n".join([*lines, f"{source.asked[:12]} {approved.digest(str(source.asked))}"])


def _good(rng: random.Random, _: Patch) -> str:
    """Which answers are within their limits, and what a rehearsal is worth."""
    job = Job(0, 1.0, 10, rng.choice((1, 2, 5)), 0, rng.choice((1.25, 2.0)), rng.choice((2.0, 2.5)))
    limits = Slo(rng.choice((None, 0.0, 250.0, 1000.0)), rng.choice((None, 0.0, 125.0, 500.0, 1250.0)))
    good = rng.choice((0.0, 0.5, 0.9499, 0.95, 1.0))
    found = Rehearsal(scene.fleet(rng, (FAST, SLOW)), good, rng.choice((0.0, 100.0, 2e3)), 12.345)
    worth = assess(found, limits, rng.choice((1.0, 1e7)))
    return f"{is_good(job, limits)} {_told(job.itl_ms)} {_told(worth.worth)} {worth.words} {worth.parts}"


def _look(rng: random.Random, patch: Patch) -> str:
    """What is decided of what came, look after look."""
    patch.setattr(pilot, "FEWEST_REQUESTS", 4)
    patch.setattr(pilot, "ENOUGH_REQUESTS", 8)
    source = scene.Source()
    played, present = scene.stage(source, rng), scene.fleet(rng, (FAST,) * 6 + (SLOW, SLOW, scene.STRANGE))
    others = (FAST, FAST, SLOW, SLOW, SLOW, scene.STRANGE)
    more = [scene.fleet(rng, others) for _number in range(rng.choice((0, 1, 2)))]
    requests, limits, rules = scene.served(rng, 30), scene.slo(rng), rng.choice(RULES)
    lines, standing, now = [], Standing((), ((9.0, True),)), 1000.0
    for _number in range(3):
        seen = scene.profile(rng) if rng.random() < 0.95 else None
        verdict = look(played, present, more, requests, seen, limits, standing, rules, now)
        present, standing = verdict.taken or present, verdict.standing
        lines += [f"{verdict.taken and verdict.taken.words} {standing}", *verdict.reasons]
        requests = requests[: rng.choice((3, 4, 5, 40))] if rng.random() < 0.3 else requests
        now += rng.choice((30.0, 60.0))
    return "\n".join(lines)


def _latest(rng: random.Random, patch: Patch) -> str:
    """How much of what came is played."""
    for name, value in (("ENOUGH_REQUESTS", 4), ("ENOUGH_SECONDS", 2.0), ("MOST_REQUESTS", 8)):
        patch.setattr(pilot, name, value)
    patch.setattr(pilot, "MOST_TOKENS", rng.choice((3, 8, 1000, 20_000)))
    requests = scene.served(rng, 16)
    if not requests:
        return "none"
    found = latest(requests)
    return f"{len(found)} of {len(requests)} {found[-1] == requests[-1]} {found[0].started_seconds}"


WORLDS: dict[str, tuple[Callable[[random.Random, Patch], str], int, int]] = {
    "replays": (_replay, 900, 1),
    "passes": (_passes, 300, 1),
    "decisions": (_decision, 2500, 3),
    "fleets": (_fleet, 400, 3),
    "traffic": (_traffic, 800, 2),
    "variants": (_variants, 600, 1),
    "options": (_of_option, 150, 3),
    "rehearsals": (_rehearsed, 500, 2),
    "limits": (_good, 600, 3),
    "looks": (_look, 150, 2),
    "samples": (_latest, 400, 6),
}


@pytest.mark.parametrize("name", WORLDS)
def test_how_engines_are_to_serve_is_what_was_approved(name: str, monkeypatch: Patch) -> None:
    ask, draws, read = WORLDS[name]
    answers = [ask(random.Random(seed), monkeypatch) for seed in range(draws)]
    approved.check(Path(__file__).with_name("mode.txt"), {name: approved.kept(answers, read)})
