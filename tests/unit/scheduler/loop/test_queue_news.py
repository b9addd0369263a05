"""What there is to tell of queues keeps no scheduler from its work."""

from common.clock import VirtualClock
from common.guard import Guard
from common.store.memory import MemoryStore
from scheduler.core.model.types import Defer
from scheduler.queue_events import QueueNews
from scheduler.translate.kept_world import WorldKeeper


async def test_a_decision_that_cannot_be_told_ends_no_pass() -> None:
    clock = VirtualClock()
    store, guard = MemoryStore(clock), Guard("scheduler", clock)
    news, world = QueueNews(store, clock, guard), WorldKeeper(store).world
    news.look([Defer("uid", (), "")], world)
    assert guard.fault_of(("news",)) is not None
    news.look([], world)
    assert guard.fault_of(("news",)) is None
    await news.tell(world)
