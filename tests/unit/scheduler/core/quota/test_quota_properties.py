"""What holds for every forest of queues, whatever is charged and refunded."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model.device_classes import ModelKey, classes_of
from scheduler.core.model.types import QueueView, Quota
from scheduler.core.quota.quota import QuotaTree
from tests.unit.scheduler.quota_worlds import CAPACITY, MODELS, chain, covers, forests

QUEUES = "abcde"
Used = dict[tuple[str, ModelKey], int]
steps = st.lists(
    st.tuples(
        st.sampled_from(QUEUES), st.sampled_from(MODELS), st.sampled_from([250, 500, 1000, 2000, 4000])
    ),
    max_size=40,
)


class Books:
    """The rules of quotas computed from scratch, from what each queue uses."""

    def __init__(self, views: Sequence[QueueView]) -> None:
        self.views = {view.name: view for view in views}
        self.children = {name: [v.name for v in views if v.parent == name] for name in self.views}

    def quota(self, name: str, device_class: str) -> Quota | None:
        return next((q for q in self.views[name].quotas if q.device_class == device_class), None)

    def counts(self, name: str, device_class: str, model: ModelKey) -> bool:
        above = chain(list(self.views.values()), name)
        own = {q.device_class for view in above for q in view.quotas if covers(q.device_class, model)}
        return device_class in own or not own

    def subtree(self, name: str, device_class: str) -> int:
        found = self.quota(name, device_class)
        lent = sum(
            self.subtree(child, device_class) - self.kept(child, device_class)
            for child in self.children[name]
        )
        return lent + (found.nominal_millis if found else 0)

    def kept(self, name: str, device_class: str) -> int:
        found = self.quota(name, device_class)
        if found is None or found.lending_millis is None:
            return 0
        return max(0, self.subtree(name, device_class) - found.lending_millis)

    def drawn(self, name: str, device_class: str, used: Used) -> int:
        """What a member uses of its subtree's quota: its own use and what its children take from it."""
        own = sum(
            millis
            for (queue, model), millis in used.items()
            if queue == name and covers(device_class, model) and self.counts(name, device_class, model)
        )
        return own + sum(
            max(0, self.drawn(child, device_class, used) - self.kept(child, device_class))
            for child in self.children[name]
        )

    def is_legal(self, queue: str, used: Used, model: ModelKey) -> bool:
        above = chain(list(self.views.values()), queue)
        for view in above:
            limit = view.max_devices
            below = sum(
                millis for (name, _), millis in used.items() if view in chain(list(self.views.values()), name)
            )
            if limit is not None and below > limit * 1000:
                return False
        known = {
            q.device_class for view in self.views.values() for q in view.quotas if self._same(view, above)
        }
        return all(
            self._is_within(view, device_class, used)
            for device_class in known
            if covers(device_class, model) and self.counts(queue, device_class, model)
            for view in above
        )

    def _same(self, view: QueueView, above: list[QueueView]) -> bool:
        return chain(list(self.views.values()), view.name)[-1] is above[-1]

    def _is_within(self, view: QueueView, device_class: str, used: Used) -> bool:
        found, drawn = self.quota(view.name, device_class), self.drawn(view.name, device_class, used)
        subtree = self.subtree(view.name, device_class)
        if not view.parent:
            return drawn <= subtree
        if found is None or found.borrowing_millis is None:
            return True
        return drawn <= max(subtree + found.borrowing_millis, 0)


@settings(max_examples=150, deadline=None)
@given(forests(), steps)
def test_check_admits_exactly_what_keeps_all_limits(
    views: list[QueueView], wanted: list[tuple[str, ModelKey, int]]
) -> None:
    queues, books, used = QuotaTree(views, CAPACITY), Books(views), Used()
    for queue, model, millis in wanted:
        after = {**used, (queue, model): used.get((queue, model), 0) + millis}
        refusal = queues.check(queue, {model: millis})
        assert (refusal is None) == books.is_legal(queue, after, model), refusal
        assert (model in queues.open_models(queue, millis, MODELS)) == (refusal is None)
        if refusal is None:
            queues.charge(queue, model, millis)
            used = after
        elif refusal.never:
            assert QuotaTree(views, CAPACITY).check(queue, {model: millis}) == refusal
        else:
            assert QuotaTree(views, CAPACITY).check(queue, {model: millis}) is None


@settings(max_examples=100, deadline=None)
@given(forests(), st.lists(st.tuples(st.booleans(), steps), max_size=4))
def test_usage_of_a_cohort_is_the_sum_of_its_children(
    views: list[QueueView], rounds: list[tuple[bool, list[tuple[str, ModelKey, int]]]]
) -> None:
    queues, used = QuotaTree(views, CAPACITY), Used()
    for refund, moves in rounds:
        for queue, model, millis in moves:
            now = used.get((queue, model), 0)
            change = -min(millis, now) if refund else millis
            (queues.refund if refund else queues.charge)(queue, model, abs(change))
            used[queue, model] = now + change
    for view in views:
        below = [name for name in QUEUES if view in chain(views, name)]
        for model in MODELS:
            total = sum(used.get((name, model), 0) for name in below)
            assert queues.usage(view.name).get(model, 0) == total
    again = QuotaTree(views, CAPACITY)
    for (queue, model), millis in used.items():
        again.charge(queue, model, millis)
    for view in views:
        assert queues.share(view.name) == again.share(view.name)
        for model in MODELS:
            assert queues.borrowed(view.name, model) == again.borrowed(view.name, model)
            for millis in (1000, 4000, 8000):
                assert queues.check(view.name, {model: millis}) == again.check(view.name, {model: millis})


@settings(max_examples=100, deadline=None)
@given(forests(), steps)
def test_no_more_is_borrowed_than_others_lend(
    views: list[QueueView], wanted: list[tuple[str, ModelKey, int]]
) -> None:
    queues, books, used = QuotaTree(views, CAPACITY), Books(views), Used()
    for queue, model, millis in wanted:
        if queues.check(queue, {model: millis}) is None:
            queues.charge(queue, model, millis)
            used[queue, model] = used.get((queue, model), 0) + millis
    for cohort in (view for view in views if view.is_cohort):
        for device_class in {name for model in MODELS for name in classes_of(model)}:
            found = books.quota(cohort.name, device_class)
            borrowed = lendable = 0
            for child in books.children[cohort.name]:
                subtree, kept = books.subtree(child, device_class), books.kept(child, device_class)
                drawn = books.drawn(child, device_class, used)
                borrowed += max(0, drawn - subtree)
                lendable += max(0, subtree - max(kept, drawn))
            own = found.nominal_millis if found else 0
            from_above = books.drawn(cohort.name, device_class, used) - books.subtree(
                cohort.name, device_class
            )
            assert borrowed <= own + lendable + max(0, from_above)


@settings(max_examples=100, deadline=None)
@given(forests(), st.dictionaries(st.sampled_from(MODELS), st.integers(1, 9000), min_size=2))
def test_a_gang_of_several_models_is_checked_like_its_parts_together(
    views: list[QueueView], need: dict[ModelKey, int]
) -> None:
    books = Books(views)
    used = {("a", model): millis for model, millis in need.items()}
    refusal = QuotaTree(views, CAPACITY).check("a", need)
    assert (refusal is None) == all(books.is_legal("a", used, model) for model in need)
