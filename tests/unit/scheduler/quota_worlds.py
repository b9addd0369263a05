"""Queues, cohorts and random worlds of them for tests of quota, fairness and order."""

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from scheduler.core.model.device_classes import ModelKey, classes_of
from scheduler.core.model.types import QueueView, Quota, WorkloadView
from scheduler.core.quota.quota import QuotaTree

H100: ModelKey = ("nvidia", "H100")
L20: ModelKey = ("nvidia", "L20")
B910: ModelKey = ("ascend", "910B")
CPU: ModelKey = ("cpu", "cpu")
MODELS = (H100, L20, B910)
CAPACITY = {H100: 64_000, L20: 32_000, B910: 64_000, CPU: 128_000}


def quota(
    device_class: str, nominal: int, *, borrowing: int | None = None, lending: int | None = None
) -> Quota:
    """A quota in whole devices."""
    return Quota(
        device_class,
        nominal * 1000,
        None if borrowing is None else borrowing * 1000,
        None if lending is None else lending * 1000,
    )


def queue(name: str, parent: str = "", *quotas: Quota, **more: object) -> QueueView:
    return QueueView(name, parent=parent, quotas=quotas, **more)  # type: ignore[arg-type]


def cohort(name: str, parent: str = "", *quotas: Quota, **more: object) -> QueueView:
    return queue(name, parent, *quotas, is_cohort=True, **more)


def tree(*queues: QueueView, capacity: Mapping[ModelKey, int] = CAPACITY) -> QuotaTree:
    return QuotaTree(queues, capacity)


def waiting(name: str, queue: str = "a", **more: object) -> WorkloadView:
    values: dict[str, object] = {
        "uid": f"uid-{name}",
        "project": "p",
        "priority": 0,
        "created_ms": 0,
        "roles": (),
        **more,
    }
    return WorkloadView(name=name, queue=queue, **values)  # type: ignore[arg-type]


# Strategies are made once: to make one takes longer than to draw from it.
_CLASSES = st.sets(st.sampled_from(["*", "nvidia", "nvidia/H100", "ascend"]), max_size=3)
_LIMIT = st.none() | st.integers(0, 6)
_NOMINAL = st.integers(0, 8)
_PARENT_OF_COHORT = st.sampled_from(["", "x"])
_PARENT_OF_QUEUE = st.sampled_from(["x", "y", "x", "y", ""])
_WEIGHT = st.integers(0, 3)
_MAX_DEVICES = st.none() | st.integers(0, 20)
_DECAYED_USE = st.sampled_from([0.0, 1e6, 1e8])


def _quotas(draw: st.DrawFn) -> tuple[Quota, ...]:
    return tuple(
        quota(name, draw(_NOMINAL), borrowing=draw(_LIMIT), lending=draw(_LIMIT))
        for name in sorted(draw(_CLASSES))
    )


@st.composite
def forests(draw: st.DrawFn) -> list[QueueView]:
    """Up to three levels of cohorts with five queues, some of them on their own."""
    views = [cohort("x", "", *_quotas(draw)), cohort("y", draw(_PARENT_OF_COHORT), *_quotas(draw))]
    for name in "abcde":
        views.append(
            queue(
                name,
                draw(_PARENT_OF_QUEUE),
                *_quotas(draw),
                weight=draw(_WEIGHT),
                max_devices=draw(_MAX_DEVICES),
                decayed_use=draw(_DECAYED_USE),
            )
        )
    return views


def covers(device_class: str, model: ModelKey) -> bool:
    return device_class.lower() in classes_of(model)


def chain(views: Sequence[QueueView], name: str) -> list[QueueView]:
    """A queue and the cohorts above it."""
    by_name = {view.name: view for view in views}
    found = [by_name[name]]
    while found[-1].parent:
        found.append(by_name[found[-1].parent])
    return found
