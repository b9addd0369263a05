"""An event that is made of parts, and its JSON, say what a whole one says, and refuse what it refuses."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import UsageEvent
from common.errors import InvalidInput

TEXTS = st.text(max_size=12) | st.sampled_from(("", "acme", "\u00e9\U00020000", '"\\', "\ud800", "x" * 900))
PAIRS = st.dictionaries(TEXTS, TEXTS, max_size=3)
TIMES = st.integers(-1, 10) | st.just(10**14)
QUANTITIES = st.dictionaries(
    st.sampled_from(("prompt_tokens", "cached_tokens", "completion_tokens", "odd")),
    st.integers(-1, 10**13) | st.just(True),
)
NAMES = UsageEvent(
    id="use",
    kind="inference",
    tenant="acme",
    project="bots",
    started_ms=0,
    ended_ms=0,
    quantities={},
    key="alice",
    model="m\u00f6del",
    model_shared=True,
    endpoint="bots/m",
    outcome="gateway_lost",
)


def outcome_of(made: object) -> object:
    try:
        return made() if callable(made) else made
    except InvalidInput as error:
        return error.message


@given(id_=TEXTS, at_ms=TIMES, labels=PAIRS, user=TEXTS, tags=PAIRS)
def test_begun_is_as_if_made_at_once(
    id_: str, at_ms: int, labels: dict[str, str], user: str, tags: dict[str, str]
) -> None:
    whole = outcome_of(
        lambda: replace(
            NAMES,
            id=id_,
            started_ms=at_ms,
            ended_ms=at_ms,
            admitted_ms=at_ms,
            labels=labels,
            user=user,
            tags=tags,
        )
    )
    parts = outcome_of(lambda: NAMES.begun(id_, at_ms, labels, user, tags))
    assert parts == whole
    if isinstance(parts, UsageEvent):
        _says_the_same(parts)


@given(
    model=TEXTS,
    labels=PAIRS,
    outcome=TEXTS | st.just("completed"),
    started_ms=TIMES,
    ended_ms=TIMES,
    quantities=QUANTITIES,
)
def test_ended_is_as_if_made_at_once(
    model: str,
    labels: dict[str, str],
    outcome: str,
    started_ms: int,
    ended_ms: int,
    quantities: dict[str, int],
) -> None:
    try:
        event = replace(NAMES, model=model, labels=labels, started_ms=started_ms, ended_ms=started_ms)
    except InvalidInput:
        return
    event.digest()
    whole = outcome_of(lambda: replace(event, outcome=outcome, ended_ms=ended_ms, quantities=quantities))
    parts = outcome_of(lambda: event.ended(outcome, ended_ms, quantities))
    assert parts == whole
    if isinstance(parts, UsageEvent):
        _says_the_same(parts)


def _says_the_same(event: UsageEvent) -> None:
    assert json.loads(event.text()) == event.to_dict()
    assert event.text().startswith(f'{{"id":{json.dumps(event.id, ensure_ascii=False)},')
    again = UsageEvent.from_dict(event.to_dict())
    assert again == event
    assert again.digest() == event.digest()
    content = event.to_dict()
    for name in ("outcome", "ended_ms", "quantities"):
        del content[name]
    assert json.loads(event.beginning + "}") == content
