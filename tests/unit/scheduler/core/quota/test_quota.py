"""What queues admit and what they say when they do not."""

import pytest

from common.errors import InvalidInput
from scheduler.core.model.types import PeriodBudget, QueueView
from scheduler.core.quota.quota import QuotaRefusal, QuotaTree
from tests.unit.scheduler.quota_worlds import B910, CPU, H100, L20, MODELS, cohort, queue, quota, tree


def held(queues: QuotaTree, name: str, need: dict[tuple[str, str], int]) -> QuotaRefusal:
    refusal = queues.check(name, need)
    assert refusal is not None
    return refusal


def test_unknown_queues_and_cohorts_take_no_workloads() -> None:
    queues = tree(cohort("ai"), queue("research", "ai"))
    assert held(queues, "typo", {H100: 1000}) == QuotaRefusal(
        "QueueUnknown", "there is no queue typo", "apply a Queue named typo"
    )
    assert held(queues, "ai", {H100: 1000}).remedy == "use one of: research"


def test_a_parent_that_nobody_declared_is_a_cohort_without_quotas_of_its_own() -> None:
    queues = tree(queue("a", "ai", quota("*", 2)), queue("b", "ai", quota("*", 2)))
    assert queues.check("a", {H100: 4000}) is None
    assert held(queues, "ai", {H100: 1000}).code == "QueueUnknown"


def test_a_project_uses_the_queues_that_it_may() -> None:
    queues = tree(queue("research"), queue("product"))
    refusal = queues.check("research", {H100: 1000}, ("product", "night"), project="chat")
    assert refusal == QuotaRefusal(
        "QueueNotAllowed", "project chat may not use queue research", "use one of: product, night"
    )
    assert queues.check("product", {H100: 1000}, ("product", "night")) is None


def test_max_devices_counts_devices_of_all_kinds_and_parts_of_them() -> None:
    queues = tree(queue("q", max_devices=4))
    queues.charge("q", H100, 2500)
    queues.charge("q", CPU, 1000)
    assert queues.check("q", {L20: 500}) is None
    assert held(queues, "q", {L20: 1000}) == QuotaRefusal(
        "QueueLimit",
        "waits for queue q: needs 1 device, 3.5 of maxDevices 4 are in use",
        "0.5 devices of the queue come free",
    )
    assert held(queues, "q", {L20: 3000, H100: 2000}) == QuotaRefusal(
        "QueueLimit",
        "never fits in queue q: needs 5 devices, maxDevices is 4",
        "raise maxDevices to 5 or ask for less",
        never=True,
    )


def test_a_cohort_may_have_a_limit_on_devices_too() -> None:
    queues = tree(cohort("ai", max_devices=4), queue("a", "ai"), queue("b", "ai"))
    queues.charge("a", H100, 3000)
    refusal = held(queues, "b", {H100: 2000})
    assert refusal.message == "waits for cohort ai: needs 2 devices, 3 of maxDevices 4 are in use"


def test_a_queue_without_quota_and_cohort_is_not_limited() -> None:
    queues = tree(queue("free"))
    queues.charge("free", H100, 10**9)
    assert queues.check("free", {H100: 10**9}) is None
    assert queues.open_models("free", 10**9, MODELS) == MODELS
    assert queues.borrowed("free", H100) == 0
    assert queues.within_nominal("free", H100, 10**9)


def test_a_queue_on_its_own_has_its_nominal_quota() -> None:
    queues = tree(queue("q", "", quota("nvidia/H100", 8)))
    queues.charge("q", H100, 6000)
    assert queues.check("q", {H100: 2000}) is None
    assert held(queues, "q", {H100: 3000}) == QuotaRefusal(
        "QuotaExhausted",
        "queue q: needs 3 of nvidia/H100, has 8 nominal, 6 in use",
        "1 of nvidia/H100 comes free in queue q, or its quota is raised",
    )
    assert held(queues, "q", {H100: 9000}) == QuotaRefusal(
        "QuotaExhausted",
        "never fits in queue q: needs 9 of nvidia/H100, has 8 nominal",
        "raise the quota by 1 or ask for less",
        never=True,
    )


