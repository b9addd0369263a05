"""Scenarios of the scheduler as one line of facts each, and what must come of them.

    # the owner gets back what it lent
    nodes: n1 8 | queues: a 4 of team, b 4 of team | running: old 8 of b | arriving: new 4 of a
        → stops old, starts new

A line with ``#`` says what a scenario is about; all others up to the next are its facts.

Sections are parted by ``|``, items by commas, words by spaces.

- A node: name (``n1..n4`` = four of them), devices, then ``key=value``: ``model``, ``vendor``, ``gib``,
  ``taint`` (``key:value``), and ``island``, ``rack``, ``block``, ``zone`` (its labels).
- A queue: name, nominal devices where it has a quota, ``of`` its cohort, then ``weight``, ``borrow``,
  ``lend``, ``max`` (devices), ``used`` (device-hours lately), ``cohort``, and what ``QUEUE_WORDS`` names.
- A workload: name, devices (``4``; ``2x4`` = two ranks of four; ``1-4x1`` = one to four ranks of one;
  ``0.5`` = half a device; ``2x1+1x4`` = two roles), ``of`` its queue, ``p5`` = priority 5, then
  ``key=value``: ``on`` (its nodes, parted by ``+``), ``at`` (the only device there that it uses), ``age``
  (minutes since it started, or arrived),
  ``ends`` (minutes after its start), ``model``, ``label``, ``apart``, ``near`` (``app:db``), ``same``,
  ``spread`` (``rack``), ``fixed`` (not preemptible), ``movable``, and what ``WORKLOAD_WORDS`` names.

After each arrow: what has happened when nothing changes any more (or ``by 4 min:``), all of it: ``stops``,
``starts`` (of those that arrived or were stopped, those that run; ``starts x on n1+n2``), ``shrinks x to 2``,
``grows x to 4``, ``moves x``; ``nothing``. Where they are given, ``tells x QuotaExhausted`` (the reason why
it waits), ``has x 4`` (so many ranks) and ``ranks x 4 2`` (of each role so many) are checked, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import (
    WHOLE_MILLIS,
    Admit,
    Affinity,
    Assignment,
    Defer,
    DeviceView,
    Labels,
    Migrate,
    NodeView,
    Policy,
    Preempt,
    QueueView,
    Quota,
    Request,
    Resize,
    RoleView,
    RunningView,
    Share,
    WorkloadView,
)
from scheduler.core.placement.placing import ANYWHERE, Bounds
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial

GIB = 1 << 30
START_MS = 1_000_000_000
STEP_MS = 30_000
MINUTE_MS = 60_000
LAST_MINUTE = 20
DOMAINS = ("island", "rack", "block", "zone")
TOPOLOGY = tuple(f"computility.io/{name}" for name in DOMAINS)

QUEUE_WORDS: dict[str, Callable[[QueueView, str], QueueView]] = {
    "weight": lambda view, value: replace(view, weight=int(value)),
    "max": lambda view, value: replace(view, max_devices=int(value)),
    "used": lambda view, value: replace(view, decayed_use=float(value) * 3600),
    "cohort": lambda view, _: replace(view, is_cohort=True),
    "borrow": lambda view, value: replace(view, quotas=_limited(view, borrowing_millis=int(value) * 1000)),
    "lend": lambda view, value: replace(view, quotas=_limited(view, lending_millis=int(value) * 1000)),
    "queueing": lambda view, value: _ruled(view, queueing=value),
    "withinQueue": lambda view, value: _ruled(view, within_queue=value),
    "reclaimWithinCohort": lambda view, value: _ruled(view, reclaim_within_cohort=value),
    "fairSharing": lambda view, value: _ruled(view, fair_sharing=value == "true"),
    "borrowWithinCohort": lambda view, value: _ruled(view, borrow_within_cohort=value),
    "borrowMaxPriority": lambda view, value: _ruled(view, borrow_max_priority=int(value)),
    "preemptMin": lambda view, value: _ruled(view, preempt_min_runtime_seconds=int(value) * 60),
    "reclaimMin": lambda view, value: _ruled(view, reclaim_min_runtime_seconds=int(value) * 60),
}
"""Words of queues, and what they change."""

WORKLOAD_WORDS: dict[str, Callable[[WorkloadView, str], WorkloadView]] = {
    "label": lambda view, value: replace(view, labels=(*view.labels, *_pairs(value))),
    "beside": lambda view, value: _wishing(view, beside=(*view.affinity.beside, *_pairs(value))),
    "tolerates": lambda view, value: _asking(view, tolerates=_pairs(value)),
    "apart": lambda view, value: _wishing(view, apart=_pairs(value)),
    "near": lambda view, value: _wishing(view, near=_pairs(value)),
    "same": lambda view, value: _wishing(view, same=f"computility.io/{value}"),
    "spread": lambda view, value: _wishing(view, spread=f"computility.io/{value}"),
    "slices": lambda view, value: _wishing(
        view, slice_size=int(value.split(":")[0]), slice_same=f"computility.io/{value.split(':')[1]}"
    ),
    "ends": lambda view, value: replace(view, expected_seconds=round(float(value) * 60)),
    "fixed": lambda view, _: replace(view, preemptible=False),
    "movable": lambda view, _: replace(view, movable=True),
    "model": lambda view, value: _asking(view, models=tuple(value.split("+"))),
    "vendor": lambda view, value: _asking(view, vendors=tuple(value.split("+"))),
}
"""Words of workloads, and what they change."""


@dataclass
class Told:
    """What has come of a scenario so far. ``before``: ranks at the start; ``reasons``: the last ones told."""

    stops: list[str] = field(default_factory=list)
    moves: set[str] = field(default_factory=set)
    before: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)


class Scenario:
    """A pool with what runs and waits, played cycle by cycle; who is told to go has left by the next."""

    def __init__(self, facts: str, policy: Policy | None = None) -> None:
        sections = dict(part.split(":", 1) for part in map(str.strip, facts.split("|")) if part)
        words = {key.strip(): [item.split() for item in text.split(",")] for key, text in sections.items()}
        self.nodes = [node for item in words["nodes"] for node in _nodes(item)]
        self.queues = [_queue(item) for item in words.get("queues", [])]
        if "default" not in {view.name for view in self.queues}:
            self.queues.append(QueueView("default"))
        self.policy = policy or Policy(topology=TOPOLOGY)
        self.now_ms = START_MS
        self.running: dict[str, RunningView] = {}
        self.pending: dict[str, WorkloadView] = {}
        self.told = Told()
        self._run([_workload(item, n) for n, item in enumerate(words.get("running", []))])
        for number, item in enumerate(words.get("arriving", [])):
            workload, words_of = _workload(item, number)
            age_ms = round(float(words_of.get("age", 0.5)) * MINUTE_MS)
            self.pending[workload.uid] = replace(workload, created_ms=START_MS - age_ms + number)
        self.newcomers = set(self.pending)
        self.told.before = {uid: len(one.placement) for uid, one in self.running.items()}

    def _run(self, workloads: list[tuple[WorkloadView, dict[str, str]]]) -> None:
        """Put what runs in its places, by the scheduler's own placer where the facts name none."""
        trial = Trial(take_snapshot(self.nodes, self.queues, ()), self.policy, START_MS)
        for workload, words in workloads:
            numbers = [trial.pool.number(name) for name in words["on"].split("+")] if "on" in words else []
            only = tuple(number for number in numbers if number is not None)
            mark = trial.mark()
            trial.pool.occupy(self._others(words) if "at" in words else ())
            placed = trial.place(workload, Bounds(only=only) if only else ANYWHERE)
            assert isinstance(placed, tuple), f"{workload.name} finds no place to run at the start"
            trial.rollback(mark)
            trial.pool.occupy(placed)
            trial.admit(workload, placed)
            started_ms = START_MS - round(float(words.get("age", 60)) * MINUTE_MS) + 100 * workload.created_ms
            workload = replace(workload, created_ms=started_ms - 1000)
            self.running[workload.uid] = RunningView(workload, placed, started_ms)

    def _others(self, words: dict[str, str]) -> list[Assignment]:
        """All devices of its nodes but the one that it uses."""
        others = []
        for node in (node for node in self.nodes if node.name in words["on"].split("+")):
            shares = [
                Share(device.id, device.index, device.vendor, device.model, device.memory_bytes, WHOLE_MILLIS)
                for device in node.devices
                if device.index != int(words["at"])
            ]
            others.append(Assignment("", 0, 0, node.name, tuple(shares)))
        return others

    def play(self, until_minute: float) -> None:
        while self.now_ms <= START_MS + until_minute * MINUTE_MS:
            self._cycle()
            self.now_ms += STEP_MS

    def _cycle(self) -> None:
        for uid, one in list(self.running.items()):
            if one.leaving:
                self.pending[uid] = self.running.pop(uid).workload
            elif (length := one.workload.expected_seconds) and one.started_ms + length * 1000 <= self.now_ms:
                del self.running[uid]
        snapshot = take_snapshot(
            self.nodes, self.queues, list(self.pending.values()), list(self.running.values())
        )
        for decision in run_cycle(snapshot, self.policy, self.now_ms):
            uid, at = decision.uid, f"{(self.now_ms - START_MS) / MINUTE_MS:g} min"
            if isinstance(decision, Admit):
                started = replace(self.pending.pop(uid), nominated=())
                self.running[uid] = RunningView(started, decision.placement, self.now_ms)
                nodes = "+".join(sorted({rank.node for rank in decision.placement}))
                self.told.story.append(f"{at}: {uid} starts on {nodes}")
            elif isinstance(decision, Defer):
                code, message = decision.reasons[0].code, decision.reasons[0].message
                if self.told.reasons.get(uid) != code:
                    self.told.story.append(f"{at}: {uid} waits: {message}")
                self.told.reasons[uid] = code
                self.pending[uid] = replace(self.pending[uid], nominated=decision.nominated)
            else:
                self._change(decision, at)

    def _change(self, decision: Preempt | Resize | Migrate, at: str) -> None:
        uid, one = decision.uid, self.running[decision.uid]
        if isinstance(decision, Preempt):
            self.told.stops.append(uid)
            self.running[uid] = replace(one, leaving=True, ends_ms=self.now_ms + 10_000)
        elif isinstance(decision, Resize):
            self.running[uid] = replace(one, placement=decision.placement, resized_ms=self.now_ms)
        else:
            self.told.moves.add(uid)
            self.running[uid] = replace(one, placement=decision.placement)
        self.told.story.append(f"{at}: {type(decision).__name__} {uid}: {decision.message}")

    def outcome(self) -> set[str]:
        """What has happened, in the words of expectations."""
        asked = self.newcomers | set(self.told.stops)
        happened = {f"starts {uid}" for uid in asked if uid in self.running and not self.running[uid].leaving}
        happened |= {f"stops {uid}" for uid in self.told.stops}
        happened |= {f"stops {uid} twice" for uid in self.told.stops if self.told.stops.count(uid) > 1}
        happened |= {f"moves {uid}" for uid in self.told.moves}
        for uid, before in self.told.before.items():
            after = len(self.running[uid].placement) if uid in self.running else before
            if uid not in self.told.stops and after != before:
                happened.add(f"{'shrinks' if after < before else 'grows'} {uid} to {after}")
        return happened


