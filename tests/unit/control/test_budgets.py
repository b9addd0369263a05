"""What may be written to a Budget, and what is refused with its path."""

from typing import Any

import pytest

from common.auth import Principal
from common.clock import VirtualClock, rfc3339
from common.errors import ComputilityError, Forbidden
from common.resources import ApiKey, Budget, Metadata, Project, Tenant, parse_resource
from common.resources.people import ApiKeySpec, ProjectSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from control.admission.access import Caller, DirectoryCache
from control.admission.budgets import MAX_OF_SCOPE
from control.admission.lookup import References
from control.admission.references import check_delete, check_write

HOUR = 3600


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)

    async def populate(self) -> None:
        for tenant in ("acme", "evil"):
            await self.store.apply(Tenant(metadata=Metadata(name=tenant)))
        for project, tenant in (("bots", "acme"), ("lair", "evil")):
            spec = ProjectSpec(tenant=tenant)
            await self.store.apply(Project(metadata=Metadata(name=project), spec=spec))
        for key, project in (("ci", "bots"), ("spy", "lair")):
            spec_of_key = ApiKeySpec(role="member", project=project)
            await self.store.apply(ApiKey(metadata=Metadata(name=key), spec=spec_of_key))

    async def caller(self, role: Any = "platform-admin", tenant: str | None = None) -> Caller:
        directory = await DirectoryCache(self.store).current()
        return Caller(Principal("k", role, tenant), directory)

    async def write(self, name: str = "cap", as_: str = "platform-admin", **spec: Any) -> Budget:
        document = {
            "apiVersion": "computility.io/v1alpha1",
            "kind": "Budget",
            "metadata": {"name": name},
            "spec": {"scope": {"tenant": "acme"}, "limit": {"tokens": 100}, **spec},
        }
        budget = parse_resource(document)
        assert isinstance(budget, Budget)
        caller = await self.caller(as_, "acme" if as_ != "platform-admin" else None)
        references = References(self.store, [budget], Settings(), self.clock.now_ms())
        await check_write(budget, caller, references)
        applied = await self.store.apply(budget)
        return applied.resource

    async def refused(self, **spec: Any) -> tuple[str | None, str]:
        with pytest.raises(ComputilityError) as caught:
            await self.write(**spec)
        return caught.value.param, caught.value.message


@pytest.fixture
async def scene() -> Scene:
    made = Scene()
    await made.populate()
    return made


async def test_a_new_one_begins_now_and_goes_on_as_it_began(scene: Scene) -> None:
    first = await scene.write()
    assert first.spec.effective_from == rfc3339(scene.clock.now_ms())
    scene.clock.advance(HOUR)
    again = await scene.write(limit={"tokens": 200}, enforcement="soft")
    assert again.spec.effective_from == first.spec.effective_from
    assert again.metadata.uid == first.metadata.uid


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"limit": {"tokens": 0}}, "spec.limit.tokens"),
        ({"limit": {"microcredits": -5}}, "spec.limit.microcredits"),
        ({"limit": {"microcredits": 1.5}}, "spec.limit.microcredits"),
        ({"limit": {}}, "spec.limit"),
        ({"limit": {"tokens": 1, "microcredits": 1}}, "spec.limit"),
        ({"scope": {}}, "spec.scope.tenant"),
        ({"scope": {"tenant": "nobody"}}, "spec.scope.tenant"),
        ({"scope": {"tenant": "acme", "project": "lair"}}, "spec.scope.project"),
        ({"scope": {"tenant": "acme", "key": "spy"}}, "spec.scope.key"),
        ({"scope": {"tenant": "acme", "key": "none"}}, "spec.scope.key"),
        ({"scope": {"tenant": "acme", "tags": {str(n): "" for n in range(5)}}}, "spec.scope.tags"),
        ({"period": "year"}, "spec.period"),
        ({"timeZone": "Mars/Base"}, "spec.timeZone"),
        ({"effectiveFrom": "2020-01-01T00:00:00Z"}, "spec.effectiveFrom"),
        ({"effectiveUntil": "2020-01-01T00:00:00Z"}, "spec.effectiveUntil"),
        ({"notifyAtPercent": [80, 50]}, "spec.notifyAtPercent"),
        ({"notifyAtPercent": [0]}, "spec.notifyAtPercent[0]"),
        ({"limit": {"deviceHours": 5}}, "spec.enforcement"),
    ],
)
async def test_what_is_wrong_is_refused_with_its_path(scene: Scene, spec: dict[str, Any], path: str) -> None:
    found, message = await scene.refused(**spec)
    assert found == path, message


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"scope": {"tenant": "acme", "project": "bots"}}, "spec.scope"),
        ({"period": "day"}, "spec.period"),
        ({"timeZone": "Asia/Shanghai"}, "spec.timeZone"),
        ({"limit": {"microcredits": 100}}, "spec.limit"),
        ({"effectiveFrom": "2030-01-01T00:00:00Z"}, "spec.effectiveFrom"),
    ],
)
async def test_what_use_is_counted_by_cannot_change(scene: Scene, spec: dict[str, Any], path: str) -> None:
    await scene.write()
    found, message = await scene.refused(**spec)
    assert found == path, message


