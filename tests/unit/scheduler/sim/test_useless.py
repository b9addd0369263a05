"""Which preemptions count as having brought nothing, and which as voided from outside."""

from collections.abc import Callable

import pytest

from scheduler.core.model.types import Admit, Assignment, Decision, Defer, Preempt, Reason, Share
from scheduler.sim.useless import Useless

REASON = (Reason("Preempting", "waits"),)


def places(*devices: str) -> tuple[Assignment, ...]:
    shares = tuple(Share(device, 0, "nvidia", "H100", 0) for device in devices)
    return (Assignment("main", 0, 0, "n", shares, 0, 0),)


def waits(uid: str, *devices: str, outbid_by: str = "") -> Defer:
    nominated = places(*devices) if devices else ()
    return Defer(uid, REASON, "", nominated=nominated, outbid_by=outbid_by)


def begun() -> Useless:
    """Two are preempted for a claimant, which waits for two devices."""
    useless = Useless()
    useless.follow([Preempt("v1", "c", ""), Preempt("v2", "c", ""), waits("c", "d0", "d1")])
    return useless


def test_a_claimant_that_starts_was_worth_it() -> None:
    useless = begun()
    useless.follow([waits("c", "d0", "d1")])
    useless.follow([Admit("c", places("d0", "d1"))])
    useless.follow([waits("c")])
    assert (useless.preemptions, useless.voided) == (0, 0)


@pytest.mark.parametrize(
    "then",
    [
        [waits("c")],
        [Preempt("v3", "c", ""), waits("c", "d5")],
        [waits("other", "d0", "d1"), waits("c")],
    ],
    ids=["waits on", "others make way for it anew", "another waits for them, who has not outbid it"],
)
def test_a_claimant_that_loses_its_places_was_not(then: list[Decision]) -> None:
    useless = begun()
    useless.follow(then)
    assert (useless.preemptions, useless.voided) == (2, 0)


def test_a_claimant_that_gets_other_places_without_taking_from_anybody_was_worth_it() -> None:
    useless = begun()
    useless.follow([waits("c", "d5")])
    assert (useless.preemptions, useless.voided) == (0, 0)
    useless.follow([waits("c")])
    assert useless.preemptions == 2


def test_whoever_takes_over_the_places_or_the_quota_has_to_start() -> None:
    useless = begun()
    useless.follow([waits("c", outbid_by="vital"), waits("vital", "d7")])
    assert useless.preemptions == 0
    useless.follow([waits("vital")])
    assert useless.preemptions == 2


def test_nobody_is_preempted_for_one_that_no_places_are_cleared_for() -> None:
    useless = Useless()
    useless.follow([Preempt("v", "c", ""), waits("c")])
    assert useless.preemptions == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda useless: useless.withdraw("c"),
        lambda useless: useless.shake(lambda uid, _: uid == "c"),
        lambda useless: useless.shake(lambda _, held: held[0].node == "n"),
    ],
    ids=["it is withdrawn", "it is changed", "its node is lost"],
)
def test_what_changes_outside_voids_a_preemption(change: Callable[[Useless], None]) -> None:
    useless = begun()
    change(useless)
    useless.follow([waits("c")])
    assert (useless.preemptions, useless.voided) == (0, 2)


def test_a_change_before_the_last_cycle_excuses_nothing() -> None:
    useless = begun()
    useless.shake(lambda *_: True)
    useless.follow([waits("c", "d0", "d1")])
    useless.follow([waits("c")])
    assert (useless.preemptions, useless.voided) == (2, 0)