def test_unused_quota_of_the_cohort_is_borrowed_up_to_the_limit() -> None:
    queues = tree(
        cohort("ai"),
        queue("research", "ai", quota("nvidia", 8, borrowing=4)),
        queue("product", "ai", quota("nvidia", 8)),
    )
    queues.charge("research", H100, 12_000)
    assert queues.borrowed("research", H100) == 4000
    refusal = held(queues, "research", {H100: 1000})
    assert refusal.code == "QuotaExhausted"
    assert refusal.message == ("queue research: needs 1 of nvidia, has 8 nominal and may borrow 4, 12 in use")
    never = held(queues, "research", {H100: 13_000})
    assert never.never
    assert never.message == (
        "never fits in queue research: needs 13 of nvidia, has 8 nominal and may borrow 4"
    )


def test_what_is_not_lent_cannot_be_borrowed() -> None:
    queues = tree(
        cohort("ai"),
        queue("research", "ai", quota("nvidia/H100", 40)),
        queue("product", "ai", quota("nvidia/H100", 16, lending=12)),
    )
    queues.charge("research", H100, 48_000)
    assert held(queues, "research", {H100: 16_000}).message == (
        "queue research: needs 16 of nvidia/H100, has 40 nominal, 48 in use, 4 left to borrow in cohort ai"
    )
    assert queues.check("research", {H100: 4000}) is None
    assert queues.check("product", {H100: 8000}) is None
    refusal = held(queues, "research", {H100: 53_000})
    assert refusal.never
    assert refusal.message == (
        "never fits in queue research: needs 53 of nvidia/H100, has 40 nominal,"
        " and could use at most 52 in cohort ai"
    )


def test_what_a_queue_keeps_for_itself_is_not_given_back_to_the_cohort() -> None:
    queues = tree(cohort("ai"), queue("a", "ai", quota("*", 16, lending=12)), queue("b", "ai", quota("*", 2)))
    queues.charge("a", H100, 18_000)
    assert queues.open_models("b", 1, MODELS) == ()
    queues.refund("a", H100, 3000)
    queues.refund("a", H100, 15_000)
    assert queues.open_models("b", 14_000, MODELS) == MODELS
    assert queues.open_models("b", 14_001, MODELS) == ()


def test_a_lender_is_told_that_its_own_is_lent() -> None:
    queues = tree(cohort("ai"), queue("a", "ai", quota("*", 8)), queue("b", "ai", quota("*", 8)))
    queues.charge("b", B910, 14_000)
    refusal = held(queues, "a", {H100: 4000})
    assert refusal.code == "CohortExhausted"
    assert refusal.message == (
        "queue a: needs 4 accelerators, has 8 nominal, 0 in use, 0 left to borrow in cohort ai,"
        " 6 of its own are lent"
    )
    assert refusal.remedy == "2 accelerators come free in cohort ai"


def test_nested_cohorts_lend_and_limit_what_is_borrowed() -> None:
    queues = tree(
        cohort("root", "", quota("*", 10)),
        cohort("left", "root", quota("*", 0, borrowing=4)),
        cohort("right", "root"),
        queue("a", "left", quota("*", 2)),
        queue("b", "right", quota("*", 6, lending=1)),
    )
    assert queues.open_models("a", 6000, MODELS) == MODELS
    assert queues.open_models("a", 7000, MODELS) == ()
    queues.charge("a", H100, 6000)
    refusal = held(queues, "a", {H100: 1000})
    assert (refusal.code, refusal.never) == ("CohortExhausted", False)
    assert "0 left to borrow in cohort left" in refusal.message
    assert queues.check("b", {H100: 12_000}) is None
    queues.charge("b", H100, 12_000)
    assert held(queues, "b", {H100: 1000}).code == "CohortExhausted"


