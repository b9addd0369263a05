"""The next step for a custom resource, from what is wanted and what control has."""

from typing import Any, NamedTuple

import pytest

from operators.core.reconcile import (
    MARK,
    Custom,
    Do,
    Step,
    mark_of,
    next_step,
    released,
    with_notes_of,
)

MINE, OTHERS = "cluster/team/chat", "cluster/other/chat"


def wanted(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Endpoint",
        "metadata": {"name": "chat", "project": "team", "labels": {}, "annotations": {MARK: MINE}},
        "spec": {"model": "tiny", **spec},
    }


def there(mark: str = MINE, **spec: Any) -> dict[str, Any]:
    notes = {"seen": "yes", **({MARK: mark} if mark else {})}
    return {
        **wanted(**spec),
        "metadata": {
            "name": "chat",
            "project": "team",
            "labels": {},
            "annotations": notes,
            "resourceVersion": 7,
            "uid": "u",
        },
        "status": {},
    }


class Case(NamedTuple):
    custom: Custom
    seen: dict[str, Any] | None
    want: Do
    settled: bool = False
    reason: str = ""


def custom(**changes: Any) -> Custom:
    given: dict[str, Any] = {"mark": MINE, "document": wanted(), "has_finalizer": True}
    return Custom(**{**given, **changes})


REFUSED = ("InvalidInput", "spec.model: required, but missing")
LEAVING = {"is_leaving": True}
CASES = {
    "new: first the finalizer": Case(custom(has_finalizer=False), None, Do.ADD_FINALIZER),
    "then the document": Case(custom(), None, Do.APPLY),
    "there as wanted": Case(custom(), there(), Do.NOTHING, reason="Applied"),
    "changed here": Case(custom(document=wanted(replicas=2)), there(), Do.APPLY),
    "changed there": Case(custom(), there(replicas=3), Do.APPLY),
    "changed there by control itself": Case(custom(), there(replicas=3), Do.NOTHING, True, "Applied"),
    "removed there": Case(custom(), None, Do.APPLY),
    "there without a mark: adopted": Case(custom(), there(""), Do.APPLY),
    "there, of another one": Case(custom(), there(OTHERS), Do.NOTHING, reason="OwnedElsewhere"),
    "there, of another one, settled": Case(custom(), there(OTHERS), Do.NOTHING, True, "OwnedElsewhere"),
    "of another one: no finalizer": Case(
        custom(has_finalizer=False), there(OTHERS), Do.NOTHING, reason="OwnedElsewhere"
    ),
    "wrong": Case(custom(document=None, refusal=REFUSED), None, Do.NOTHING, reason="InvalidInput"),
    "wrong by now: what is there stays": Case(
        custom(document=None, refusal=REFUSED), there(), Do.NOTHING, reason="InvalidInput"
    ),
    "leaving": Case(custom(**LEAVING), there(), Do.DELETE),
    "leaving, wrong": Case(custom(document=None, refusal=REFUSED, **LEAVING), there(), Do.DELETE),
    "leaving, gone there": Case(custom(**LEAVING), None, Do.REMOVE_FINALIZER),
    "leaving, not ours": Case(custom(**LEAVING), there(OTHERS), Do.REMOVE_FINALIZER),
    "leaving, nobody's": Case(custom(**LEAVING), there(""), Do.REMOVE_FINALIZER),
    "leaving, to be kept": Case(custom(is_orphaned=True, **LEAVING), there(), Do.RELEASE),
    "leaving, kept": Case(custom(is_orphaned=True, **LEAVING), there(""), Do.REMOVE_FINALIZER),
    "leaving without a finalizer": Case(custom(has_finalizer=False, **LEAVING), there(), Do.NOTHING),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_next_step(case: Case) -> None:
    step = next_step(case.custom, case.seen, case.settled)
    assert (step.do, step.reason) == (case.want, case.reason)
    if step.do is Do.NOTHING and not case.custom.is_leaving:
        assert step.synced is (case.reason == "Applied")


def play(first: Custom, seen: dict[str, Any] | None) -> tuple[list[Do], dict[str, Any] | None, bool]:
    """Steps until there is nothing to do, each from what the one before left; as after kill -9 between any
    two."""
    taken: list[Do] = []
    finalizer = first.has_finalizer
    for _ in range(8):
        now = Custom(
            first.mark, first.document, first.refusal, first.is_leaving, finalizer, first.is_orphaned
        )
        step: Step = next_step(now, seen, False)
        match step.do:
            case Do.NOTHING:
                return taken, seen, finalizer
            case Do.ADD_FINALIZER | Do.REMOVE_FINALIZER:
                finalizer = step.do is Do.ADD_FINALIZER
            case Do.APPLY:
                assert first.document is not None
                seen = with_notes_of(first.document, seen)
            case Do.RELEASE:
                assert seen is not None
                seen = released(seen)
            case Do.DELETE:
                seen = None
        taken.append(step.do)
    raise AssertionError(taken)


@pytest.mark.parametrize("seen", [None, there(), there(""), there(replicas=9)], ids=str)
@pytest.mark.parametrize("has_finalizer", [True, False])
def test_steps_end_with_what_is_wanted(seen: dict[str, Any] | None, has_finalizer: bool) -> None:
    _, made, finalizer = play(custom(has_finalizer=has_finalizer), seen)
    assert made is not None
    assert finalizer
    assert (made["spec"], mark_of(made)) == (wanted()["spec"], MINE)


@pytest.mark.parametrize("mark", [MINE, OTHERS, ""])
def test_leaving_never_deletes_what_is_not_ours(mark: str) -> None:
    taken, made, finalizer = play(custom(**LEAVING), there(mark))
    assert not finalizer
    assert (made is None) == (mark == MINE) == (Do.DELETE in taken)


def test_what_is_kept_loses_only_the_mark() -> None:
    taken, made, _ = play(custom(is_orphaned=True, **LEAVING), there())
    assert taken == [Do.RELEASE, Do.REMOVE_FINALIZER]
    assert made is not None
    assert made["metadata"]["annotations"] == {"seen": "yes"}
    assert "status" not in made


def test_annotations_of_others_stay_and_versions_guard() -> None:
    made = with_notes_of(wanted(), there(""))
    assert made["metadata"]["annotations"] == {"seen": "yes", MARK: MINE}
    assert made["metadata"]["resourceVersion"] == 7
    assert "resourceVersion" not in with_notes_of(wanted(), None)["metadata"]