async def test_two_that_say_the_same_are_refused_and_two_kinds_are_not(scene: Scene) -> None:
    await scene.write()
    found, message = await scene.refused(name="other")
    assert found == "spec.scope"
    assert "Budget/cap" in message
    await scene.write("soft", enforcement="soft")
    await scene.write("daily", period="day")
    await scene.write("money", limit={"microcredits": 5})


async def test_one_may_follow_another_but_not_too_many_have_one_scope(scene: Scene) -> None:
    later = [rfc3339(scene.clock.now_ms() + 1000 * HOUR * n) for n in range(1, MAX_OF_SCOPE + 2)]
    await scene.write("b0", effectiveUntil=later[0])
    for number in range(1, MAX_OF_SCOPE):
        begin, end = later[number - 1], later[number]
        await scene.write(f"b{number}", effectiveFrom=begin, effectiveUntil=end)
    found, message = await scene.refused(name="more", effectiveFrom=later[-1])
    assert (found, f"{MAX_OF_SCOPE}" in message) == ("spec.scope", True)


async def test_a_tenant_admin_writes_narrow_budgets_of_its_own_tenant_only(scene: Scene) -> None:
    whole = await scene.write()
    with pytest.raises(Forbidden):
        await scene.write("mine", as_="tenant-admin", period="day")
    with pytest.raises(Forbidden):
        await check_delete(
            whole, await scene.caller("tenant-admin", "acme"), scene.store, scene.clock.now_ms()
        )
    narrow = {"tenant": "acme", "project": "bots", "key": "ci", "user": "u-1", "tags": {"team": "x"}}
    await scene.write("narrow", as_="tenant-admin", scope=narrow)
    platforms = ApiKey(metadata=Metadata(name="root"), spec=ApiKeySpec(role="platform-admin"))
    await scene.store.apply(platforms)
    roots = {"tenant": "acme", "key": "root"}
    await scene.write("roots", scope=roots)
    found, _ = await scene.refused(name="probe", as_="tenant-admin", scope=roots)
    assert found == "spec.scope.key"
    await scene.write("theirs", scope={"tenant": "evil"})
    found, _ = await scene.refused(name="theirs", as_="tenant-admin", scope=narrow)
    assert found == "metadata.name"
    found, _ = await scene.refused(
        name="evil", as_="tenant-admin", scope={"tenant": "evil", "project": "lair"}
    )
    assert found == "spec.scope.tenant"


async def test_what_a_budget_is_of_cannot_go_before_it(scene: Scene) -> None:
    await scene.write(scope={"tenant": "acme", "project": "bots"})
    for kind, name in ((Tenant, "acme"), (Project, "bots")):
        found = await scene.store.find(kind, name)
        assert found is not None
        with pytest.raises(ComputilityError) as caught:
            await check_delete(found, await scene.caller(), scene.store, scene.clock.now_ms())
        assert "Budget/cap" in caught.value.message