def test_a_grant_counts_in_every_class_that_covers_it() -> None:
    queues = tree(queue("q", "", quota("*", 8), quota("nvidia", 6), quota("NVIDIA/h100", 2)))
    queues.charge("q", H100, 2000)
    assert held(queues, "q", {H100: 1000}).message.startswith("queue q: needs 1 of nvidia/H100")
    queues.charge("q", L20, 4000)
    assert held(queues, "q", {L20: 1000}).message.startswith("queue q: needs 1 of nvidia,")
    queues.charge("q", B910, 2000)
    assert held(queues, "q", {B910: 1000}).message.startswith("queue q: needs 1 accelerator,")
    assert queues.check("q", {CPU: 50_000}) is None


def test_a_gang_of_several_models_must_pass_with_all_of_it() -> None:
    queues = tree(queue("q", "", quota("*", 8), quota("nvidia", 6)))
    assert queues.check("q", {H100: 3000, L20: 3000, B910: 2000}) is None
    assert held(queues, "q", {H100: 4000, L20: 3000}).never
    assert held(queues, "q", {H100: 4000, B910: 5000}).message.startswith(
        "never fits in queue q: needs 9 accelerators"
    )


def test_a_class_that_only_others_have_does_not_count_beside_an_own_one() -> None:
    queues = tree(cohort("ai"), queue("a", "ai", quota("nvidia/H100", 2)), queue("b", "ai", quota("*", 8)))
    assert queues.check("b", {H100: 8000}) is None
    queues.charge("b", H100, 8000)
    assert queues.check("a", {H100: 2000}) is None


def test_who_has_no_quota_for_a_device_borrows_from_those_that_have() -> None:
    queues = tree(
        cohort("ai"),
        queue("a", "ai", quota("ascend", 4, lending=3)),
        queue("b", "ai", quota("nvidia", 4)),
        queue("c", "ai"),
    )
    assert queues.check("b", {B910: 3000}) is None
    assert held(queues, "b", {B910: 4000}).never
    queues.charge("c", B910, 2000)
    assert held(queues, "b", {B910: 2000}).message == (
        "queue b: needs 2 of ascend, has 0 nominal, 0 in use, 1 left to borrow in cohort ai"
    )
    assert queues.check("a", {B910: 2000}) is None


def test_open_models_follow_what_is_charged_in_the_cohort() -> None:
    queues = tree(cohort("ai"), queue("a", "ai", quota("nvidia", 4), quota("ascend", 2)), queue("b", "ai"))
    assert queues.open_models("b", 3000, MODELS) == (H100, L20)
    assert queues.open_models("b", 3000, [B910]) == ()
    queues.charge("a", L20, 2000)
    assert queues.open_models("b", 3000, MODELS) == ()
    assert queues.open_models("b", 2000, MODELS) == (H100, L20, B910)
    queues.refund("a", L20, 2000)
    assert queues.open_models("b", 3000, MODELS) == (H100, L20)
    assert queues.open_models("unknown", 1, MODELS) == ()


def test_a_spent_budget_stops_admission_until_it_renews() -> None:
    budget = PeriodBudget("nvidia", 120 * 3600, 120 * 3600 + 1800, renews_ms=1_785_715_200_000)
    fresh = PeriodBudget("ascend", 3600, 3599, renews_ms=1_785_715_200_000)
    queues = tree(queue("q", "", quota("*", 8), budgets=(budget, fresh)))
    queues.charge("q", H100, 8000)
    assert held(queues, "q", {L20: 1000}) == QuotaRefusal(
        "BudgetSpent",
        "queue q: 120.5 of 120 device-hours of nvidia are spent, renews 2026-08-03 00:00 UTC",
        "wait until 2026-08-03 00:00 UTC, or raise the budget",
    )
    queues.refund("q", H100, 8000)
    assert queues.open_models("q", 1000, MODELS) == (B910,)
    assert held(queues, "q", {H100: 9000}).code == "QuotaExhausted"


