"""What resources and looks at the fabric are translated into, and what is written back, is what was approved:
of resources with all fields drawn a few translations are kept, of all a digest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.resources import Node, Project, Queue, Workload
from common.resources.workload import RankPlacement
from scheduler.core.lifecycle.lifecycle import Note, Seen, Step
from scheduler.core.model.catalogue import Catalogue, DeviceSpec, PlacementRule
from scheduler.core.model.types import Admit, Assignment, Defer, Migrate, PeriodBudget, Preempt, Resize
from scheduler.core.quota.spending import Spent
from scheduler.ports import GangRecord, NodeObservation
from scheduler.translate import transitions
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.observed import Observed, merge_ranks, seen_of, why_leave
from scheduler.translate.past_runs import facts_of
from scheduler.translate.placements import beyond, held_by, rank_placement
from scheduler.translate.room import Room
from scheduler.translate.snapshots import held_attempts
from scheduler.translate.views import (
    World,
    holds_places,
    is_due,
    node_view,
    queue_view,
    queue_views,
    restarts_view,
    roles_digest,
    running_views,
    spent_view,
    state_view,
    successor_view,
    workload_view,
)
from tests.fixtures.drawing import NOW_MS, Drawn
from tests.unit.scheduler.drawn.courses import PARTS, Draw, check_draws

CATALOGUE = Catalogue(
    (
        DeviceSpec("a", "ascend", ("a",), rule=PlacementRule(island_size=2)),
        DeviceSpec("b", "nvidia", ("b",), rule=PlacementRule(island_size=1)),
    )
)
Answers = Iterator[Any]


def _world(drawn: Drawn) -> World:
    queues, projects = drawn.some(Queue, 2), drawn.some(Project, 2)
    return World(queues={one.name: one for one in queues}, projects={one.name: one for one in projects})


def _views(drawn: Drawn) -> Answers:
    """A workload as the core sees it."""
    world, workload = _world(drawn), drawn.of(Workload)
    yield workload_view(workload, world)
    yield successor_view(workload, world)
    yield running_views(workload, world)
    yield (
        workload_view(workload, World(), 2.5).grace_seconds,
        successor_view(workload, World(), 2.5).grace_seconds,
    )
    yield [view.workload.grace_seconds for view in running_views(workload, World(), 2.5)]
    yield state_view(workload), restarts_view(workload.spec.restart), roles_digest(workload.spec.roles)
    yield [is_due(workload, now_ms) for now_ms in (NOW_MS - 1, NOW_MS, NOW_MS + 1)]
    yield holds_places(workload), held_attempts(workload), held_attempts(None), held_by(workload)


def _nodes(drawn: Drawn) -> Answers:
    """Nodes as the core sees them, and what there is room for on them."""
    nodes = {node.name: node for node in drawn.some(Node, 3)}
    for node in nodes.values():
        yield from (node_view(node, CATALOGUE, now_ms) for now_ms in (NOW_MS - 1, NOW_MS, NOW_MS + 5000))
        yield node_view(node, CATALOGUE)
    room = Room(nodes.values(), [tuple(drawn.some(Assignment, 2))])
    for _ in range(3):
        yield room.take(tuple(drawn.some(Assignment, 2)), tuple(drawn.some(Assignment, 1)))
    yield beyond(tuple(drawn.some(Assignment, 3)), tuple(drawn.some(Assignment, 3)))
    yield [rank_placement(each) for each in drawn.some(Assignment, 2)]


def _queues(drawn: Drawn) -> Answers:
    """Queues as the core sees them, with what they have spent."""
    queues = drawn.some(Queue, 4)
    spent = {key: drawn.of(Spent) for key in ("nvidia/a", "amd/b", "cpu/b")}
    for queue in queues:
        yield spent_view(queue), queue_view(queue, spent, NOW_MS)
    world = World(queues={one.name: one for one in queues})
    yield queue_views(world), queue_views(world, {"a": spent, "b": {}}, NOW_MS)
    yield drawn.of(PeriodBudget)


def _looks(drawn: Drawn) -> Answers:
    """What follows of looks at the fabric for a workload."""
    observed, nodes = Observed(), {node.name: node for node in drawn.some(Node, 3)}
    workload = drawn.of(Workload)
    uid, attempt = workload.metadata.uid, workload.status.attempt
    for _ in range(3):
        looked = {node.name: node for node in drawn.some(NodeObservation, 3)}
        moved = observed.follow(_told_apart(looked.values()))
        yield moved.nodes, moved.places, moved.uids, observed.silent
        yield [(node.name, gang.uid, gang.attempt) for node, gang in observed.gangs()]
        yield [(node.name, gang.attempt) for node, gang in observed.gangs_of(uid)]
        yield observed.is_alive(uid), observed.was_told(uid, attempt), observed.lingering(uid, (1,))
        ranks = merge_ranks(workload, attempt, workload.status.ranks, observed)
        planned = merge_ranks(
            workload, 2, workload.status.next.ranks if workload.status.next else [], observed
        )
        yield ranks, planned
        seen: Seen = seen_of(workload, ranks, planned, observed, nodes, 2.5)
        yield seen, why_leave(workload, observed, nodes)
        yield [transitions.log_tail(workload, rank, observed) for rank in workload.status.ranks]


def _told_apart(nodes: Any) -> list[NodeObservation]:
    """Each gang is once on a node."""
    found = []
    for node in nodes:
        gangs: dict[tuple[str, int], GangRecord] = {(gang.uid, gang.attempt): gang for gang in node.gangs}
        object.__setattr__(node, "gangs", tuple(gangs.values()))
        found.append(node)
    return found


def _statuses(drawn: Drawn) -> Answers:
    """Statuses after each decision and step."""
    workload, rng = drawn.of(Workload), drawn.rng
    defer = drawn.of(Defer)
    yield transitions.after_admit(workload, drawn.of(Admit), NOW_MS)
    yield transitions.after_preempt(workload, drawn.of(Preempt), 2.5, NOW_MS)
    for move in (drawn.of(Resize), drawn.of(Migrate)):
        yield transitions.after_move(workload, move, rng.random() < 0.5, 2.5, NOW_MS)
    placement = tuple(drawn.some(Assignment, 2))
    yield transitions.after_surge(workload, placement, rng.choice(("Update", "Drain")), NOW_MS)
    yield transitions.after_surge_deferred(workload, defer)
    if defer.reasons:
        yield transitions.after_defer(workload, defer, NOW_MS)
    planned = drawn.some(RankPlacement, 2)
    step = drawn.of(Step)
    after = transitions.after_step(workload, drawn.some(RankPlacement, 2), planned, step, NOW_MS)
    yield step, after
    ranks = workload.status.ranks
    later = [drawn.of(RankPlacement) for _ in ranks]
    yield list(transitions.exit_notes(workload, later, Observed()))
    yield transitions.after_summary(workload, step.state.phase, planned, after.pending, "m", NOW_MS)
    yield facts_of(workload, Note("Succeeded", "m"), NOW_MS), facts_of(workload, Note("Failed", "m"), NOW_MS)


def _standings(drawn: Drawn) -> Answers:
    """What all workloads hold and wait for together, and who is told that it has changed."""
    world, rng = KeptWorld(), drawn.rng
    first = world.reader()
    for number in range(8):
        if number == 4:
            second = world.reader()
        workload = drawn.of(Workload)
        uid, gone = workload.metadata.uid, rng.random() < 0.3
        if gone:
            world.workloads.pop(uid, None)
        else:
            world.workloads[uid] = workload
        places: Any = ((world.nodes, Node), (world.queues, Queue), (world.projects, Project))
        for place, kind in places:
            resource = drawn.of(kind)
            if rng.random() < 0.3:
                place.pop(resource.name, None)
            else:
                place[resource.name] = resource
        yield {name: value for name, value in vars(world.standings).items() if not name.startswith("_")}
        yield world.standings.of(uid), world.versions
        yield first.take_workloads(), first.take_queues(), first.take_nodes(), first.projects
    yield second


RULES: dict[str, Draw] = {
    "workloads": (_views, 70),
    "nodes": (_nodes, 120),
    "queues": (_queues, 90),
    "looks": (_looks, 45),
    "statuses": (_statuses, 55),
    "standings": (_standings, 8),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", RULES)
def test_a_translation_is_as_approved(name: str, part: int) -> None:
    check_draws(Path(__file__), name, part, RULES[name])
