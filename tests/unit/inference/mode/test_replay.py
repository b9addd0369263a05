"""Engines with continuous batching, and requests played on them."""

import copy
import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.core.mode.batching import BatchingEngine, Job, PassTimes
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage, is_good
from inference.core.mode.replay import LeastWork, Replay
from inference.core.mode.traffic import ServedRequest
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.options import Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Traffic, mixed_point
from inference.core.performance.steps import Engine, NotKnown
from inference.core.performance.supply import Supply
from tests.fixtures.performance_scene import LLAMA_8B, shape, supply

H100 = supply("H100-SXM", 8)
STAGE = Stage(shape(LLAMA_8B), [Roofline()])
TIMES = STAGE.times(H100, Layout())


def fleet(engines: int, readers: int = 0, least: int = 0) -> Fleet:
    return Fleet((EngineGroup(H100, Layout(), engines, readers),), least)


def played(fleet: Fleet, jobs: list[Job]) -> list[Job]:
    done: list[Job] = []
    replay = Replay(STAGE.engines(fleet), LeastWork(), done.append, fleet.min_prompt_tokens)
    for job in jobs:
        replay.until(job.at_seconds)
        replay.arrive(job)
    replay.until(float("inf"))
    for engine in replay.engines:
        assert (engine.unread_tokens, engine.in_flight, engine._held, engine._context) == (0, 0, 0, 0)
    return sorted(done, key=lambda job: job.number)


def job(number: int, at: float = 0.0, prompt: int = 1000, output: int = 100) -> Job:
    return Job(number, at, prompt, output, prompt)


def test_one_request_takes_the_passes_of_one() -> None:
    (one,) = played(fleet(1), [job(0, prompt=1024)])  # a size that is not rounded
    steps = Roofline().steps(Engine(shape(LLAMA_8B), H100.figures, Layout()))
    assert one.ttft_ms == pytest.approx(steps.prefill_ms(1, 1024) + 1e3 * TIMES.dispatch_seconds, rel=0.01)
    assert one.itl_ms == pytest.approx(steps.decode_ms(1, 1074), rel=0.01)


def test_an_answer_of_one_token_is_complete_with_it() -> None:
    (one,) = played(fleet(1), [job(0, output=1)])
    assert one.itl_ms == 0.0
    assert one.last_seconds == one.first_seconds > 0


passes = st.tuples(st.integers(1, 8192), st.integers(1, 30_000), st.integers(0, 60), st.integers(0, 200_000))


@given(st.lists(passes, min_size=2, max_size=30), st.randoms())
def test_what_a_pass_takes_does_not_depend_on_which_was_asked_for_first(
    asked: list[tuple[int, int, int, int]], order: random.Random
) -> None:
    engine = Engine(shape(LLAMA_8B), H100.figures, Layout())
    found = []
    for _ in range(2):
        times = PassTimes(engine, Roofline().steps(engine))
        found.append({one: times.reading(*one) for one in asked})
        asked = order.sample(asked, len(asked))
    assert found[0] == found[1]


def test_a_prompt_that_is_longer_than_a_pass_is_read_in_parts_while_others_write() -> None:
    short, long = played(fleet(1), [job(0), job(1, 0.1, prompt=30_000)])
    alone = played(fleet(1), [job(0)])[0]
    assert short.last_seconds > 1.5 * alone.last_seconds
    assert long.first_seconds > 0.1


def test_apart_a_long_prompt_disturbs_nobody_who_writes() -> None:
    short, long = played(fleet(2, 1, 512), [job(0), job(1, 0.1, prompt=30_000)])
    alone = played(fleet(2, 1, 512), [job(0)])[0]
    assert short.last_seconds == pytest.approx(alone.last_seconds, rel=0.01)
    assert long.first_seconds > 0.1 + TIMES.transfer_seconds(30_000, 12.5e9)