def test_a_budget_of_a_cohort_is_spent_for_all_its_queues() -> None:
    budget = PeriodBudget("*", 3600, 3600, renews_ms=0)
    queues = tree(cohort("ai", budgets=(budget,)), queue("a", "ai"), queue("b", "ai"))
    assert held(queues, "b", {B910: 1}).message.startswith("cohort ai: 1 of 1 device-hours of accelerators")
    assert queues.check("a", {CPU: 1000}) is None


def test_nominal_is_what_the_queue_itself_has() -> None:
    queues = tree(
        cohort("ai", "", quota("*", 64)),
        queue("a", "ai", quota("nvidia/H100", 8)),
        queue("b", "ai"),
    )
    assert queues.within_nominal("a", H100, 8000)
    assert not queues.within_nominal("a", H100, 9000)
    assert not queues.within_nominal("b", H100, 1000)
    assert not queues.within_nominal("unknown", H100, 1000)
    queues.charge("b", H100, 5000)
    assert queues.borrowed("b", H100) == 5000
    assert queues.borrowed("unknown", H100) == 0


def test_running_work_of_a_deleted_queue_is_not_counted() -> None:
    queues = tree(queue("q"))
    queues.charge("gone", H100, 1000)
    queues.refund("gone", H100, 1000)
    assert queues.usage("gone") == {}
    assert queues.share("gone") == float("inf")


def test_over_admission_after_a_quota_was_cut_is_shown_not_hidden() -> None:
    queues = tree(cohort("ai"), queue("a", "ai", quota("*", 2)), queue("b", "ai", quota("*", 2)))
    queues.charge("a", H100, 9000)
    refusal = held(queues, "b", {H100: 1000})
    assert refusal.remedy == "6 accelerators come free in cohort ai"
    assert "0 left to borrow" in refusal.message


def test_who_needs_nothing_of_a_model_is_not_held_back_by_it() -> None:
    spent = PeriodBudget("ascend", 1, 1, renews_ms=0)
    queues = tree(queue("q", "", quota("nvidia", 2), max_devices=2, budgets=(spent,)))
    queues.charge("q", H100, 3000)
    assert queues.check("q", {}) is None
    assert queues.check("q", {H100: 0}) is None
    assert queues.check("q", {H100: 0, B910: 0}) is None
    assert queues.open_models("q", 0, MODELS) == MODELS


@pytest.mark.parametrize(
    ("views", "field"),
    [
        ([QueueView("a"), QueueView("a")], "name"),
        ([QueueView("a", parent="b"), QueueView("b", parent="a")], "parent"),
        ([QueueView("c", parent="a"), QueueView("a", parent="a")], "parent"),
        ([QueueView("a", weight=-1)], "weight"),
        ([QueueView("a", max_devices=-1)], "max_devices"),
        ([queue("a", "", quota("nvidia/", 1))], "quotas"),
        ([queue("a", "", quota("nvidia", -1))], "quotas"),
        ([queue("a", "", quota("nvidia", 1, lending=-1))], "quotas"),
        ([queue("a", "", quota("nvidia", 1), quota("NVIDIA", 1))], "quotas"),
        ([QueueView("a", budgets=(PeriodBudget("", 1, 0, 0),))], "budgets"),
        ([QueueView("a", budgets=(PeriodBudget("*", -1, 0, 0),))], "budgets"),
    ],
)
def test_wrong_queues_are_refused_by_name(views: list[QueueView], field: str) -> None:
    with pytest.raises(InvalidInput, match=r"queues? (named )?[ab]") as caught:
        tree(*views)
    assert caught.value.param == field


def test_what_was_not_charged_cannot_be_refunded() -> None:
    queues = tree(queue("q"))
    queues.charge("q", H100, 1000)
    with pytest.raises(InvalidInput, match="refund of 1001 millis, uses 1000"):
        queues.refund("q", H100, 1001)
    with pytest.raises(InvalidInput, match="charge of -1"):
        queues.charge("q", H100, -1)
