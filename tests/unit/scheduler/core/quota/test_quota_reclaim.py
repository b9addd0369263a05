"""Who may take capacity back from whom, and that it comes to an end."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model.device_classes import ModelKey
from scheduler.core.model.types import QueueView
from scheduler.core.quota.quota import QuotaTree
from tests.unit.scheduler.quota_worlds import (
    B910,
    CAPACITY,
    H100,
    L20,
    MODELS,
    chain,
    cohort,
    covers,
    forests,
    queue,
    quota,
    tree,
)

QUEUES = "abcde"


def test_a_lender_takes_its_nominal_quota_back_and_no_more() -> None:
    queues = tree(cohort("ai"), queue("a", "ai", quota("*", 8)), queue("b", "ai", quota("*", 8)))
    queues.charge("b", H100, 14_000)
    assert queues.may_reclaim("a", "b", H100, 6000)
    assert not queues.may_reclaim("a", "b", H100, 7000), "b would fall below its nominal quota"
    assert not queues.may_reclaim("a", "b", L20, 1000), "b has none"
    assert not queues.may_reclaim("a", "b", H100, 0)
    queues.charge("a", L20, 8000)
    assert queues.share("a") > queues.share("b")
    assert not queues.may_reclaim("a", "b", H100, 1000), "a has its nominal quota already"


def test_the_example_of_the_design_note() -> None:
    queues = tree(
        cohort("ai"),
        queue("research", "ai", quota("nvidia/H100", 40)),
        queue("product", "ai", quota("nvidia/H100", 16, borrowing=8, lending=12)),
        queue("night", "ai"),
    )

    def said(name: str, devices: int) -> str:
        refusal = queues.check(name, {H100: devices * 1000})
        return "" if refusal is None else f"{refusal.code}: {refusal.message}"

    queues.charge("research", H100, 48_000)
    assert queues.borrowed("research", H100) == 8000
    assert said("research", 16) == (
        "CohortExhausted: queue research: needs 16 of nvidia/H100, has 40 nominal, 48 in use,"
        " 4 left to borrow in cohort ai"
    )
    assert said("night", 4) == ""
    queues.charge("night", H100, 4000)
    assert said("product", 4) == ""
    assert said("product", 12) == (
        "CohortExhausted: queue product: needs 12 of nvidia/H100, has 16 nominal, 0 in use,"
        " 0 left to borrow in cohort ai, 12 of its own are lent"
    )
    assert queues.may_reclaim("product", "night", H100, 4000)
    assert queues.may_reclaim("product", "research", H100, 8000)
    queues.refund("research", H100, 8000)
    assert said("product", 12) == ""
    queues.charge("product", H100, 12_000)
    assert said("product", 13) == (
        "QuotaExhausted: queue product: needs 13 of nvidia/H100, has 16 nominal and may borrow 8, 12 in use"
    )
    assert not queues.may_reclaim("research", "product", H100, 1000)
    assert not queues.may_reclaim("research", "night", H100, 1000)


def test_a_queue_within_its_nominal_quota_loses_nothing() -> None:
    queues = tree(
        cohort("ai", "", quota("*", 8)), queue("a", "ai", quota("*", 8)), queue("b", "ai", quota("*", 8))
    )
    queues.charge("b", H100, 8000)
    assert not queues.may_reclaim("a", "b", H100, 1000)


def test_only_queues_of_one_cohort_tree_take_from_each_other() -> None:
    queues = tree(
        cohort("ai"),
        cohort("hpc"),
        queue("a", "ai", quota("*", 8)),
        queue("b", "hpc", quota("*", 0)),
        queue("c"),
    )
    for name in "bc":
        queues.charge(name, H100, 8000)
        assert not queues.may_reclaim("a", name, H100, 1000)
    assert not queues.may_reclaim("a", "a", H100, 1000)
    assert not queues.may_reclaim("unknown", "b", H100, 1000)
    assert not queues.may_reclaim("a", "unknown", H100, 1000)


def test_the_narrowest_quota_is_the_guarantee() -> None:
    """b is within its quota for all accelerators, yet sits on H100s that are a's."""
    own = (quota("nvidia/H100", 16), quota("*", 32))
    queues = tree(cohort("ai"), queue("a", "ai", *own), queue("b", "ai", *own))
    queues.charge("b", H100, 24_000)
    queues.charge("b", B910, 8000)
    assert queues.may_reclaim("a", "b", H100, 8000)
    assert not queues.may_reclaim("a", "b", H100, 9000)
    assert not queues.may_reclaim("a", "b", B910, 1000)


def test_a_quota_for_a_model_protects_against_claims_to_any_accelerator() -> None:
    queues = tree(
        cohort("ai"),
        queue("a", "ai", quota("*", 32)),
        queue("b", "ai", quota("nvidia/H100", 16), quota("*", 8)),
    )
    queues.charge("b", H100, 16_000)
    assert not queues.may_reclaim("a", "b", H100, 8000)
    queues.charge("b", L20, 8000)
    assert queues.may_reclaim("a", "b", L20, 8000)


def test_a_cohort_takes_back_what_its_queues_together_are_entitled_to() -> None:
    queues = tree(
        cohort("root"),
        cohort("left", "root", quota("*", 8)),
        cohort("right", "root", quota("*", 8)),
        queue("a", "left"),
        queue("b", "right"),
        queue("c", "right", quota("*", 2)),
    )
    queues.charge("b", H100, 10_000)
    queues.charge("c", H100, 2000)
    assert queues.may_reclaim("a", "b", H100, 2000)
    assert not queues.may_reclaim("a", "b", H100, 3000), "right would fall below its nominal quota"
    assert not queues.may_reclaim("a", "c", H100, 1000), "c is within its own"


