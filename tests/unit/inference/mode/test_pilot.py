"""A look: what came is rehearsed on what could be."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.mode.candidates import THRESHOLDS, fleet_of, role_variants
from inference.core.mode.decide import Rules, Standing, Verdict
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.pilot import (
    ENOUGH_REQUESTS,
    FEWEST_REQUESTS,
    MOST_REQUESTS,
    MOST_TOKENS,
    in_turns,
    latest,
    look,
    means,
)
from inference.core.mode.rehearsal import Stage
from inference.core.mode.traffic import Profile, ServedRequest
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.options import Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Traffic
from inference.core.performance.sizing import Sizing
from inference.core.performance.supply import Supply
from tests.fixtures.performance_scene import LLAMA_8B, shape, supply

NPU, L40S = supply("910B1", 8, vendor="ascend"), supply("L40S", 8)
STAGE = Stage(shape(LLAMA_8B), [Roofline()])
SLO = Slo(1000, 40)


def stream(rate: float, prompt: int, output: int, seconds: float = 30.0) -> list[ServedRequest]:
    return [
        ServedRequest(n / rate, n / rate + 1, prompt * (1 + n % 3) // 2, output)
        for n in range(int(rate * seconds))
    ]


def profile(requests: Sequence[ServedRequest], rate: float) -> Profile:
    prompt = sum(one.prompt_tokens for one in requests) // len(requests)
    return Profile(rate, prompt, requests[0].output_tokens, 0.0, len(requests))


def fleet(engines: int = 8, of: Supply = NPU) -> Fleet:
    return Fleet((EngineGroup(of, Layout(), engines),))


def looked(
    rate: float,
    prompt: int,
    output: int,
    present: Fleet,
    more: Sequence[Fleet] = (),
    looks: int = 5,
    slo: Slo = SLO,
) -> tuple[Fleet, list[Verdict]]:
    """The fleet after so many looks at a constant stream, and all verdicts."""
    requests = stream(rate, prompt, output)
    standing, verdicts = Standing(), []
    for number in range(looks):
        verdict = look(
            STAGE, present, more, requests, profile(requests, rate), slo, standing, Rules(), 30.0 * number
        )
        present, standing = verdict.taken or present, verdict.standing
        verdicts.append(verdict)
    return present, verdicts


def test_a_light_load_stays_where_it_is() -> None:
    present, verdicts = looked(2.0, 1000, 100, fleet())
    assert present == fleet()
    assert all(verdict.taken is None for verdict in verdicts)
    assert "100 % of requests within the SLO" in verdicts[-1].reasons[0]
    assert (
        verdicts[-1].reasons[-1] == "60 requests: 2 requests/s of 1,000 prompt tokens and 100 output tokens"
    )


def test_long_prompts_that_disturb_short_answers_are_read_apart() -> None:
    present, verdicts = looked(40.0, 2000, 30, fleet(), slo=Slo(1000, 20))
    assert present.mode == "disaggregated"
    assert present.min_prompt_tokens in THRESHOLDS
    assert sum(verdict.taken is not None for verdict in verdicts) == 1, "a constant profile: one change"


def test_long_answers_are_written_by_all() -> None:
    apart = Fleet((EngineGroup(NPU, Layout(), 8, 6),), 512)
    present, verdicts = looked(24.0, 1000, 600, apart)
    assert present.readers < 6
    assert sum(verdict.taken is not None for verdict in verdicts) == 1


def test_devices_are_saved_where_fewer_do() -> None:
    present, verdicts = looked(4.0, 1000, 100, fleet(), [fleet(2), fleet(4)], looks=4)
    assert present == fleet(2)
    taken = next(verdict for verdict in verdicts if verdict.taken is not None)
    assert "2 devices" in taken.reasons[0]
    assert "8 devices" in taken.reasons[0]


def test_engines_are_added_where_too_few_do_it() -> None:
    present, verdicts = looked(40.0, 1000, 100, fleet(2), [fleet(4), fleet(8)], looks=4)
    assert present.engines in (4, 8)
    taken = next(verdict for verdict in verdicts if verdict.taken is not None)
    assert taken.reasons[1] == f"{present.engines - 2} engines are started"


@pytest.mark.parametrize("count", [0, 1, FEWEST_REQUESTS - 1])
def test_of_few_requests_nothing_is_concluded(count: int) -> None:
    requests = stream(40.0, 4000, 30)[:count]
    seen = profile(requests, 40.0) if requests else None
    verdict = look(STAGE, fleet(), [], requests, seen, SLO, Standing(), Rules(), 0.0)
    assert verdict.taken is None
    assert "too few" in verdict.reasons[1]


def test_of_devices_without_figures_nothing_is_foretold() -> None:
    cpu = Supply(DeviceFigures("cpu/Xeon", "Xeon"), "cpu", (8,), connector="NixlConnector")
    requests = stream(40.0, 2000, 30)
    present = Fleet((EngineGroup(cpu, Layout(), 8),))
    verdict = look(STAGE, present, [], requests, profile(requests, 40.0), SLO, Standing(), Rules(), 0.0)
    assert verdict.taken is None
    assert verdict.reasons[1].startswith("nothing can be foretold: ")


@pytest.mark.parametrize("engines", [1, 8])
@pytest.mark.parametrize("connector", ["NixlConnector", ""])
def test_other_devices_without_figures_are_passed_over(engines: int, connector: str) -> None:
    cpu = Supply(DeviceFigures("cpu/Xeon", "Xeon"), "cpu", (8,), connector=connector)
    strange = Fleet((EngineGroup(cpu, Layout(), engines),))
    assert looked(2.0, 1000, 100, fleet(), [strange, fleet(4)]) == looked(2.0, 1000, 100, fleet(), [fleet(4)])


def test_what_hands_no_caches_over_has_no_roles() -> None:
    deaf = replace(NPU, connector="")
    requests = stream(40.0, 2000, 30)
    variants = role_variants(STAGE, fleet(8, deaf), requests, profile(requests, 40.0), SLO)
    assert variants == [fleet(8, deaf)]
    assert role_variants(STAGE, fleet(1), requests, profile(requests, 40.0), SLO) == [fleet(1)]


def test_those_read_that_are_best_at_it() -> None:
    both = Fleet((EngineGroup(supply("A100-SXM4-80GB", 4), Layout(), 4), EngineGroup(L40S, Layout(), 4)))
    requests = stream(20.0, 1000, 200)
    variants = role_variants(STAGE, both, requests, profile(requests, 20.0), SLO)
    assert all(one.groups[1].readers == min(4, one.readers) for one in variants), "L40S have no bandwidth"


def test_only_so_much_of_the_latest_is_rehearsed() -> None:
    assert len(latest(stream(1.0, 10, 10, 5000.0))) == ENOUGH_REQUESTS
    assert len(latest(stream(30.0, 10, 10, 100.0))) == pytest.approx(900, abs=1)
    assert len(latest(stream(500.0, 10, 10, 100.0))) == MOST_REQUESTS
    assert len(latest(stream(1.0, 10, 10, 3.0))) == 3
    long = [ServedRequest(float(at), at + 1.0, MOST_TOKENS // 10, 10) for at in range(100)]
    assert latest(long) == long[-10:]
    assert latest([replace(one, prompt_tokens=MOST_TOKENS + 1) for one in long]) != []


def test_what_is_less_than_a_minute_is_played_again() -> None:
    def played(rate: float, seconds: float, prompt: int = 10) -> tuple[int, float]:
        found = in_turns(stream(rate, prompt, 10, seconds))
        return len(found), found[-1].started_seconds - found[0].started_seconds

    assert played(10.0, 30.0) == (pytest.approx(600, abs=5), pytest.approx(60.0, abs=1.0))
    assert played(10.0, 5.0) == (pytest.approx(200, abs=5), pytest.approx(20.0, abs=1.0)), (
        "four times at most"
    )
    assert played(10.0, 90.0)[1] == pytest.approx(90.0, abs=0.5)
    assert played(300.0, 10.0)[0] <= MOST_REQUESTS
    assert played(1.0, 10.0, MOST_TOKENS // 15)[0] == 10
    alone = stream(1.0, 10, 10, 1.0)[:1]
    assert in_turns(alone) == alone


def test_candidates_are_named_for_what_is_rehearsed() -> None:
    """Whatever came before the last half minute."""
    found = means([ServedRequest(0.0, 1.0, 100, 10, 20), ServedRequest(2.0, 3.0, 300, 30, 60)])
    assert found == Profile(1.0, 200, 20, 0.2, 2)
    requests = stream(40.0, 2000, 30)
    verdicts = [
        look(STAGE, fleet(), [], requests, seen, SLO, Standing(), Rules(), 30.0)
        for seen in (profile(requests, 40.0), replace(profile(requests, 40.0), output_tokens=2000))
    ]
    assert verdicts[0].standing == verdicts[1].standing


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 10**6)), min_size=1, max_size=60),
)
def test_no_more_is_played_than_is_bounded_and_in_the_order_of_time(drawn: list[tuple[float, int]]) -> None:
    requests = [ServedRequest(at, at + 1.0, tokens, 5) for at, tokens in sorted(drawn)]
    found = in_turns(requests)
    starts = [one.started_seconds for one in found]
    assert starts == sorted(starts)
    assert len(found) <= MOST_REQUESTS
    assert len(found) == len(requests) or sum(one.prompt_tokens for one in found) <= MOST_TOKENS
    assert [replace(one, started_seconds=0.0) for one in found[: len(requests)]] == [
        replace(one, started_seconds=0.0) for one in requests
    ]


def test_options_of_the_performance_model_are_fleets() -> None:
    options, _ = Sizing(shape(LLAMA_8B), [NPU], [Roofline()], Traffic(2000, 100, 10.0), SLO).options()
    for option in options:
        made = fleet_of(option)
        assert (made.devices, made.mode) == (option.devices, option.mode)
        assert made.readers == sum(leg.engines for leg in option.legs if leg.role == "prefill")
