"""What each engine of a request in two legs is told, and what is billed and shown of both."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Route, RouteReplica
from inference.core.body import InferenceRequest, Task, engine_body, parse_request, prefill_body
from inference.core.sse import StreamMeter
from inference.core.two_legs import DECODE_ONLY, giving_up, told_cache
from inference.core.usage import TokenCounts, find_usage, with_cached
from inference.gateway.engines.legs import Handover, Sides

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
PLACE = {
    "do_remote_prefill": True,
    "remote_engine_id": "e",
    "remote_request_id": "r",
    "remote_host": "h",
    "remote_port": 1,
}
OURS = {"model", "cache_salt", "stream_options"}
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "stream": st.booleans(),
    "max_tokens": st.integers(1, 99),
    "max_completion_tokens": st.integers(1, 99),
    "min_tokens": st.integers(0, 9),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 5),
    "temperature": st.floats(0, 2),
    "stop": st.just(['\u00e9"}]']),
    "kv_transfer_params": st.just({"do_remote_prefill": True, "remote_engine_id": "stolen"}),
    "priority": st.integers(-9, 9),
    "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
    "user": st.text(max_size=5),
}


def parse(task: Task = "chat", **change: Any) -> InferenceRequest:
    return parse_request(task, json.dumps({**CHAT, **change}).encode())


@given(asked=st.fixed_dictionaries({}, optional=OPTIONS))
def test_each_leg_is_told_what_it_needs_and_no_cache_but_ours(asked: dict[str, Any]) -> None:
    request = parse(**asked)
    passed = {name: value for name, value in {**CHAT, **asked}.items() if name not in OURS}
    passed = {k: v for k, v in passed.items() if k not in ("kv_transfer_params", "priority")}
    alone = json.loads(engine_body(request, "weights", "acme"))
    assert {name: value for name, value in alone.items() if name not in OURS} == passed
    second = json.loads(engine_body(request, "weights", "acme", PLACE))
    assert second == {**alone, "kv_transfer_params": PLACE}
    first = json.loads(prefill_body(request, "weights", "acme"))
    kept = {name: value for name, value in alone.items() if name not in DECODE_ONLY}
    added = {name: first.pop(name) for name in ("stream", "max_tokens", "kv_transfer_params")}
    assert first == kept
    assert (added["stream"], added["max_tokens"]) == (False, 1)
    assert added["kv_transfer_params"]["do_remote_decode"]
    assert added["kv_transfer_params"]["remote_engine_id"] is None


@pytest.mark.parametrize(
    ("task", "change", "why"),
    [
        ("chat", {}, ""),
        ("chat", {"n": 2}, "choices"),
        ("completions", {"prompt": "a", "best_of": 2}, "choices"),
        ("completions", {"prompt": ["a"]}, ""),
        ("completions", {"prompt": ["a", "b"]}, "prompts"),
        ("completions", {"prompt": [1, 2, 3]}, ""),
        ("completions", {"prompt": "a", "echo": True}, "prompt_logprobs"),
        ("completions", {"prompt": "a", "echo": False, "logprobs": 3}, ""),
        ("chat", {"prompt_logprobs": 0}, "prompt_logprobs"),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, ""),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "media",
        ),
        ("embeddings", {"input": "a"}, "embeddings"),
    ],
)
def test_what_takes_one_engine_says_why(task: Task, change: dict[str, Any], why: str) -> None:
    assert parse(task, **change).one_leg == why


def test_the_length_of_a_prompt_is_told_by_its_bytes() -> None:
    assert 950 < parse(messages=[{"role": "user", "content": "word" * 1000}]).prompt_tokens_about < 1100
    assert parse(stop=["x" * 40]).prompt_tokens_about < 60
    assert parse(max_tokens=7).prompt_tokens_about == parse().prompt_tokens_about


@pytest.mark.parametrize("name", ["remote_engine_id", "remote_request_id", "remote_host", "remote_port"])
def test_a_cache_whose_place_is_told_in_part_is_none(name: str) -> None:
    assert told_cache(json.dumps({"kv_transfer_params": PLACE}).encode()) == PLACE
    place = {key: value for key, value in PLACE.items() if key != name}
    assert told_cache(json.dumps({"kv_transfer_params": place}).encode()) is None


@pytest.mark.parametrize("answer", [None, b"", b"{", b"[]", b'{"kv_transfer_params": 7}', b"[" * 10**5])
def test_an_answer_that_tells_no_cache_is_no_failure(answer: bytes | None) -> None:
    assert told_cache(answer) is None


def test_a_cache_is_given_up_by_a_request_that_no_engine_serves() -> None:
    body = json.loads(giving_up(PLACE))
    assert body["kv_transfer_params"] == PLACE
    assert not body["model"].strip()


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": 9, "other": 1}])
def test_an_answer_tells_the_cached_tokens_that_are_billed(details: dict[str, int] | None) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": details}
    content = json.dumps({"choices": [], "usage": usage, "id": "x"}).encode()
    found = find_usage(content)
    assert found is not None
    told = json.loads(with_cached(content, found, 4))
    assert told == {
        "choices": [],
        "usage": {**usage, "prompt_tokens_details": {**(details or {}), "cached_tokens": 4}},
        "id": "x",
    }
    assert json.loads(with_cached(content, found, 40))["usage"]["prompt_tokens_details"]["cached_tokens"] == 9
    if details:
        assert with_cached(content, found, 9) is content


def test_what_the_first_engine_had_cached_is_counted_from_the_first_token_on() -> None:
    meter = StreamMeter("none")
    meter.cached = 4
    usage = b'"usage":{"prompt_tokens":9,"completion_tokens":1}'
    meter.feed(b'data: {"choices":[{"index":0}],' + usage + b"}\n\n")
    assert meter.counts == TokenCounts(9, 4, 1)
    meter.cached = 40
    assert meter.counts == TokenCounts(9, 9, 1), "never more than the prompt"


def replica(name: str, endpoint: str = "lab/chat", model: str = "lab/tiny") -> RouteReplica:
    roles: Any = {"p": "prefill", "d": "decode", "m": ""}
    return RouteReplica(
        id=name,
        url=f"http://{name}",
        role=roles[name[0]],
        endpoint=endpoint,
        model_identity=model,
        min_prompt_tokens=7 if name[0] == "p" else 0,
    )


def sides(*replicas: RouteReplica) -> Sides:
    route = Route(
        model="m", backend_model="m", base_model="m", project="lab", tenant="acme", replicas=replicas
    )
    return Sides.of(route)


def names(route: Route | None) -> list[str]:
    return [replica.id for replica in route.replicas] if route is not None else []


def test_caches_go_between_engines_of_one_endpoint_only() -> None:
    found = sides(replica("p0"), replica("d0"), replica("p1", "lab/other"), replica("m0", "lab/other"))
    assert names(found.prefill) == ["p0"], "the other has nobody to hand a cache to"
    assert {kin: names(route) for kin, route in found.decoders.items()} == {("lab/chat", "lab/tiny"): ["d0"]}
    assert names(found.answering) == ["d0", "m0"]
    assert names(found.others) == ["p0", "p1"]
    assert found.min_prompt_tokens == 7


def test_no_answer_is_made_of_the_cache_of_another_model() -> None:
    """While the Model of an Endpoint is changed, engines of the former one are there, too."""
    found = sides(replica("p0"), replica("d0", model="lab/new"), replica("d1"))
    assert {kin: names(route) for kin, route in found.decoders.items()} == {
        ("lab/chat", "lab/new"): ["d0"],
        ("lab/chat", "lab/tiny"): ["d1"],
    }
    cache = Handover(replica("p0"), PLACE, TokenCounts())
    assert [cache.fits(one) for one in found.answering.replicas] == [False, True]
    assert sides(replica("p0"), replica("d0", model="lab/new")).prefill is None


def test_a_route_without_roles_is_taken_as_it_is() -> None:
    found = sides(replica("m0"), replica("m1"))
    assert found.answering is found.route
    assert found.prefill is found.others is None


def test_the_least_of_what_prefill_engines_ask_for_counts() -> None:
    few, many = (replica(f"p{least}").model_copy(update={"min_prompt_tokens": least}) for least in (5, 9))
    assert sides(many, few, replica("d0")).min_prompt_tokens == 5
    assert sides(many, replica("m0")).min_prompt_tokens == 0
    assert sides(replica("m0")).min_prompt_tokens == 0
