"""Control takes a canary back once, for good, by what gateways tell; and not by what they tell of another."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from common.resources import Endpoint, Metadata
from common.resources.canary import ROLLED_BACK, trial_of
from common.resources.engines import EngineSpec
from common.resources.serving import EndpointSpec
from common.wire import SideCounts, TrialCounts, TrialReport
from inference.canary.answers import explain_canary
from inference.canary.judging import CanaryJudge
from tests.unit.inference.endpoint_world import PROJECT, World

GOOD, BAD = SideCounts(requests=100), SideCounts(requests=100, failed=50)
CANARY = {"model": "tiny-v2", "weight_percent": 25.0}


class Site(World):
    """With what judges, and may be killed."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.restart_judge()

    def restart_judge(self) -> None:
        self.judge = CanaryJudge(self.store, self.clock)

    async def apply(self, **canary: Any) -> None:
        await self.apply_endpoint(served_name="chat", canary={**CANARY, **canary})

    async def tell(
        self, canary: SideCounts, stable: SideCounts = GOOD, gateway: str = "gw", trial: str = ""
    ) -> None:
        """What a gateway tells, and a look at it."""
        endpoint = await self.endpoint()
        trial, uid = trial or trial_of(endpoint.spec), endpoint.metadata.uid
        counts = TrialCounts(endpoint=uid, trial=trial, canary=canary, stable=stable)
        self.judge.report(TrialReport(gateway=gateway, trials=(counts,)))
        await self.judge.step()

    async def verdict(self) -> tuple[str, str]:
        found = (await self.endpoint()).status.condition(ROLLED_BACK)
        return (found.status, found.reason) if found else ("", "")

    async def events(self) -> list[str]:
        return [event.reason for event in await self.store.events() if event.reason == ROLLED_BACK]


def told_of(endpoint: Endpoint) -> TrialReport:
    """That its canary is bad."""
    uid, trial = endpoint.metadata.uid, trial_of(endpoint.spec)
    return TrialReport(
        gateway="gw", trials=(TrialCounts(endpoint=uid, trial=trial, canary=BAD, stable=GOOD),)
    )


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    await made.apply()
    return made


async def test_a_bad_canary_is_taken_back_with_its_figures_and_one_event(site: Site) -> None:
    await site.tell(GOOD)
    assert await site.verdict() == ("False", "Trying")
    await site.tell(BAD)
    for _ in range(3):
        await site.judge.step()
    endpoint = await site.endpoint()
    assert await site.verdict() == ("True", "TooManyErrors")
    assert endpoint.is_rolled_back
    assert endpoint.wanted == {"": 1, "canary": 0}
    found = endpoint.status.condition(ROLLED_BACK)
    assert found is not None
    assert "50 of 100 requests of the canary failed (50.0 %)" in found.message
    assert await site.events() == [ROLLED_BACK]


async def test_what_was_decided_outlives_the_process_and_better_figures(site: Site) -> None:
    await site.tell(BAD)
    before = (await site.endpoint()).metadata.resource_version
    site.restart_judge()
    await site.judge.step()
    await site.tell(SideCounts(requests=100_000), gateway="other")
    assert await site.verdict() == ("True", "TooManyErrors")
    assert (await site.endpoint()).metadata.resource_version == before


async def test_one_that_was_killed_before_it_wrote_hears_all_again(site: Site) -> None:
    await site.tell(SideCounts(requests=40, failed=20))
    site.restart_judge()
    await site.tell(SideCounts(requests=50, failed=25))
    assert await site.verdict() == ("True", "TooManyErrors")


async def test_counts_of_all_gateways_are_added(site: Site) -> None:
    for number in range(4):
        await site.tell(SideCounts(requests=12, failed=6), gateway=f"gw-{number}")
        assert await site.verdict() == ("False", "Trying")
    await site.tell(SideCounts(requests=12, failed=6), gateway="gw-4")
    assert await site.verdict() == ("True", "TooManyErrors")


async def test_what_was_counted_of_another_trial_is_nothing_of_this_one(site: Site) -> None:
    old = trial_of((await site.endpoint()).spec)
    await site.apply(weight_percent=50.0)
    await site.tell(BAD, trial=old)
    assert await site.verdict() == ("False", "Trying")
    await site.tell(BAD)
    assert await site.verdict() == ("True", "TooManyErrors")
    await site.apply(weight_percent=10.0)
    await site.judge.step()
    assert await site.verdict() == ("False", "Trying")
    assert not (await site.endpoint()).is_rolled_back


async def test_one_that_is_made_anew_under_the_name_is_not_judged_by_what_the_former_did(site: Site) -> None:
    former = await site.endpoint()
    site.judge.report(told_of(former))
    await site.store.delete(Endpoint, "chat", PROJECT)
    await site.apply()
    for _ in range(2):
        site.judge.report(told_of(former))
        await site.judge.step()
    assert trial_of((await site.endpoint()).spec) == trial_of(former.spec)
    assert await site.verdict() == ("False", "Trying")


