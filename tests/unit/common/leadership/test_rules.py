"""When the lease may be taken."""

import pytest

from common.leadership.rules import Candidate, Lease, Sight

ME = Candidate("here:1", "b", "http://here:1")
OTHER = Lease(3, "there:1/a", "http://there:1", beat=5)
LEASE_SECONDS, LOOK_SECONDS = 8.0, 1.0


@pytest.fixture
def sight() -> Sight:
    return Sight(ME, LEASE_SECONDS, LOOK_SECONDS)


def watch(sight: Sight, lease: Lease, start: float, seconds: float) -> list[str | None]:
    """What it says each second, to the end of these seconds."""
    return [sight.see(lease, start + n, start + n) for n in range(int(seconds) + 1)]


def test_one_that_nobody_has_may_be_taken_at_once(sight: Sight) -> None:
    assert sight.see(Lease(), 0, 0) == "free"
    assert sight.see(Lease(7, "", "", 12), 1, 1) == "free"


def test_the_same_beat_has_to_be_seen_for_the_whole_time(sight: Sight) -> None:
    assert watch(sight, OTHER, 100, LEASE_SECONDS) == [None] * 8 + ["expired"]


@pytest.mark.parametrize("later", [Lease(3, OTHER.holder, OTHER.url, 6), Lease(4, "third/c", "", 5)])
def test_another_beat_or_holder_begins_the_time_anew(sight: Sight, later: Lease) -> None:
    assert set(watch(sight, OTHER, 0, 7)) == {None}
    assert watch(sight, later, 8, LEASE_SECONDS) == [None] * 8 + ["expired"]


def test_time_in_which_it_could_not_read_does_not_count(sight: Sight) -> None:
    watch(sight, OTHER, 0, 7)
    sight.miss()
    assert watch(sight, OTHER, 8, LEASE_SECONDS) == [None] * 8 + ["expired"]


def test_time_in_which_it_was_stopped_itself_does_not_count(sight: Sight) -> None:
    watch(sight, OTHER, 0, 2)
    assert watch(sight, OTHER, 60, LEASE_SECONDS) == [None] * 8 + ["expired"]


def test_a_slow_answer_is_no_proof_of_silence(sight: Sight) -> None:
    assert sight.see(OTHER, 0, 4) is None
    assert sight.see(OTHER, 5, 9) is None
    assert sight.see(OTHER, 10, 11.9) is None
    assert sight.see(OTHER, 12, 12) == "expired"


def test_who_starts_where_the_holder_was_knows_that_it_is_gone() -> None:
    before = Lease(3, f"{ME.place}/a", ME.url)
    assert Sight(ME, LEASE_SECONDS, LOOK_SECONDS).see(before, 0, 0) == "restarted"
    later = Sight(ME, LEASE_SECONDS, LOOK_SECONDS)
    assert later.see(OTHER, 0, 0) is None
    assert later.see(before, 1, 1) is None, "only as it starts: else two with one name would never rest"


def test_a_take_whose_answer_got_lost_is_known_again(sight: Sight) -> None:
    assert sight.see(Lease(3, ME.holder, ME.url), 0, 0) == "own"
