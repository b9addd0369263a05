"""One key cannot take all of a gateway, and a key that is no longer in force keeps nothing open."""

from pathlib import Path

import pytest
from aiohttp import ClientSession

from common.clock import VirtualClock
from common.errors import ComputilityError, TooManyRequests, Unauthenticated
from common.settings import GatewaySettings, Settings
from common.wire import RouteKey, RoutingTable
from inference.gateway.admission import Admission
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.table import RouteIndex

ALICE = RouteKey(digest="a", name="alice", role="agent", tenant="acme", project="web")
BOB = RouteKey(digest="b", name="bob", role="agent", tenant="acme", project="web", expires_ms=5_000)


@pytest.fixture
async def routes(tmp_path: Path) -> RouteFollower:
    async with ClientSession() as session:
        follower = RouteFollower(Settings(home=tmp_path), session, VirtualClock())
    follower.index = RouteIndex(RoutingTable(version="1", keys=(ALICE, BOB)))
    return follower


def admission(routes: RouteFollower, clock: VirtualClock | None = None, **limits: int) -> Admission:
    return Admission(GatewaySettings(**limits), routes, clock or VirtualClock())


async def test_requests_of_one_key_are_bounded_and_others_go_on(routes: RouteFollower) -> None:
    gate = admission(routes, max_requests_per_key=2)
    with gate.request(ALICE), gate.request(ALICE):
        with pytest.raises(TooManyRequests, match="2 requests open") as refused, gate.request(ALICE):
            pass
        assert refused.value.retry_after_seconds > 0
        with gate.request(BOB):
            pass
    with gate.request(ALICE):
        pass


async def test_answers_and_bytes_of_one_key_are_bounded_together(routes: RouteFollower) -> None:
    gate = admission(routes, max_sequences_per_key=10, body_bytes_per_key=100)
    with gate.request(ALICE) as first, gate.request(ALICE) as second:
        first.take_sequences(6)
        second.take_sequences(4)
        with pytest.raises(TooManyRequests, match="10 answers"):
            second.take_sequences(1)
        first.take_bytes(60)
        with pytest.raises(TooManyRequests, match="100 bytes"):
            second.take_bytes(41)
        first.drop_bytes()
        second.take_bytes(41)
    with gate.request(ALICE) as again:
        again.take_sequences(10)
        again.take_bytes(100)


async def test_many_keys_of_one_tenant_hold_no_more_than_the_tenant_may(routes: RouteFollower) -> None:
    eve = RouteKey(digest="e", name="eve", role="agent", tenant="evil", project="lab")
    gate = admission(
        routes, max_requests_per_tenant=2, max_sequences_per_tenant=10, body_bytes_per_tenant=100
    )
    with gate.request(ALICE) as first, gate.request(BOB) as second:
        with pytest.raises(TooManyRequests, match="this tenant has 2 requests"), gate.request(ALICE):
            pass
        first.take_sequences(6)
        with pytest.raises(TooManyRequests, match="this tenant ask for more than 10 answers"):
            second.take_sequences(5)
        first.take_bytes(60)
        with pytest.raises(TooManyRequests, match="this tenant's open requests have more than 100 bytes"):
            second.take_bytes(41)
        with gate.request(eve) as other:
            other.take_sequences(10)
            other.take_bytes(100)
    with gate.request(BOB) as again:
        again.take_sequences(10)
        again.take_bytes(100)


async def test_requests_of_revoked_and_expired_keys_are_ended(routes: RouteFollower) -> None:
    clock = VirtualClock(start_ms=0)
    gate, ended = admission(routes, clock), []
    with gate.request(ALICE) as alices, gate.request(BOB) as bobs, gate.request(ALICE):

        def note(name: str) -> None:
            def end(error: ComputilityError) -> None:
                assert isinstance(error, Unauthenticated)
                ended.append(name)

            (alices if name == "alice" else bobs).end = end

        note("alice")
        note("bob")
        gate.end_what_may_not_go_on()
        assert ended == []
        clock.advance(5.0)
        gate.end_what_may_not_go_on()
        assert ended == ["bob"]
        routes.index = RouteIndex(RoutingTable(version="2", keys=()))
        gate.end_what_may_not_go_on()
        assert sorted(ended) == ["alice", "bob", "bob"]
