"""Queues of the store as the core sees them."""

from common.resources import Metadata, Node, Queue, Workload
from common.resources.pool import NodeSpec, QueuePreemption, QueueSpec, Toleration
from common.resources.workload import WorkloadRole, WorkloadSpec
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.rules import QueueRules
from scheduler.core.pool.filters import untolerated
from scheduler.core.quota import queue_rules
from scheduler.core.quota.quota import QuotaTree
from scheduler.translate.views import World, node_view, queue_views, workload_view


def queue(name: str, parent: str) -> Queue:
    return Queue(metadata=Metadata(name=name), spec=QueueSpec(parent=parent or None))


def test_parents_in_a_circle_do_not_stop_the_others() -> None:
    circle = [queue("a", "b"), queue("b", "c"), queue("c", "a")]
    others = [queue("below", "a"), queue("team", ""), queue("mine", "team")]
    views = queue_views(World(queues={q.name: q for q in [*circle, *others]}))
    parents = {view.name: view.parent for view in views}
    assert [parents[name] for name in "abc"] == ["", "", ""]
    assert (parents["below"], parents["mine"]) == ("a", "team")
    QuotaTree(views, {})


def test_workloads_tolerate_what_they_and_their_queues_tolerate() -> None:
    spec = QueueSpec(tolerations=[Toleration(key="team", value="blue")])
    world = World(queues={"mine": Queue(metadata=Metadata(name="mine"), spec=spec)})
    role = WorkloadRole(name="main", command=["true"])
    work = Workload(
        metadata=Metadata(name="w", project="p"),
        spec=WorkloadSpec(queue="mine", roles=[role], tolerations=[Toleration(key="spot")]),
    )
    (view,) = workload_view(work, world).roles
    assert view.request.tolerates == (("spot", ""), ("team", "blue"))
    node = Node(metadata=Metadata(name="n"), spec=NodeSpec(taints={"team": "blue", "disk": "slow"}))
    assert untolerated(node_view(node, Catalogue(())).taints, view.request) == (("disk", "slow"),)


def test_what_a_queue_says_about_preemption_reaches_the_scheduler_and_the_rest_is_its_cohorts() -> None:
    above = QueuePreemption(
        borrow_within_cohort="lowerPriority",
        borrow_max_priority=5,
        fair_sharing=False,
        preempt_min_runtime_seconds=60,
    )
    queues = {
        "team": Queue(
            metadata=Metadata(name="team"), spec=QueueSpec(cohort=True, queueing="strict", preemption=above)
        ),
        "mine": Queue(
            metadata=Metadata(name="mine"),
            spec=QueueSpec(parent="team", preemption=QueuePreemption(reclaim_min_runtime_seconds=9)),
        ),
        "strict": Queue(
            metadata=Metadata(name="strict"),
            spec=QueueSpec(
                parent="team",
                queueing="bestEffort",
                preemption=QueuePreemption(borrow_within_cohort="lowerPriority", within_queue="never"),
            ),
        ),
    }
    tree = QuotaTree(queue_views(World(queues=queues)), {})
    assert tree.rules("mine") == QueueRules(
        "strict", "lowerPriority", "any", "lowerPriority", 5, False, 60, 9
    )
    assert tree.rules("strict") == QueueRules(
        "bestEffort", "never", "any", "lowerPriority", None, False, 60, None
    )
    assert tree.rules("default") == queue_rules.DEFAULTS
