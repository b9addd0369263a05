"""Workers that share a table let through together what each limit says, also when one of them is killed."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import InvalidInput, RateLimited, Unavailable, openai_body
from common.wire import RouteLimits
from inference.core.body import InferenceRequest, parse_request
from inference.gateway.limits import table as tables
from inference.gateway.limits.limiter import Limited, Limiter, Taken
from inference.gateway.limits.table import LimitTable, shared_memory

HELLO = parse_request("completions", b'{"model": "tiny", "prompt": "hello", "max_tokens": 10}')
ABOUT = HELLO.prompt_tokens_about


@pytest.fixture
def file() -> Iterator[int]:
    file = shared_memory(3)
    yield file
    os.close(file)


def limiter(clock: VirtualClock, file: int | None = None, worker: int = 0) -> Limiter:
    return Limiter(LimitTable("secret", file, worker, 3 if file is not None else 1), clock)


def limit(scope: str = "key", name: str = "alice", **limits: int) -> Limited:
    return Limited(scope, name, name, RouteLimits(**limits))


def admit(limiter: Limiter, *whose: Limited, request: InferenceRequest = HELLO) -> list[Taken]:
    return limiter.admit(whose, request, {})


def test_workers_share_what_is_left_and_tell_it_alike(file: int) -> None:
    clock = VirtualClock()
    workers, heads = [limiter(clock, file, worker) for worker in range(3)], []
    for number in range(6):
        heads.append(head := dict[bytes, bytes]())
        workers[number % 3].admit([limit(requests_per_minute=6)], HELLO, head)
    assert [head[b"x-ratelimit-remaining-requests"] for head in heads] == [
        b"%d" % n for n in range(5, -1, -1)
    ]
    assert heads[-1][b"x-ratelimit-limit-requests"] == b"6"
    assert heads[-1][b"x-ratelimit-reset-requests"] == b"1m0s"
    for worker in workers:
        with pytest.raises(RateLimited) as refused:
            admit(worker, limit(requests_per_minute=6))
        assert refused.value.retry_after_seconds == 10
    clock.advance(10)
    admit(workers[1], limit(requests_per_minute=6))


def test_a_killed_workers_open_requests_end_and_its_minute_does_not(file: int) -> None:
    clock, mine = VirtualClock(), limit(requests_per_minute=60, concurrent_requests=2)
    first, second = limiter(clock, file, 0), limiter(clock, file, 1)
    admit(first, mine)
    left = admit(second, mine)
    with pytest.raises(RateLimited, match="2 requests open") as refused:
        admit(first, mine)
    assert refused.value.limit is not None
    assert refused.value.limit.until is None
    follower, head = limiter(clock, file, 0), dict[bytes, bytes]()
    follower.admit([mine], HELLO, head)
    assert head[b"x-ratelimit-remaining-requests"] == b"57"
    with pytest.raises(RateLimited):
        admit(second, mine)
    second.release(left, 0)
    admit(second, mine)


def test_a_request_takes_of_all_limits_or_of_none() -> None:
    clock = VirtualClock()
    gate, key = limiter(clock), limit(requests_per_minute=2)
    project = limit("project", "web", requests_per_minute=1)
    admit(gate, key, project)
    with pytest.raises(RateLimited) as refused:
        admit(gate, key, project)
    assert refused.value.limit is not None
    assert (refused.value.limit.scope, refused.value.limit.name) == ("project", "web")
    told = openai_body(refused.value)["error"]
    assert isinstance(told, dict)
    assert told["code"] == "rate_limit_exceeded"
    assert told["limit"]["limit"] == "requestsPerMinute"
    assert told["limit"]["until"] > "2023"
    admit(gate, key)
    admit(gate, limit(name="bob", requests_per_minute=2), limit("project", "shop", requests_per_minute=1))


def test_tokens_are_set_aside_until_it_is_known_what_was_used() -> None:
    clock, head = VirtualClock(), dict[bytes, bytes]()
    gate, mine = limiter(clock), limit(tokens_per_minute=1000)
    taken = gate.admit([mine], HELLO, head)
    assert head[b"x-ratelimit-remaining-tokens"] == b"%d" % (1000 - ABOUT - 10)
    assert b"x-ratelimit-limit-requests" not in head
    gate.release(taken, 3)
    taken = gate.admit([mine], HELLO, head)
    assert head[b"x-ratelimit-remaining-tokens"] == b"%d" % (1000 - 3 - ABOUT - 10)
    gate.release(taken, 2000)
    with pytest.raises(RateLimited, match="tokensPerMinute"):
        admit(gate, mine)


def test_what_no_limit_would_ever_let_through_is_told_as_wrong() -> None:
    gate = limiter(VirtualClock())
    with pytest.raises(InvalidInput, match="10 tokens, where the key alice may use 9") as refused:
        admit(gate, limit(tokens_per_minute=9))
    assert refused.value.param == "max_tokens"
    several = parse_request("completions", b'{"model": "tiny", "prompt": ["a", "b"], "n": 2}')
    with pytest.raises(InvalidInput, match="sequencesPerRequest"):
        admit(gate, limit(sequences_per_request=3), request=several)
    admit(gate, limit(sequences_per_request=4), request=several)
    admit(gate, limit(name="bob", tokens_per_minute=5), request=several)


def test_the_table_forgets_who_has_all_left_and_refuses_when_it_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "ROWS", 8)
    clock = VirtualClock()
    gate = limiter(clock)
    names = [f"key-{number}" for number in range(9)]
    taken = [admit(gate, limit(name=name, requests_per_minute=60)) for name in names[:8]]
    with pytest.raises(Unavailable):
        admit(gate, limit(name=names[8], requests_per_minute=60))
    gate.release(taken[0], 0)
    with pytest.raises(Unavailable):
        admit(gate, limit(name=names[8], requests_per_minute=60))
    clock.advance(1)
    admit(gate, limit(name=names[8], requests_per_minute=60))


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # worker
        st.integers(0, 20),  # seconds that pass
        st.integers(0, 3),  # key
        st.integers(0, 400),  # tokens used
        st.sampled_from(["ask", "end", "kill"]),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_workers_do_no_more_are_open_or_let_through_than_the_limits_say(
    steps: list[tuple[int, int, int, int, str]],
) -> None:
    clock, file = VirtualClock(start_ms=0), shared_memory(3)
    workers = [limiter(clock, file, worker) for worker in range(3)]
    project = limit("project", "web", requests_per_minute=7, tokens_per_minute=1000, concurrent_requests=4)
    keys = [limit(name=f"key-{n}", requests_per_minute=3, concurrent_requests=2) for n in range(4)]
    open_: list[tuple[int, int, list[Taken]]] = []
    through: list[tuple[int, int]] = []
    for worker, seconds, key, used, what in steps:
        clock.advance(seconds)
        if what == "ask":
            try:
                taken = admit(workers[worker], keys[key], project)
            except RateLimited:
                continue
            open_.append((worker, key, taken))
            through.append((clock.now_ms(), key))
        elif what == "kill":
            workers[worker].close()
            workers[worker] = limiter(clock, file, worker)
            open_ = [one for one in open_ if one[0] != worker]
        elif open_:
            ended = open_.pop(used % len(open_))
            workers[ended[0]].release(ended[2], used)
        assert len(open_) <= 4
        assert all(sum(one[1] == key for one in open_) <= 2 for key in range(4))
    _check_spans([moment for moment, _ in through], 7)
    for number in range(4):
        _check_spans([moment for moment, key in through if key == number], 3)
    os.close(file)


def _check_spans(moments: list[int], per_minute: int) -> None:
    for first, began in enumerate(moments):
        for last in range(first, len(moments)):
            assert (last - first + 1) * 60_000 <= per_minute * (60_000 + moments[last] - began)
