"""Who gets in, what they see, and who pays."""

from typing import Any

import pytest

from common.auth import Principal
from common.clock import VirtualClock
from common.errors import Forbidden, NotFound, Unauthenticated
from common.ids import secret_digest
from common.wire import Route, RouteKey, RouteReplica, RoutingTable
from inference.gateway.control_link.table import RouteIndex, payer_of

CLOCK = VirtualClock()
MEMBER = Principal("k", "member", "acme", "bots")


def route(model: str, project: str, tenant: str, **extra: Any) -> Route:
    return Route(model=model, backend_model=model, base_model=model, project=project, tenant=tenant, **extra)


INDEX = RouteIndex(
    RoutingTable(
        version="1",
        keys=(
            RouteKey(digest=secret_digest("ck-1"), name="k", role="member", tenant="acme", project="bots"),
            RouteKey(
                digest=secret_digest("ck-old"),
                name="old",
                role="member",
                tenant="acme",
                project="bots",
                expires_ms=1,
            ),
        ),
        routes=(
            route("base", "shared-models", "platform", shared=True),
            route("base", "bots", "acme"),
            route("open", "shared-models", "platform", shared=True),
            route("ft:base:acme:x/1", "bots", "acme"),
            route("hers", "lab", "acme"),
            route("theirs", "den", "rival"),
        ),
    )
)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ft:base:acme:zoo:1:ckpt-step-15", "finetunes try JOB --step 15"),
        ("ft:base:ckpt-step-", ""),
        (":ckpt-step-1", ""),
        ("ckpt-step-x", ""),
    ],
)
def test_a_checkpoint_that_is_not_served_says_how_it_will_be(name: str, hint: str) -> None:
    with pytest.raises(NotFound) as error:
        INDEX.find(MEMBER, name)
    assert hint in error.value.message
    assert ("finetunes try" in error.value.message) is bool(hint)


def test_the_name_of_a_model_or_an_endpoint_leads_to_what_it_is_served_as() -> None:
    def engine(project: str) -> RouteReplica:
        return RouteReplica(
            id="e", url="http://e", endpoint=f"{project}/chat", model_identity="hub/llama", model_shared=True
        )

    def told(name: str, principal: Principal) -> str:
        with pytest.raises(NotFound) as error:
            index.find(principal, name)
        return error.value.message.partition("access to it.")[2]

    routes = (
        route("tiny", "bots", "acme", replicas=(engine("bots"), engine("bots"))),
        route("small", "models", "platform", shared=True, replicas=(engine("models"),)),
        route("secret", "den", "rival", replicas=(engine("den"),)),
        Route(
            model="ft:tiny:acme:x/1",
            backend_model="ft:tiny:acme:x/1",
            base_model="tiny",
            project="bots",
            tenant="acme",
            replicas=(engine("bots"),),
        ),
    )
    index = RouteIndex(RoutingTable(version="1", keys=(), routes=routes))
    for name in ("llama", "chat"):
        assert told(name, MEMBER) == " It is served as `small` or `tiny`: put that into `model`."
        assert told(name, Principal("r", "member", "rival", "other")).startswith(" It is served as `small`:")
        assert not told(name, Principal("a", "agent", "acme", "bots", ("nothing",)))
    assert not told("hub/llama", MEMBER)


def test_a_known_key_is_let_in_whatever_the_case_of_the_scheme() -> None:
    assert INDEX.key_of(b"Bearer ck-1", CLOCK).principal == MEMBER
    assert INDEX.key_of(b"bearer  ck-1 ", CLOCK).principal == MEMBER


@pytest.mark.parametrize(
    "header", [b"", b"ck-1", b"Basic ck-1", b"Bearer ", b"Bearer ck-2", b"Bearer ck-old", b"Bearer \xff"]
)
def test_all_others_are_not(header: bytes) -> None:
    with pytest.raises(Unauthenticated):
        INDEX.key_of(header, CLOCK)


def test_a_member_sees_the_own_project_and_what_is_shared_and_the_own_wins() -> None:
    assert [r.model for r in INDEX.visible(MEMBER)] == ["base", "ft:base:acme:x/1", "open"]
    assert INDEX.find(MEMBER, "base").project == "bots"


def test_hidden_models_are_told_like_unknown_ones() -> None:
    messages = []
    for name in ("theirs", "hers", "nothing"):
        with pytest.raises(NotFound) as error:
            INDEX.find(MEMBER, name)
        assert (error.value.code, error.value.param) == ("model_not_found", "model")
        messages.append(error.value.message.replace(name, "*"))
    assert len(set(messages)) == 1


def test_a_key_for_some_models_sees_only_those() -> None:
    agent = Principal("a", "agent", "acme", "bots", ("open",))
    assert [r.model for r in INDEX.visible(agent)] == ["open"]
    with pytest.raises(NotFound):
        INDEX.find(agent, "base")


def test_a_tenant_admin_sees_the_tenant_and_a_platform_admin_all() -> None:
    admin = Principal("t", "tenant-admin", "acme")
    assert [r.model for r in INDEX.visible(admin)] == ["base", "ft:base:acme:x/1", "hers", "open"]
    assert INDEX.find(admin, "base").tenant == "acme"
    assert "theirs" in [r.model for r in INDEX.visible(Principal("p", "platform-admin"))]


def test_the_key_pays_or_without_a_project_the_route_but_never_another_tenant() -> None:
    admin, root = Principal("t", "tenant-admin", "acme"), Principal("p", "platform-admin")
    shared = INDEX.find(MEMBER, "open")
    assert payer_of(MEMBER, shared) == ("acme", "bots")
    assert payer_of(admin, INDEX.find(admin, "hers")) == ("acme", "lab")
    assert payer_of(root, shared) == ("platform", "shared-models")
    with pytest.raises(Forbidden, match="use a project's key"):
        payer_of(admin, shared)


def test_a_private_name_takes_nothing_from_others_not_even_from_a_platform_admin() -> None:
    index = RouteIndex(
        RoutingTable(
            version="1",
            keys=(),
            routes=(
                route("big", "aaa", "aaa"),
                route("big", "models", "platform", shared=True),
                route("big", "zzz", "zzz"),
            ),
        )
    )
    others = (MEMBER, Principal("t", "tenant-admin", "acme"), Principal("p", "platform-admin"))
    assert {index.find(who, "big").project for who in others} == {"models"}
    assert index.find(Principal("k", "member", "aaa", "aaa"), "big").project == "aaa"
