"""What is paused is refused, whoever asks and whoever pays, and nothing else is."""

from pathlib import Path

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import ComputilityError, Paused, openai_body
from common.ids import secret_digest
from common.settings import GatewaySettings, Settings
from common.wire import Route, RouteKey, RoutePause, RoutingTable
from inference.gateway.admission import Admission
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.table import RouteIndex, payer_of, places_of

CLOCK = VirtualClock()
KEYS = (
    RouteKey(digest=secret_digest("ck-1"), name="ci", role="member", tenant="acme", project="bots"),
    RouteKey(digest=secret_digest("ck-2"), name="boss", role="tenant-admin", tenant="acme"),
    RouteKey(digest=secret_digest("ck-3"), name="root", role="platform-admin"),
)
ROUTES = tuple(
    Route(
        model=model,
        backend_model=model,
        base_model=model,
        model_identity=f"{project}/weights",
        project=project,
        tenant=tenant,
        shared=True,
    )
    for model, project, tenant in (("mine", "bots", "acme"), ("theirs", "lab", "rival"))
)
PLACES = ("key/ci", "key/boss", "project/bots", "project/lab", "tenant/acme", "tenant/rival")
MODELS = ("model/bots/weights", "model/lab/weights")


def _pause(place: str) -> RoutePause:
    scope, _, name = place.partition("/")
    return RoutePause(scope=scope, name=name, since_ms=0, reason="loops since noon")


def _index(*paused: str) -> RouteIndex:
    return RouteIndex(RoutingTable(version="1", keys=KEYS, routes=ROUTES, pauses=tuple(map(_pause, paused))))


def _refused(index: RouteIndex, key: RouteKey, route: Route) -> bool:
    if index.refusal(key.digest, CLOCK.now_ms()) is not None:
        return True
    return index.pause(*places_of(payer_of(key.principal, route), route)) is not None


@given(st.sets(st.sampled_from((*PLACES, *MODELS))), st.sampled_from(KEYS), st.sampled_from(ROUTES))
def test_refused_is_what_is_paused_by_key_payer_or_model(
    paused: set[str], key: RouteKey, route: Route
) -> None:
    if key.role == "tenant-admin" and route.tenant != key.tenant:
        return  # nobody could be billed: refused in any case
    tenant, project = payer_of(key.principal, route)
    of_it = {
        f"key/{key.name}",
        f"project/{project}",
        f"tenant/{tenant}",
        f"tenant/{key.tenant}",
        f"model/{route.model_identity}",
    }
    assert _refused(_index(*sorted(paused)), key, route) == bool(of_it & paused)


def test_the_refusal_says_what_is_paused_since_when_and_why() -> None:
    with pytest.raises(Paused) as caught:
        _index("key/ci").key_of(b"Bearer ck-1", CLOCK)
    assert openai_body(caught.value)["error"] == {
        "message": "the key ci is paused: loops since noon",
        "type": "permission_error",
        "param": None,
        "code": "paused",
        "pause": {
            "scope": "key",
            "name": "ci",
            "since": "1970-01-01T00:00:00.000Z",
            "reason": "loops since noon",
        },
    }


async def test_what_runs_when_its_key_payer_or_model_is_paused_is_ended(tmp_path: Path) -> None:
    async with ClientSession() as session:
        follower = RouteFollower(Settings(home=tmp_path), session, CLOCK)
    follower.index = _index()
    gate, ended = Admission(GatewaySettings(), follower, CLOCK), list[ComputilityError]()
    with gate.request(KEYS[2]) as ticket:
        ticket.places = places_of(payer_of(KEYS[2].principal, ROUTES[0]), ROUTES[0])
        ticket.end = ended.append
        for place in ("key/root", "project/bots", "tenant/acme", "model/bots/weights"):
            follower.index = _index("project/lab", "model/lab/weights")
            gate.end_what_may_not_go_on()
            assert ended == []
            follower.index = _index(place)
            gate.end_what_may_not_go_on()
            assert [type(error) for error in ended] == [Paused]
            ended.clear()
