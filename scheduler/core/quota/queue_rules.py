"""Rules of queues: those that a queue does not set are its cohort's."""

from __future__ import annotations

from dataclasses import fields, replace

from scheduler.core.model.rules import QueueRules

DEFAULTS = QueueRules(
    queueing="bestEffort",
    within_queue="lowerPriority",
    reclaim_within_cohort="any",
    borrow_within_cohort="never",
    fair_sharing=True,
)
"""What holds where neither a queue nor a cohort above it says anything. Run times that are unset:
``Policy.min_run_seconds`` before equals take something back, else none."""


def inherited(rules: QueueRules, above: QueueRules) -> QueueRules:
    """The rules with what they leave open taken from those above."""
    unset = {item.name for item in fields(QueueRules) if getattr(rules, item.name) is None}
    if rules.borrow_within_cohort is not None:
        unset.discard("borrow_max_priority")
    return replace(rules, **{name: getattr(above, name) for name in unset})
