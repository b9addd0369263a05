"""The loop that holds engines' counters against events: what it reads, judges and tells."""

from collections.abc import Mapping, Sequence

import pytest

from billing.core.ledger import TrialBalance
from billing.core.reconciliation import Counts, EventGroup
from common.clock import VirtualClock
from common.errors import DATABASE_UNAVAILABLE, Unavailable
from common.resources import Metadata, Workload
from common.resources.meta import Owner
from common.resources.workload import Grant, RankPlacement, WorkloadRole, WorkloadSpec, WorkloadStatus
from common.store.memory import MemoryStore
from common.store.port import Event
from control.reconciling.loop import PASS_SECONDS, Reconciler
from control.reconciling.telling import in_words
from inference.engine_workload import ENDPOINT_LABEL
from inference.ports import EngineCounters

ONE = EventGroup("completed", 1, 5, 8, prompt_counted=5, sequences=1)


class Books:
    """Answers as a ledger with these events would."""

    def __init__(self) -> None:
        self.used: dict[tuple[str, str], list[EventGroup]] = {}
        self.apart: dict[str, int] = {}
        self.asked = 0
        self.unknown: set[int] = set()

    async def engine_use(self, from_ms: int, to_ms: int) -> Mapping[tuple[str, str], Sequence[EventGroup]]:
        self.asked += 1
        if to_ms in self.unknown:
            raise ValueError("no such day")
        return self.used

    async def days_apart(self, from_day: str, to_day: str) -> Mapping[str, int]:
        return self.apart

    async def trial_balance(self) -> TrialBalance:
        return TrialBalance({"a": 1, "b": -1})


class CountingEngines:
    def __init__(self) -> None:
        self.told: dict[str, EngineCounters] = {}

    async def counters(self, url: str) -> EngineCounters:
        if url not in self.told:
            raise Unavailable("it does not answer")
        return self.told[url]


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store, self.engines, self.books = MemoryStore(self.clock), CountingEngines(), Books()
        self.reconciler = Reconciler(self.store, self.engines, self.books, self.clock)

    async def engine(self, name: str, port: int) -> str:
        rank = RankPlacement(
            role="engine",
            replica=0,
            rank=0,
            node="n",
            state="Ready",
            address="10.0.0.1",
            ports={"http": port},
            grants=[Grant(device="d0", index=0, vendor="cpu", model="any", millis=1000)],
        )
        owner = Owner(kind="Endpoint", name="chat", uid="u")
        metadata = Metadata(name=name, project="lab", owner=owner, labels={ENDPOINT_LABEL: "chat"})
        spec = WorkloadSpec(roles=[WorkloadRole(name="engine", command=["x"])])
        made = await self.store.apply(Workload(metadata=metadata, spec=spec))
        status = WorkloadStatus(phase="Ready", attempt=1, ranks=[rank])
        await self.store.set_status(made.resource.model_copy(update={"status": status}))
        return f"http://10.0.0.1:{port}"

    async def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / PASS_SECONDS)):
            self.clock.advance(PASS_SECONDS)
            await self.reconciler.step()

    def counts(self, url: str, prompt: int, completion: int, sequences: int = 1) -> None:
        started_ms = self.clock.now_ms() - 1000 if url not in self.engines.told else 0
        started_ms = started_ms or self.engines.told[url].started_ms
        self.engines.told[url] = EngineCounters(started_ms, Counts(prompt, completion, sequences), 0)

    @property
    def results(self) -> list[tuple[str, str]]:
        return [(found.engine, found.finding.result) for found in self.reconciler.findings]


async def test_an_engine_that_agrees_and_one_that_was_billed_too_much_for() -> None:
    scene = Scene()
    one, two = await scene.engine("chat-0", 1), await scene.engine("chat-1", 2)
    await scene.engine("chat-2", 3)  # does not answer
    for url in (one, two):
        scene.counts(url, 5, 8)
    scene.books.used = {("lab/chat", "chat-0"): [ONE], ("lab/chat", "chat-1"): [ONE, ONE]}
    await scene.passes(180)
    assert sorted(scene.results) == [("chat-0", "equal"), ("chat-1", "drift")]
    assert scene.books.asked == 1, "windows of the same span are one question"
    [event] = [one for one in await scene.store.events(limit=100) if one.reason == "UsageDrift"]
    assert (event.kind, event.name, event.project, event.level) == ("Endpoint", "chat", "lab", "warning")
    assert "chat-1 from" in event.message
    assert "billed are 5 and 8 more" in event.message
    assert scene.reconciler.engines == 2


async def test_what_is_not_billed_is_told_when_it_has_been_waited_for() -> None:
    scene = Scene()
    scene.counts(await scene.engine("chat-0", 1), 5, 8)
    await scene.passes(600)
    assert scene.results == []
    await scene.passes(900)
    [found] = scene.reconciler.findings
    assert (found.finding.result, found.finding.unanswered) == ("unbilled", 1)
    assert "5 and 8 of them are not billed" in in_words("chat-0", found.finding)
    assert [one for one in await scene.store.events(limit=100) if one.reason == "UsageDrift"] == []


async def test_engines_that_are_gone_are_forgotten_once_they_are_judged() -> None:
    scene = Scene()
    scene.counts(await scene.engine("chat-0", 1), 5, 8)
    scene.books.used = {("lab/chat", "chat-0"): [ONE]}
    await scene.passes(30)
    await scene.store.delete(Workload, "chat-0", "lab")
    await scene.passes(180)
    assert scene.results == [("chat-0", "equal")]
    assert scene.reconciler.engines == 0


async def test_a_ledger_whose_sums_differ_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    await scene.passes(15)
    assert scene.reconciler.ledger_apart == {}
    scene.books.apart = {"completion_tokens": -1}
    await scene.passes(330)
    assert scene.reconciler.ledger_apart == {"completion_tokens": -1}


async def test_a_window_that_cannot_be_judged_holds_up_no_other_and_is_let_go() -> None:
    scene = Scene()
    scene.counts(await scene.engine("chat-0", 1), 5, 8)
    await scene.passes(30)
    await scene.store.delete(Workload, "chat-0", "lab")
    scene.books.unknown = {scene.clock.now_ms()}
    scene.counts(await scene.engine("chat-1", 2), 5, 8)
    scene.books.used = {("lab/chat", "chat-1"): [ONE]}
    raised = 0
    for _ in range(20):
        try:
            await scene.passes(PASS_SECONDS)
        except ValueError:
            raised += 1
    assert scene.results == [("chat-1", "equal")]
    assert scene.reconciler.engines == 2
    assert 1 <= raised <= 3, "the health of the loop tells of it"
    scene.clock.advance(90_000)
    with pytest.raises(ValueError, match="no such day"):
        await scene.passes(PASS_SECONDS)
    assert scene.reconciler.engines == 1


async def test_a_finding_that_cannot_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.counts(await scene.engine("chat-0", 1), 5, 8)
    scene.books.used = {("lab/chat", "chat-0"): [ONE, ONE]}

    async def away(*_: Event) -> None:
        raise Unavailable("the database is away", code=DATABASE_UNAVAILABLE)

    with monkeypatch.context() as patched:
        patched.setattr(scene.store, "record", away)
        with pytest.raises(Unavailable, match="away"):
            await scene.passes(180)
    assert scene.results == [("chat-0", "drift")]
    assert not await scene.store.events(reason="UsageDrift")
    await scene.passes(2 * PASS_SECONDS)
    assert len(await scene.store.events(reason="UsageDrift")) == 1