async def test_a_spec_that_is_edited_while_it_is_judged_is_not_taken_back(site: Site) -> None:
    """The write meets a newer Endpoint: what was seen is of another trial than what is there now."""
    await site.judge.step()
    stale = await site.endpoint()
    site.judge.report(told_of(stale))
    await site.apply(model="tiny-v3")
    await site.judge._judge(stale)
    assert await site.verdict() == ("False", "Trying")
    assert not (await site.endpoint()).is_rolled_back


async def test_a_write_that_meets_another_one_is_made_again(site: Site) -> None:
    await site.judge.step()
    stale = await site.endpoint()
    site.judge.report(told_of(stale))
    touched = await site.endpoint()
    touched.status.ready_replicas = 7
    await site.store.set_status(touched)
    await site.judge._judge(stale)
    endpoint = await site.endpoint()
    assert (endpoint.is_rolled_back, endpoint.status.ready_replicas) == (True, 7)


async def test_the_answer_for_people_has_both_sides(site: Site) -> None:
    await site.tell(SideCounts(requests=10, failed=1, first_tokens={40: 9}), SideCounts(requests=90))
    answer = explain_canary(await site.endpoint(), site.judge, site.clock.monotonic_seconds())
    assert answer is not None
    assert (answer.canary.requests, answer.canary.error_percent, answer.stable.requests) == (10, 10.0, 90)
    assert (answer.canary.weight_percent, answer.stable.weight_percent) == (25.0, 75.0)
    assert answer.verdict == "10 of 50 requests until it is judged"
    await site.tell(BAD)
    answer = explain_canary(await site.endpoint(), site.judge, site.clock.monotonic_seconds())
    assert answer is not None
    assert (answer.rolled_back, answer.canary.weight_percent) == (True, 0.0)
    site.restart_judge()
    again = explain_canary(await site.endpoint(), site.judge, 0.0)
    assert again is not None
    assert again.verdict == answer.verdict


async def test_an_endpoint_that_is_gone_or_has_none_is_forgotten(site: Site) -> None:
    await site.tell(GOOD)
    await site.apply_endpoint(served_name="chat")
    await site.judge.step()
    assert site.judge._trials == {}
    assert explain_canary(await site.endpoint(), site.judge, 0.0) is None


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"canary": {"model": "v2"}, "servedName": None}, "servedName: set it with a canary"),
        ({"canary": {"model": "v2"}, "mode": "auto"}, "mode auto has none"),
        (
            {
                "canary": {"model": "v2"},
                "mode": "disaggregated",
                "prefill": {"devices": {"vendors": ["cpu"]}},
                "decode": {"devices": {"vendors": ["cpu"]}},
            },
            "mode disaggregated has none",
        ),
        ({"canary": {"model": "v2"}, "autoscaling": {"minReplicas": 0}}, "minReplicas: with a canary"),
        ({"canary": {"model": "v2"}, "replicas": 0}, "replicas: with a canary at least 1"),
        ({"canary": {"model": "v2", "weightPercent": 101}}, "less than or equal to 100"),
        ({"canary": {"model": "v2", "weightPercent": -1}}, "greater than or equal to 0"),
        ({"canary": {"model": "v2", "weightPercent": float("nan")}}, "finite number"),
        ({"canary": {"model": "v2", "replicas": 0}}, "greater than or equal to 1"),
        ({"canary": {"model": "v2", "stickyBy": "tenant"}}, "'key', 'session' or 'none'"),
        ({"canary": {}}, "Field required"),
    ],
)
def test_what_no_endpoint_can_have_is_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EndpointSpec.model_validate({"model": "tiny", "servedName": "chat", **spec})


def test_the_stable_side_may_follow_its_load_and_be_one_engine() -> None:
    for more in ({"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}, {"mode": "single"}, {"replicas": 3}):
        spec = EndpointSpec.model_validate(
            {"model": "tiny", "servedName": "chat", "canary": {"model": "v2"}, **more}
        )
        endpoint = Endpoint(metadata=Metadata(name="chat"), spec=spec)
        assert endpoint.wanted["canary"] == 1


def test_a_field_that_a_later_release_adds_takes_up_no_trial_anew() -> None:
    class LaterEngine(EngineSpec):
        later: int = 3

    class LaterSpec(EndpointSpec):
        engine: LaterEngine = Field(default_factory=LaterEngine)

    spec = {"model": "tiny", "servedName": "chat", "canary": {"model": "tiny-v2", "weightPercent": 7}}
    trial = trial_of(EndpointSpec.model_validate(spec))
    assert trial_of(LaterSpec.model_validate(spec)) == trial
    assert trial_of(LaterSpec.model_validate({**spec, "engine": {"maxAdapters": 0}})) != trial
    assert trial_of(LaterSpec.model_validate({**spec, "engine": {"later": 4}})) != trial


async def test_a_loop_that_waits_for_news_ends_when_it_is_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second wait, too: gateways may tell nothing for long."""
    monkeypatch.setattr("inference.canary.judging.LOOK_SECONDS", 0.0)
    judge, stop, looked = Site(tmp_path).judge, asyncio.Event(), asyncio.Event()

    async def look() -> None:
        looked.set()

    monkeypatch.setattr(judge, "step", look)
    async with asyncio.timeout(2):
        running = asyncio.create_task(judge.run(stop))
        await looked.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        stop.set()
        await running