def test_short_prompts_are_read_where_they_are_answered() -> None:
    (one,) = played(fleet(2, 1, 2000), [job(0)])
    assert not one.handed_over
    (other,) = played(fleet(2, 1, 1000), [job(0)])
    assert other.handed_over


def test_a_steady_load_is_served_as_fast_as_the_formulas_say() -> None:
    """24 requests at a time, one after the other: mean time between tokens within a fifth."""
    traffic = Traffic(1000, 250)
    engine = Engine(shape(LLAMA_8B), H100.figures, Layout())
    point = mixed_point(engine, Roofline().steps(engine), 24, traffic)
    jobs = [job(n, n / point.requests_per_second, 1000, 250) for n in range(600)]
    done = played(fleet(1), jobs)[200:]
    itl = sum(one.itl_ms for one in done) / len(done)
    assert itl == pytest.approx(point.itl_ms, rel=0.2)


def test_a_sequence_that_is_larger_than_memory_holds_up_nothing_for_ever() -> None:
    huge = TIMES.kv_tokens + 5
    done = played(fleet(1), [job(0, prompt=huge), job(1), job(2, prompt=huge)])
    assert [one.last_seconds > 0 for one in done] == [True] * 3


def test_roles_change_while_requests_are_on_their_way() -> None:
    done: list[Job] = []
    replay = Replay(STAGE.engines(fleet(2, 1, 512)), LeastWork(), done.append, 512)
    for number in range(60):
        at = number / 20
        replay.until(at)
        replay.arrive(job(number, at))
        for engine in replay.engines:
            turn = (number // 5 + engine.number) % 2
            engine.role = "prefill" if turn else "decode"
            if number // 20 == 1:
                engine.role = ""
    replay.until(float("inf"))
    assert sorted(one.number for one in done) == list(range(60))
    assert all(one.last_seconds >= one.first_seconds >= one.at_seconds for one in done)


requests = st.lists(
    st.tuples(st.floats(0, 20), st.integers(1, 40_000), st.integers(1, 600)), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(requests, st.integers(1, 4), st.integers(0, 3), st.sampled_from([0, 512, 4096]))
def test_every_request_is_answered_once_whatever_the_fleet(
    drawn: list[tuple[float, int, int]], engines: int, readers: int, least: int
) -> None:
    jobs = [job(number, at, prompt, output) for number, (at, prompt, output) in enumerate(sorted(drawn))]
    done = played(fleet(engines, min(readers, engines - 1), least), jobs)
    assert [one.number for one in done] == list(range(len(jobs)))
    assert all(one.last_seconds >= one.first_seconds > one.at_seconds for one in done)


def test_more_load_is_never_good_for_more() -> None:
    stream = [ServedRequest(n / 20, n / 20 + 1, 2000, 200) for n in range(800)]
    slo = Slo(500, 20)
    parts = [STAGE.rehearse(fleet(2), stream, slo, load).good for load in (0.25, 1.0, 4.0)]
    assert parts == sorted(parts, reverse=True)
    assert parts[0] > parts[-1]


def test_nothing_is_rehearsed_as_good() -> None:
    assert STAGE.rehearse(fleet(1), [], Slo(1, 1)).good == 1.0


def test_without_limits_all_is_good() -> None:
    assert is_good(job(0), Slo())


def test_devices_without_figures_are_not_known() -> None:
    strange = Supply(DeviceFigures("cpu/Xeon", "Xeon"), "cpu", (8,))
    with pytest.raises(NotKnown, match="Xeon"):
        STAGE.times(strange, Layout())


def test_readers_are_those_engines_that_come_first() -> None:
    engines: list[BatchingEngine] = STAGE.engines(fleet(3, 1, 512))
    assert [one.role for one in engines] == ["prefill", "decode", "decode"]
    assert [one.role for one in STAGE.engines(fleet(2))] == ["", ""]


def test_a_copied_request_is_the_same_and_another() -> None:
    values = range(1, 1 + len(dataclasses.fields(Job)))
    one = Job(*values)
    other = copy.deepcopy(one)
    assert other == one
    assert other is not one
