"""What is a usage event, and what is not."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import MAX_QUANTITY, METERS, UsageEvent
from common.errors import InvalidInput

EVENT: dict[str, Any] = {
    "id": "use-1",
    "kind": "inference",
    "tenant": "acme",
    "project": "web",
    "started_ms": 100,
    "ended_ms": 250,
    "quantities": {"prompt_tokens": 12, "cached_tokens": 4, "completion_tokens": 7},
    "key": "key-1",
    "model": "tiny",
    "labels": {"task": "greeting"},
}


def test_an_event_goes_over_the_wire_and_back() -> None:
    event = UsageEvent.from_dict(EVENT)
    assert UsageEvent.from_dict(event.to_dict()) == event
    assert (event.quantity("prompt_tokens"), event.quantity("trained_tokens")) == (12, 0)
    assert event.outcome == "completed"


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("id", "", "id"),
        ("id", 7, "id"),
        ("id", "x" * 254, "id"),
        ("tenant", "", "tenant"),
        ("project", None, "project"),
        ("kind", "training?", "kind"),
        ("kind", ["inference"], "kind"),
        ("model", "a\x00b", "model"),
        ("key", "half \ud800", "key"),
        ("model_identity", 5, "model_identity"),
        ("model_shared", "yes", "model_shared"),
        ("labels", {"task": 5}, "labels.task"),
        ("labels", "task", "labels"),
        ("user", None, "user"),
        ("user", "a\nb", "user"),
        ("user", "x" * 257, "user"),
        ("tags", "team", "tags"),
        ("tags", {"team": 5}, "tags.team"),
        ("tags", {"": "x"}, "tags"),
        ("tags", {"team": "x" * 513}, "tags.team"),
        ("tags", {str(n): "" for n in range(17)}, "tags"),
        ("tags", {f"n{n}": "x" * 400 for n in range(3)}, "tags"),
        ("endpoint", 5, "endpoint"),
        ("started_ms", "100", "started_ms"),
        ("started_ms", -1, "started_ms"),
        ("ended_ms", 99, "ended_ms"),
        ("ended_ms", True, "ended_ms"),
        ("ended_ms", 250.0, "ended_ms"),
        ("quantities", [], "quantities"),
        ("quantities", {"tokens": 1}, "quantities.tokens"),
        ("quantities", {"prompt_tokens": -1}, "quantities.prompt_tokens"),
        ("quantities", {"prompt_tokens": 1.0}, "quantities.prompt_tokens"),
        ("quantities", {"prompt_tokens": True}, "quantities.prompt_tokens"),
        ("quantities", {"prompt_tokens": MAX_QUANTITY + 1}, "quantities.prompt_tokens"),
        ("quantities", {"prompt_tokens": 3, "cached_tokens": 4}, "quantities.cached_tokens"),
        ("colour", "red", "colour"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        UsageEvent.from_dict({**EVENT, field: value})
    assert refused.value.param == param
    assert param in str(refused.value)


@pytest.mark.parametrize("field", ["id", "kind", "tenant", "project", "started_ms", "ended_ms", "quantities"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        UsageEvent.from_dict({name: value for name, value in EVENT.items() if name != field})
    assert refused.value.param == field


def test_the_digest_tells_contents_apart() -> None:
    event = UsageEvent.from_dict(EVENT)
    reordered = UsageEvent.from_dict({name: EVENT[name] for name in reversed(EVENT)})
    with_zero = UsageEvent.from_dict({**EVENT, "quantities": {**EVENT["quantities"], "trained_tokens": 0}})
    other = UsageEvent.from_dict({**EVENT, "model": "other"})
    assert event.digest() == reordered.digest() == with_zero.digest()
    assert event.digest() != other.digest()


def test_an_event_of_before_models_were_named_is_known_again() -> None:
    """A spool may hold what was posted already by a release that knew fewer fields."""
    fields = ("base_model", "device_class", "resource")
    content = {**EVENT, **dict.fromkeys(fields, ""), "outcome": "completed"}
    was = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    event = UsageEvent.from_dict(EVENT)
    assert event.digest() == was
    assert replace(event, model_identity="platform/tiny").digest() != was
    assert replace(event, model_shared=True).digest() != was


_NAME = st.text(st.sampled_from('ab"\\/éß界 {}'), max_size=6)
_NAMES = ("key", "model", "base_model", "device_class", "resource", "outcome")
_YOUNG = ("model_identity", "endpoint", "adapter_identity", "service_tier", "user", "tags", "admitted_ms")


@given(
    st.fixed_dictionaries(
        {
            "id": _NAME.map("x".__add__),
            "quantities": st.dictionaries(st.sampled_from(METERS), st.integers(0, 9)),
        },
        optional={
            **dict.fromkeys((*_NAMES, "model_identity", "endpoint", "adapter_identity", "user"), _NAME),
            "service_tier": st.sampled_from(["", "batch"]),
            "model_shared": st.booleans(),
            "labels": st.dictionaries(_NAME, _NAME, max_size=3),
            "tags": st.dictionaries(_NAME.map("t".__add__), _NAME, max_size=3),
            "admitted_ms": st.integers(0, 100),
        },
    )
)
def test_what_the_digest_is_of_is_the_sorted_json_of_what_is_said(said: dict[str, Any]) -> None:
    quantities = {**said["quantities"], "cached_tokens": 0}
    event = UsageEvent.from_dict({**EVENT, **said, "quantities": quantities})
    content: dict[str, Any] = {
        name: value
        for name, value in vars(event).items()
        if not name.startswith("_") and (value or name not in (*_YOUNG, "model_shared"))
    }
    content["quantities"] = {meter: amount for meter, amount in quantities.items() if amount}
    assert event.canonical() == json.dumps(content, sort_keys=True)


def test_what_is_younger_and_not_used_is_not_sent() -> None:
    """A control that is not upgraded yet refuses fields that it does not know."""
    event = UsageEvent.from_dict(EVENT)
    assert not {"user", "tags", "endpoint"} & event.to_dict().keys()
    tagged = replace(event, user="ann", tags={"team": "search"}, endpoint="web/chat")
    assert UsageEvent.from_dict(tagged.to_dict()) == tagged
    assert tagged.ended("completed", 300, {"prompt_tokens": 1}).tags == {"team": "search"}
    assert len({event.digest(), tagged.digest(), replace(event, user="ann").digest()}) == 3


@pytest.mark.parametrize(
    ("change", "adapter"),
    [
        ({}, ""),
        ({"base_model": "tiny"}, ""),
        ({"base_model": "base"}, "tiny"),
        ({"base_model": "base", "kind": "training"}, ""),
    ],
)
def test_an_adapter_is_a_name_beside_its_base(change: dict[str, str], adapter: str) -> None:
    assert UsageEvent.from_dict({**EVENT, **change}).adapter == adapter
