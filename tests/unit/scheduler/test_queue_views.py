"""Queues of the store as the core sees them."""

from common.resources import Metadata, Queue
from common.resources.pool import QueueSpec
from scheduler.core.quota.quota import QuotaTree
from scheduler.translate.views import World, queue_views


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
