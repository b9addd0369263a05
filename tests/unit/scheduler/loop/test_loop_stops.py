"""Work that a spent budget stops: it ends with its grace, is billed until then, waits, and goes on."""

from collections.abc import Collection

from common.resources import Project, Workload
from common.resources.workload import BUDGET_EXHAUSTED
from scheduler.insight.outlook import waiting_in
from scheduler.ports import Stop
from scheduler.translate.views import World
from tests.unit.scheduler.loop_scene import Scene

SPENT = "the budget cap is spent: 100 micro-credits for 2026-11"


class Cap:
    """A budget of a tenant that the test spends."""

    def __init__(self) -> None:
        self.spent: set[str] = set()
        self.broken = False
        self._told: set[str] = set()

    async def look(self) -> Collection[str]:
        if self.broken:
            raise ValueError("a budget that cannot be read")
        changed, self._told = self._told ^ self.spent, set(self.spent)
        return changed

    def why(self, workload: Workload, tenant: str) -> Stop | None:
        return Stop(BUDGET_EXHAUSTED, SPENT) if tenant in self._told else None


async def _scene() -> tuple[Scene, Cap]:
    scene, cap = await Scene().set_up(), Cap()
    _restart(scene, cap)
    return scene, cap


def _restart(scene: Scene, cap: Cap) -> None:
    scene.stops = cap
    scene.loop = scene.new_loop()


async def test_a_run_is_stopped_with_its_grace_billed_and_goes_on_later() -> None:
    scene, cap = await _scene()
    uid = await scene.submit(count=2, grace_seconds=7)
    await scene.steps(3)
    cap.spent = {"acme"}
    await scene.steps(1, seconds=30)
    assert scene.fabric.graces == [7]
    await scene.steps(3, seconds=1)
    stopped = (await scene.get()).status
    assert (stopped.phase, stopped.restarts, stopped.message) == ("Pending", 0, SPENT)
    assert [reason.code for reason in stopped.pending] == [BUDGET_EXHAUSTED]
    assert scene.gangs(uid) == {}
    assert scene.usage.device_seconds() == 2 * 30
    assert (await scene.events()).count("Waiting") == 1
    await scene.steps(5, seconds=60)
    assert scene.usage.device_seconds() == 2 * 30
    cap.spent = set()
    await scene.steps(3)
    assert (await scene.get()).status.phase == "Running"
    assert scene.gangs(uid).keys() == {2}


async def test_new_work_waits_and_is_told_why() -> None:
    scene, cap = await _scene()
    cap.spent = {"acme"}
    await scene.submit()
    await scene.steps(3)
    waits = await scene.get()
    assert (waits.status.phase, waits.status.attempt, waits.status.message) == ("Pending", 0, SPENT)
    assert scene.fabric.started == []
    world = World({}, {}, {"p": await scene.store.get(Project, "p")}, {waits.metadata.uid: waits})
    assert waiting_in(world, scene.clock.now_ms(), 10.0) == []


async def test_a_new_process_stops_what_the_old_one_did_not() -> None:
    scene, _ = await _scene()
    uid = await scene.submit()
    await scene.steps(3)
    fresh = Cap()
    fresh.spent = {"acme"}
    _restart(scene, fresh)
    await scene.steps(3)
    assert scene.gangs(uid) == {}
    again = Cap()
    again.spent = {"acme"}
    _restart(scene, again)
    await scene.steps(3)
    assert (await scene.get()).status.attempt == 1
    assert (await scene.events()).count("Waiting") == 1


async def test_engines_and_other_tenants_go_on() -> None:
    scene, cap = await _scene()
    engine, other = await scene.submit("engine", kind="inference"), await scene.submit("job")
    await scene.steps(3)
    cap.spent = {"rich"}
    await scene.steps(2)
    assert scene.gangs(other)
    cap.spent = {"rich", "acme"}
    await scene.steps(3)
    assert scene.gangs(engine)
    assert not scene.gangs(other)


async def test_where_budgets_cannot_be_read_all_else_goes_on_as_it_was() -> None:
    scene, cap = await _scene()
    stopped = await scene.submit("stopped")
    cap.spent = {"acme"}
    await scene.steps(3)
    cap.broken = True
    engine = await scene.submit("engine", kind="inference")
    await scene.steps(3)
    assert scene.gangs(engine)
    assert not scene.gangs(stopped)
    cap.broken, cap.spent = False, set()
    await scene.steps(3)
    assert scene.gangs(stopped)