def scenarios(text: str) -> pytest.MarkDecorator:
    """Runs a test once for each scenario of the text, as its argument ``facts``."""
    found: list[tuple[str, list[str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            found.append((line.strip("# "), []))
        else:
            found[-1][1].append(line)
    return pytest.mark.parametrize("facts", [pytest.param(" ".join(lines), id=name) for name, lines in found])


def check(line: str, policy: Policy | None = None) -> None:
    """Play the facts and compare with what is expected after each arrow."""
    facts, *expectations = line.split("→")
    scenario = Scenario(facts, policy)
    for text in expectations:
        by = re.match(r"\s*by ([\d.]+) min:", text)
        scenario.play(float(by.group(1)) if by else LAST_MINUTE)
        _compare(scenario, text[by.end() :] if by else text)


def _compare(scenario: Scenario, text: str) -> None:
    story = "\n".join(scenario.told.story)
    expected: set[str] = set()
    for phrase in (part.split() for part in text.split(",")):
        verb, names = phrase[0], phrase[1:]
        if verb == "tells":
            assert scenario.told.reasons.get(names[0]) == names[1], f"{phrase}\n{story}"
        elif verb == "ranks":
            roles = Counter(rank.role for rank in scenario.running[names[0]].placement)
            assert [roles[f"role{n}"] for n in range(len(names) - 1)] == [*map(int, names[1:])], (
                f"{roles}\n{story}"
            )
        elif verb == "has":
            assert len(scenario.running[names[0]].placement) == int(names[1]), f"{phrase}\n{story}"
        elif "on" in names:
            at = names.index("on")
            for name in names[:at]:
                nodes = {rank.node for rank in scenario.running[name].placement}
                assert nodes == set(names[-1].split("+")), f"{name} is on {sorted(nodes)}\n{story}"
            expected |= {f"{verb} {name}" for name in names[:at]}
        elif "to" in names:
            expected.add(f"{verb} {names[0]} to {names[-1]}")
        elif verb != "nothing":
            expected |= {f"{verb} {name}" for name in names}
    assert scenario.outcome() == expected, story


# -- reading


def _nodes(item: list[str]) -> list[NodeView]:
    name, count, *rest = item
    words = _words(rest)
    first, dots, last = name.partition("..")
    stem = first.rstrip("0123456789")
    numbers = range(int(first[len(stem) :]), int(last[len(stem) :]) + 1) if dots else ()
    labels = {f"computility.io/{key}": words[key] for key in DOMAINS if key in words}
    return [_node(each, int(count), words, labels) for each in ([f"{stem}{n}" for n in numbers] or [name])]


def _node(name: str, count: int, words: dict[str, str], labels: dict[str, str]) -> NodeView:
    vendor, model = words.get("vendor", "nvidia"), words.get("model", "H100")
    memory = int(words.get("gib", 80)) * GIB
    devices = tuple(DeviceView(f"{name}/{index}", index, vendor, model, memory) for index in range(count))
    taints = _pairs(words["taint"]) if "taint" in words else ()
    return NodeView(name, devices, labels=tuple(sorted(labels.items())), taints=taints)


def _queue(item: list[str]) -> QueueView:
    name, *rest = item
    quotas: tuple[Quota, ...] = ()
    if rest and rest[0].isdigit():
        quotas = (Quota("*", int(rest.pop(0)) * 1000),)
    parent = rest[1] if rest[:1] == ["of"] else ""
    view = QueueView(name, parent=parent, quotas=quotas)
    for key, value in _words(rest[2:] if parent else rest).items():
        view = QUEUE_WORDS[key](view, value)
    return view


def _limited(view: QueueView, **limits: Any) -> tuple[Quota, ...]:
    quota = view.quotas[0] if view.quotas else Quota()
    return (replace(quota, **limits),)


def _ruled(view: QueueView, **rules: Any) -> QueueView:
    return replace(view, rules=replace(view.rules, **rules))


def _workload(item: list[str], number: int) -> tuple[WorkloadView, dict[str, str]]:
    name, shape, *rest = item
    queue = "default"
    if rest[:1] == ["of"]:
        queue, rest = rest[1], rest[2:]
    priority = int(rest.pop(0)[1:]) if rest and re.fullmatch(r"p-?\d+", rest[0]) else 0
    roles = tuple(_role(part, f"role{index}") for index, part in enumerate(shape.split("+")))
    view = WorkloadView(name, "project", name, queue, priority, number, roles)
    words = _words(rest)
    for key, value in words.items():
        if key not in ("on", "at", "age"):
            view = WORKLOAD_WORDS[key](view, value)
    return view, words


def _role(text: str, name: str) -> RoleView:
    replicas, times, devices = text.rpartition("x")
    least, dash, most = (replicas if times else "1").rpartition("-")
    size = float(devices)
    request = (
        Request(int(size), ("nvidia", "amd", "ascend"))
        if size >= 1
        else Request(1, share_millis=round(size * 1000))
    )
    return RoleView(name, int(most), request, int(least) if dash else None)


def _words(words: list[str]) -> dict[str, str]:
    """By key; what is said twice is parted by blanks."""
    found: dict[str, str] = {}
    for key, _, value in (word.partition("=") for word in words):
        found[key] = f"{found[key]} {value}" if key in found else value
    return found


def _pairs(text: str) -> Labels:
    pairs = (each.partition(":") for each in text.split())
    return tuple((key, value) for key, _, value in pairs)


def _wishing(view: WorkloadView, **wishes: Any) -> WorkloadView:
    affinity: Affinity = replace(view.affinity, **wishes)
    return replace(view, affinity=affinity)


def _asking(view: WorkloadView, **wants: Any) -> WorkloadView:
    roles = tuple(replace(role, request=replace(role.request, **wants)) for role in view.roles)
    return replace(view, roles=roles)
