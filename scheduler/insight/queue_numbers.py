"""What queues and cohorts have, use, borrow and wait for, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.resources import Workload
from scheduler.core.model.device_classes import ModelKey, classes_of
from scheduler.core.model.types import QueueView
from scheduler.core.quota.quota import QuotaTree
from scheduler.insight.answers import BudgetRow, QueueRow, QuotaRow
from scheduler.translate.views import holds_places, is_group


def queue_rows(queues: Sequence[QueueView], tree: QuotaTree, workloads: Iterable[Workload]) -> list[QueueRow]:
    """One row for each, by name. ``tree`` holds what runs. Numbers of a cohort include all below it."""
    parents = {view.name: view.parent for view in queues}
    rows = {view.name: _row(view, tree) for view in sorted(queues, key=lambda view: view.name)}
    for workload in workloads:
        waits = workload.status.phase == "Pending" and not is_group(workload)
        runs = holds_places(workload)
        for name in _upwards(workload.spec.queue, parents) if waits or runs else ():
            row = rows[name]
            row.pending += waits
            row.running += runs
            row.pending_millis += least_millis(workload) if waits else 0
    for row in rows.values():
        if row.cohort:
            used = tree.usage(row.name)
            row.quotas = _cohort_quotas(row.name, queues, used)
            row.covered_millis = _covered(row.quotas, used)
            _sum_up(row, [rows[view.name] for view in queues if row.name in _upwards(view.name, parents)])
    return list(rows.values())


def _sum_up(cohort: QueueRow, members: Sequence[QueueRow]) -> None:
    """Nominal quota of the cohort and of all below it, and what is used beyond that."""
    nominal = [member.nominal_millis for member in members if member.nominal_millis is not None]
    if nominal:
        cohort.nominal_millis = sum(nominal)
        cohort.borrowed_millis = max(0, cohort.covered_millis - sum(nominal))


def least_millis(workload: Workload) -> int:
    """What the workload takes at least; requests by equivalence count as one device per rank."""
    return sum(
        (role.min_replicas or role.replicas) * role.devices.count * role.devices.share_millis
        for role in workload.spec.roles
    )


def _row(view: QueueView, tree: QuotaTree) -> QueueRow:
    used, share = tree.usage(view.name), tree.share(view.name)
    quotas = [_quota(quota.device_class, quota.nominal_millis, used) for quota in view.quotas]
    nominal, borrowed = _overall(quotas)
    return QueueRow(
        name=view.name,
        cohort=view.is_cohort,
        parent=view.parent,
        weight=view.weight,
        share=round(share, 6) if view.weight else None,
        nominal_millis=nominal if quotas else None,
        used_millis=sum(used.values()),
        covered_millis=_covered(quotas, used),
        borrowed_millis=borrowed,
        max_devices=view.max_devices,
        quotas=quotas,
        budgets=[
            BudgetRow(
                device_class=budget.device_class,
                limit_device_seconds=budget.limit_device_seconds,
                spent_device_seconds=budget.spent_device_seconds,
                renews_ms=budget.renews_ms,
            )
            for budget in view.budgets
        ],
    )


def _quota(device_class: str, nominal_millis: int, used: Mapping[ModelKey, int]) -> QuotaRow:
    mine = sum(millis for model, millis in used.items() if device_class.lower() in classes_of(model))
    return QuotaRow(
        device_class=device_class,
        nominal_millis=nominal_millis,
        used_millis=mine,
        borrowed_millis=max(0, mine - nominal_millis),
    )


def _covered(quotas: Iterable[QuotaRow], used: Mapping[ModelKey, int]) -> int:
    """What of the used devices some quota counts."""
    classes = {quota.device_class.lower() for quota in quotas}
    return sum(millis for model, millis in used.items() if classes.intersection(classes_of(model)))


def _cohort_quotas(cohort: str, queues: Sequence[QueueView], used: Mapping[ModelKey, int]) -> list[QuotaRow]:
    """Its own quotas and those of all below it, added up per class."""
    parents = {view.name: view.parent for view in queues}
    nominal: dict[str, int] = {}
    for view in queues:
        if cohort in _upwards(view.name, parents):
            for quota in view.quotas:
                nominal[quota.device_class] = nominal.get(quota.device_class, 0) + quota.nominal_millis
    return [_quota(name, millis, used) for name, millis in sorted(nominal.items())]


def _upwards(name: str, parents: Mapping[str, str]) -> list[str]:
    """The queue and the cohorts above it, as far as they are known."""
    chain: list[str] = []
    while name in parents:
        chain.append(name)
        name = parents[name]
    return chain


def _overall(quotas: Sequence[QuotaRow]) -> tuple[int, int]:
    """Nominal and borrowed millis in all: classes inside another one that is listed are not counted twice."""
    listed = {quota.device_class.lower() for quota in quotas}
    outer = [quota for quota in quotas if not _is_inside(quota.device_class.lower(), listed)]
    return sum(q.nominal_millis for q in outer), sum(q.borrowed_millis for q in outer)


def _is_inside(device_class: str, listed: set[str]) -> bool:
    vendor, slash, _ = device_class.partition("/")
    wider = {vendor} if slash else set()
    if vendor not in ("cpu", "*"):
        wider.add("*")
    return bool(wider & listed)
