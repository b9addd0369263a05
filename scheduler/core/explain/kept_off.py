"""Which devices a workload was kept off because others can use nothing else, in words."""

from __future__ import annotations

from scheduler.core.model.types import Assignment, Placement, Request, WorkloadView
from scheduler.core.pool.layout import Group, Layout
from scheduler.core.pool.pool import Pool

DEARER = 0.05
"""Devices whose price is higher by less than this are as good as those that it has."""


def kept_off(pool: Pool, workload: WorkloadView, placement: Placement) -> list[str]:
    """A sentence for each model that could serve it too and is scarcer than what it has: ``kept off A10:
    wanted by name by queue vision``."""
    requests = {role.name: role.request for role in workload.roles}
    lines: dict[str, None] = {}
    for rank in placement:
        place, request = _place(pool, rank), requests.get(rank.role)
        if place is not None and request is not None:
            lines |= dict.fromkeys(_lines(pool, request, *place))
    return list(lines)


def _place(pool: Pool, rank: Assignment) -> tuple[Group, Layout] | None:
    """The devices of a rank as a group on a kind of node; None without devices, or where the node is gone."""
    number = pool.number(rank.node)
    if number is None or not rank.shares:
        return None
    layout, share = pool.usage[number].layout, rank.shares[0]
    group = next((one for one in layout.groups if one.key == (share.vendor, share.model)), None)
    return None if group is None else (group, layout)


def _lines(pool: Pool, request: Request, group: Group, layout: Layout) -> list[str]:
    dearer = pool.scarcity.dearer(group, layout, request, DEARER)
    return [f"kept off {model}: wanted {_why(one.request)} by queue {one.queue}" for model, one in dearer]


def _why(request: Request) -> str:
    """What makes somebody need just these devices: the first thing that it says."""
    reasons = (
        (request.models, "by name"),
        (request.vendors, "by vendor"),
        (request.node_labels, "for the labels of its nodes"),
        (request.capabilities, "for what it can do"),
        (request.memory_bytes or request.total_memory_bytes, "for its memory"),
        (request.tflops or request.total_tflops, "for its speed"),
    )
    return next((words for named, words in reasons if named), "for the devices and CPU of its nodes")
