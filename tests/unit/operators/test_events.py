"""Events of control as Events of Kubernetes: bounded and told apart."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from operators.core.events import SHARE, Budget, Budgets, Told, event_of, name_of

BODY = {
    "apiVersion": "computility.io/v1alpha1",
    "kind": "Endpoint",
    "metadata": {"name": "chat", "namespace": "team", "uid": "u-1"},
}


def said(**changes: Any) -> dict[str, Any]:
    event = {
        "id": "evt-1",
        "timeMs": 1_700_000_000_000,
        "level": "info",
        "reason": "Scaled",
        "message": "to 3",
    }
    return {**event, **changes}


def test_an_event_is_about_the_custom_resource() -> None:
    event = event_of(BODY, said(level="error", message="x" * 5000), "team")
    assert event["involvedObject"] == {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Endpoint",
        "name": "chat",
        "namespace": "team",
        "uid": "u-1",
    }
    assert (event["type"], event["reason"], len(event["message"])) == ("Warning", "Scaled", 1024)
    assert event["lastTimestamp"] == "2023-11-14T22:13:20Z"


def test_the_same_has_the_same_name_and_another_another() -> None:
    name = name_of(BODY, said())
    assert name == name_of(BODY, said(id="evt-2", timeMs=5))
    other = {**BODY, "metadata": {**BODY["metadata"], "uid": "u-2"}}  # type: ignore[dict-item]
    assert (
        len(
            {
                name,
                name_of(BODY, said(message="to 4")),
                name_of(BODY, said(reason="x")),
                name_of(other, said()),
            }
        )
        == 4
    )
    assert len(name_of({**BODY, "metadata": {"name": "n" * 253, "uid": "u"}}, said())) <= 253


def test_the_same_is_counted() -> None:
    told = Told()
    assert [told.count("a"), told.count("b"), told.count("a")] == [1, 1, 2]
    for i in range(5000):
        told.count(str(i))
    assert told.count("a") == 1


@given(st.lists(st.floats(0, 5), max_size=200), st.integers(0, 50))
def test_no_more_than_the_budget(pauses: list[float], per_minute: int) -> None:
    budget, now, taken = Budget(per_minute), 1.0, 0
    for pause in pauses:
        now += pause
        taken += budget.take(now)
    assert taken <= per_minute + per_minute * sum(pauses) / 60 + 1e-6


def test_one_resource_leaves_room_for_others() -> None:
    budgets = Budgets(80)
    assert sum(budgets.take("loud", 1.0) for _ in range(1000)) == 80 // SHARE
    assert budgets.take("quiet", 1.0)
    assert not any(Budgets(0).take("any", 1.0) for _ in range(3))
