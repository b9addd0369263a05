"""What may be written to a Guardrail, by whom, and what events tell of hits."""

from typing import Any

import pytest

from common.auth import Principal
from common.clock import VirtualClock
from common.errors import ComputilityError, Forbidden
from common.resources import ApiKey, Guardrail, Metadata, Project, Tenant, parse_resource
from common.resources.people import ApiKeySpec, ProjectSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from common.wire import GuardHits, GuardReport
from control.admission.access import Caller, DirectoryCache
from control.admission.guardrails import MAX_GUARDRAILS
from control.admission.lookup import References
from control.admission.references import check_delete, check_write
from control.api.routes.guardrails import tried
from control.guard_hits import tell_hits
from inference.routes import build_routing_table

SECRETS = {"kind": "secrets", "action": "mask"}


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)

    async def populate(self) -> None:
        for tenant, project, key in (("acme", "bots", "ci"), ("evil", "lair", "spy")):
            await self.store.apply(Tenant(metadata=Metadata(name=tenant)))
            spec = ProjectSpec(tenant=tenant)
            await self.store.apply(Project(metadata=Metadata(name=project), spec=spec))
            of_key = ApiKeySpec(role="member", project=project)
            await self.store.apply(ApiKey(metadata=Metadata(name=key), spec=of_key))

    async def caller(self, role: Any, tenant: str | None = "acme") -> Caller:
        directory = await DirectoryCache(self.store).current()
        return Caller(Principal("k", role, None if role == "platform-admin" else tenant), directory)

    async def write(self, name: str = "mine", as_: str = "tenant-admin", **spec: Any) -> Guardrail:
        document = {
            "apiVersion": "computility.io/v1alpha1",
            "kind": "Guardrail",
            "metadata": {"name": name},
            "spec": {"scope": {"tenant": "acme"}, "guards": [SECRETS], **spec},
        }
        guardrail = parse_resource(document)
        assert isinstance(guardrail, Guardrail)
        references = References(self.store, [guardrail], Settings(), self.clock.now_ms())
        await check_write(guardrail, await self.caller(as_), references)
        return (await self.store.apply(guardrail)).resource


@pytest.fixture
async def scene() -> Scene:
    made = Scene()
    await made.populate()
    return made


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"scope": {}}, "spec.scope.tenant"),
        ({"scope": {"tenant": "evil"}}, "spec.scope.tenant"),
        ({"scope": {"tenant": "acme", "project": "lair"}}, "spec.scope.project"),
        ({"scope": {"tenant": "acme", "key": "spy"}}, "spec.scope.key"),
        ({"mandatory": True}, "spec.mandatory"),
        ({"guards": [{"kind": "personal", "action": "mask", "countries": ["QQ"]}]},
         "spec.guards[0].countries"),
        ({"guards": [SECRETS, {"kind": "terms", "action": "block", "terms": ["\u200b"]}]},
         "spec.guards[1].terms[0]"),
        ({"guards": [{"kind": "terms", "action": "block", "terms": ["a" * n for n in range(1, 20)]}]},
         "spec.guards[0].terms"),
        ({"guards": [{"kind": "terms", "action": "block", "terms": []}]}, "spec.guards[0]"),
        ({"guards": [{"kind": "secrets", "action": "block", "find": ["email"]}]}, "spec.guards[0]"),
        ({"guards": []}, "spec.guards"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_by_its_path(scene: Scene, spec: Any, path: str) -> None:
    with pytest.raises(ComputilityError) as caught:
        await scene.write(**spec)
    told = {caught.value.param, *(one.path for one in caught.value.problems)}
    assert path in told


async def test_what_the_platform_made_mandatory_is_not_loosened_by_a_tenant(scene: Scene) -> None:
    made = await scene.write(as_="platform-admin", mandatory=True)
    with pytest.raises(Forbidden):
        await scene.write(mandatory=False)
    with pytest.raises(Forbidden):
        await check_delete(made, await scene.caller("tenant-admin"), scene.store, 0)
    await check_delete(made, await scene.caller("platform-admin"), scene.store, 0)


async def test_other_tenants_do_not_learn_of_it(scene: Scene) -> None:
    made = await scene.write()
    platform = await scene.write("everybody", as_="platform-admin", scope={})
    stranger = await scene.caller("tenant-admin", "evil")
    assert not stranger.sees(made)
    assert not stranger.sees(platform)


async def test_a_tenant_has_so_many_and_no_more(scene: Scene) -> None:
    for number in range(MAX_GUARDRAILS):
        await scene.write(f"g{number}")
    with pytest.raises(ComputilityError, match="may have no more"):
        await scene.write("one-more")
    await scene.write("g0")


async def test_gateways_are_told_of_it_in_another_version_of_the_table(scene: Scene) -> None:
    before = await build_routing_table(scene.store)
    await scene.write(scope={"tenant": "acme", "project": "bots", "model": "tiny"})
    after = await build_routing_table(scene.store)
    assert after.version != before.version
    [told] = after.guardrails
    assert (told.name, told.tenant, told.project, told.key, told.model) == (
        "mine",
        "acme",
        "bots",
        "",
        "tiny",
    )
    assert told.guards[0]["kind"] == "secrets"


async def test_hits_are_one_event_a_minute_without_text(scene: Scene) -> None:
    await scene.write()
    hits = GuardHits(
        guardrail="mine", guard="secrets", action="mask", direction="input", count=2, request_id="req-1",
        path="messages[0].content",
    )  # fmt: skip
    gone = hits.model_copy(update={"guardrail": "gone"})
    for _ in range(5):
        await tell_hits(scene.store, GuardReport(hits=(hits, gone)), scene.clock.now_ms())
    scene.clock.advance(60)
    await tell_hits(scene.store, GuardReport(hits=(hits,)), scene.clock.now_ms())
    events = [one for one in await scene.store.events() if one.reason == "GuardrailHit"]
    assert [one.message for one in events] == [
        "secrets masked 2 in requests, as in req-1 at messages[0].content"
    ] * 2


async def test_a_trial_tells_what_would_go_on(scene: Scene) -> None:
    blocks = {
        "kind": "terms",
        "name": "falcon",
        "action": "block",
        "terms": ["falcon"],
        "direction": "output",
    }
    made = await scene.write(guards=[{"kind": "personal", "action": "mask"}, blocks])
    masked = tried(made, "of Falcon, to jo@example.org", "input")
    assert (masked.text, masked.blocked_by) == ("of Falcon, to [EMAIL]", None)
    assert [(one.guard, one.action, one.count) for one in masked.hits] == [("personal", "mask", 1)]
    assert tried(made, "of Falcon", "output").model_dump()["blocked_by"] == "falcon"
    assert tried(made, "of Falcon", "output").text is None