def test_borrowers_even_out_their_weighted_shares_and_stop() -> None:
    queues = tree(cohort("ai", "", quota("*", 12)), queue("a", "ai", weight=2), queue("b", "ai"))
    queues.charge("b", H100, 12_000)
    taken = 0
    while queues.may_reclaim("a", "b", H100, 1000):
        queues.refund("b", H100, 1000)
        queues.charge("a", H100, 1000)
        taken += 1
    assert taken == 8, "at 8 to 4 devices their shares are equal, and neither takes from the other"
    assert not queues.may_reclaim("b", "a", H100, 1000)


def test_a_queue_of_weight_zero_yields_to_all_others() -> None:
    queues = tree(cohort("ai", "", quota("*", 12)), queue("a", "ai"), queue("b", "ai", weight=0))
    queues.charge("b", H100, 1000)
    queues.charge("a", H100, 11_000)
    assert queues.may_reclaim("a", "b", H100, 1000)
    assert not queues.may_reclaim("b", "a", H100, 1000)


def test_the_recent_past_counts() -> None:
    month = 30 * 24 * 3600 * 12.0
    queues = tree(cohort("ai", "", quota("*", 12)), queue("a", "ai", decayed_use=month), queue("b", "ai"))
    queues.charge("b", H100, 1000)
    assert queues.share("a") > queues.share("b")
    assert not queues.may_reclaim("a", "b", H100, 1000)


def test_nobody_evens_out_what_a_narrower_quota_of_the_cohort_covers() -> None:
    """In team, what d uses counts as NPUs, of which the team has one to lend; what a uses does not. If a took
    it for a fairer share, c could take from a, d from c by the team's quota, a from d, and so on."""
    queues = tree(
        cohort("all"),
        cohort("team", "all"),
        queue("a", "team", quota("*", 1)),
        queue("d", "team", quota("ascend", 0), weight=0),
        queue("e", "team", quota("ascend", 1), weight=0),
        queue("c", "all"),
    )
    queues.charge("a", B910, 2000)
    assert queues.may_reclaim("c", "a", B910, 1000)
    queues.refund("a", B910, 1000)
    queues.charge("c", B910, 1000)
    assert queues.may_reclaim("d", "c", B910, 1000), "the team is guaranteed an NPU"
    queues.refund("c", B910, 1000)
    queues.charge("d", B910, 1000)
    assert not queues.may_reclaim("a", "d", B910, 1000)
    queues.charge("d", B910, 1000)
    assert queues.may_reclaim("a", "d", B910, 1000), "the team keeps its NPU"


@settings(max_examples=120, deadline=None)
@given(forests(), st.data())
def test_reclaiming_comes_to_an_end(views: list[QueueView], data: st.DataObject) -> None:
    """Whoever takes whatever may be taken, in any order, never gets back to where things were."""
    queues = QuotaTree(views, CAPACITY)
    used: dict[tuple[str, ModelKey], int] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        key = data.draw(st.sampled_from(QUEUES)), data.draw(st.sampled_from(MODELS))
        millis = data.draw(st.integers(1, 9)) * 1000
        queues.charge(*key, millis)
        used[key] = used.get(key, 0) + millis
    seen = {tuple(sorted(used.items()))}
    for _ in range(60):
        moves = [
            (claimant, victim, model, millis)
            for (victim, model), held in used.items()
            for claimant in QUEUES
            for millis in (1000, 3000)
            if millis <= held and queues.may_reclaim(claimant, victim, model, millis)
        ]
        if not moves:
            break
        claimant, victim, model, millis = data.draw(st.sampled_from(moves))
        queues.refund(victim, model, millis)
        queues.charge(claimant, model, millis)
        used[victim, model] -= millis
        used[claimant, model] = used.get((claimant, model), 0) + millis
        state = tuple(sorted((key, held) for key, held in used.items() if held))
        assert state not in seen
        seen.add(state)
    else:
        raise AssertionError("still reclaiming after 60 moves")


@settings(max_examples=80, deadline=None)
@given(forests(), st.data())
def test_a_victim_keeps_its_nominal_quota_and_the_order_of_shares(
    views: list[QueueView], data: st.DataObject
) -> None:
    queues = QuotaTree(views, CAPACITY)
    model = data.draw(st.sampled_from(MODELS))
    for name in QUEUES:
        queues.charge(name, model, data.draw(st.integers(0, 12)) * 1000)
    parents = {view.name: view.parent for view in views}
    weights = {view.name: view.weight for view in views}
    for claimant, victim in permutations(QUEUES, 2):
        if not queues.may_reclaim(claimant, victim, model, 1000):
            continue
        yields = not weights[victim] and weights[claimant] > 0
        borrowed = queues.borrowed(victim, model)
        counted = any(
            covers(each.device_class, model)
            for view in views
            if chain(views, view.name)[-1] is chain(views, victim)[-1]
            for each in view.quotas
        )
        entitled = counted and queues.within_nominal(claimant, model, 1000)
        queues.refund(victim, model, 1000)
        queues.charge(claimant, model, 1000)
        assert queues.borrowed(victim, model) == max(0, borrowed - 1000)
        assert borrowed >= 1000 or not counted
        if parents[claimant] == parents[victim] and not entitled and not yields:
            assert queues.share(claimant) <= queues.share(victim)
        queues.refund(claimant, model, 1000)
        queues.charge(victim, model, 1000)
