"""What one open request holds of its key's and its tenant's bounds, and gives back."""

import pytest

from common.errors import TooManyRequests
from common.settings import GatewaySettings
from common.wire import RouteKey
from inference.core.usage import TokenCounts
from inference.gateway.admission import RETRY_AFTER_SECONDS, KeyLoad, Ticket

SETTINGS = GatewaySettings(
    max_requests_per_key=2,
    max_sequences_per_key=5,
    body_bytes_per_key=100,
    max_requests_per_tenant=3,
    max_sequences_per_tenant=8,
    body_bytes_per_tenant=150,
    answer_bytes_per_tenant=1000,
)
KEY = RouteKey(digest="d", name="k", role="member", tenant="acme", project="lab")


class Scene:
    """Two keys of one tenant."""

    def __init__(self) -> None:
        self.tenant = KeyLoad()
        self.keys = KeyLoad(), KeyLoad()

    def ticket(self, key: int = 0) -> Ticket:
        made = Ticket(KEY, self.keys[key], SETTINGS, self.tenant)
        made.open()
        return made

    def held(self) -> list[tuple[int, int, int, int]]:
        """Requests, answers, bytes of bodies and of answers: of both keys and of the tenant."""
        return [
            (load.requests, load.sequences, load.body_bytes, load.answer_bytes)
            for load in (*self.keys, self.tenant)
        ]


NOTHING = [(0, 0, 0, 0)] * 3


def test_all_that_is_held_is_counted_for_key_and_tenant_and_given_back_once() -> None:
    scene = Scene()
    first, second = scene.ticket(), scene.ticket(1)
    first.take_sequences(2)
    first.take_sequences(1)
    first.take_bytes(30)
    first.take_bytes(20)
    second.take_bytes(7)
    assert first.take_answer(400)
    assert first.take_answer(100)
    assert scene.held() == [(1, 3, 50, 0), (1, 0, 7, 0), (2, 3, 57, 500)]
    first.drop_bytes()
    first.drop_bytes()
    first.drop_answer()
    first.drop_answer()
    assert scene.held() == [(1, 3, 0, 0), (1, 0, 7, 0), (2, 3, 7, 0)]
    assert second.take_answer(9)
    first.close()
    assert scene.held() == [(0, 0, 0, 0), (1, 0, 7, 0), (1, 0, 7, 9)]
    second.close()
    assert scene.held() == NOTHING


def test_just_the_bound_is_allowed_and_what_is_refused_is_not_counted() -> None:
    scene = Scene()
    ticket = scene.ticket()
    ticket.take_sequences(5)
    ticket.take_bytes(100)
    assert ticket.take_answer(1000)
    before = scene.held()
    for refused in (lambda: ticket.take_sequences(1), lambda: ticket.take_bytes(1)):
        with pytest.raises(TooManyRequests, match="this key") as caught:
            refused()
        assert caught.value.retry_after_seconds == RETRY_AFTER_SECONDS
    assert not ticket.take_answer(1)
    assert ticket.take_answer(0)
    assert scene.held() == before


def test_a_tenant_is_bounded_over_all_of_its_keys() -> None:
    scene = Scene()
    first, second = scene.ticket(), scene.ticket(1)
    first.take_sequences(5)
    first.take_bytes(100)
    second.take_sequences(3)
    second.take_bytes(50)
    assert first.take_answer(999)
    assert second.take_answer(1)
    assert not second.take_answer(1)
    before = scene.held()
    for refused in (lambda: second.take_sequences(1), lambda: second.take_bytes(1)):
        with pytest.raises(TooManyRequests, match="this tenant"):
            refused()
    assert scene.held() == before
    scene.ticket()
    with pytest.raises(TooManyRequests, match="this tenant has 3 requests open"):
        scene.ticket(1)
    with pytest.raises(TooManyRequests, match="this key has 2 requests open"):
        scene.ticket(0)


def test_a_key_without_a_tenant_has_bounds_of_its_own_only() -> None:
    load = KeyLoad()
    ticket = Ticket(KEY, load, SETTINGS)
    ticket.open()
    ticket.take_bytes(100)
    assert ticket.take_answer(1000)
    assert not ticket.take_answer(1)
    assert (load.requests, load.body_bytes, load.answer_bytes) == (1, 100, 1000)
    ticket.close()
    assert load == KeyLoad()


def test_large_bodies_of_one_key_are_read_one_at_a_time() -> None:
    scene = Scene()
    assert scene.ticket().turn() is scene.ticket().turn()
    assert scene.ticket(1).turn() is not scene.keys[0].large_body


def test_what_is_not_kept_of_a_stream_any_more_is_room_for_others() -> None:
    scene = Scene()
    first, second = scene.ticket(), scene.ticket(1)
    assert first.take_record(500)
    assert not second.take_record(1)
    first.drop_record(400)
    assert scene.held() == [(1, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 100)]
    assert second.take_record(400)
    first.close()
    second.close()
    assert scene.held() == NOTHING


def test_what_cannot_be_given_back_keeps_nothing_else() -> None:
    def broken(_: int) -> None:
        raise OSError("no locks available")

    scene, settled = Scene(), list[TokenCounts]()
    ticket = scene.ticket()
    ticket.take_sequences(2)
    ticket.take_bytes(30)
    ticket.take_answer(9)
    ticket.spent(TokenCounts(3, 4))
    ticket.release, ticket.settle = broken, settled.append
    with pytest.raises(OSError, match="no locks"):
        ticket.close()
    assert settled == [TokenCounts(3, 4)]
    assert scene.held() == NOTHING
