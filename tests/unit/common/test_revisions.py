"""What is kept of the specs that a resource had: bounded, and nothing that may be a secret."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.resources import Resource, parse_resource
from common.resources.meta import API_VERSION
from common.store.authorship import Author, authored
from common.store.memory import MemoryStore
from common.store.revisions import LONGEST_SPEC_BYTES, kept_spec

NAMES = st.text("abcdefgh", min_size=1, max_size=4)
TREES: Any = st.recursive(
    st.integers() | st.lists(NAMES),
    lambda inner: st.dictionaries(NAMES | st.just("env"), inner),
    max_leaves=20,
)


def endpoint(**engine: Any) -> Resource:
    metadata = {"name": "e", "project": "p"}
    spec = {"model": "m", "engine": engine}
    return parse_resource({"apiVersion": API_VERSION, "kind": "Endpoint", "metadata": metadata, "spec": spec})


@pytest.mark.parametrize(
    "word",
    [
        "--hf-token",
        "--hf-token=hf_x",
        "--api-key",
        "--API_KEY=x",
        "--ssl-keyfile-password",
        '{"kv_connector": "s3", "secret": "x"}',
        '{"access_key": "x"}',
        "password=x",
    ],
)
def test_a_spec_with_what_may_be_a_secret_is_not_kept(word: str) -> None:
    assert kept_spec({"engine": {"args": [word, "x"]}}) is None
    assert kept_spec({"decode": {"args": [word]}}) is None


@pytest.mark.parametrize(
    "word",
    [
        "--max-num-batched-tokens",
        "--max-num-batched-tokens=8192",
        "--tokenizer",
        "--seed",
        '{"max_tokens": 3}',
    ],
)
def test_what_only_looks_alike_is_kept(word: str) -> None:
    assert kept_spec({"engine": {"args": [word]}}) == {"engine": {"args": [word]}}


def test_a_large_spec_is_not_kept() -> None:
    assert kept_spec({"args": ["x" * LONGEST_SPEC_BYTES]}) is None


@given(st.dictionaries(NAMES | st.just("env"), TREES))
def test_no_environment_is_kept_at_any_depth(spec: dict[str, Any]) -> None:
    assert '"env"' not in json.dumps(kept_spec(spec))


async def written(store: MemoryStore, resource: Resource, by: str) -> Resource:
    with authored(Author(by)):
        return (await store.apply(resource)).resource


async def test_of_variables_their_names_are_told_only() -> None:
    store = MemoryStore(VirtualClock())
    await written(store, endpoint(env={"A": "hidden", "B": "1"}), "alice")
    made = await written(store, endpoint(env={"A": "hidden-too"}, args=["--seed", "1"]), "bob")
    newest, first = await store.revisions(made.metadata.uid)
    assert set(newest.paths) == {"spec.engine.env.A", "spec.engine.env.B", "spec.engine.args"}
    assert (first.by, newest.by, first.paths) == ("alice", "bob", ())
    assert "hidden" not in repr((newest, first))


async def test_what_a_controller_writes_is_found_by_the_next_change() -> None:
    store = MemoryStore(VirtualClock())
    await store.apply(endpoint())
    await store.apply(endpoint(args=["a"]))
    made = await written(store, endpoint(args=["b"]), "alice")
    kept = await store.revisions(made.metadata.uid)
    assert [(one.generation, one.by, one.time_ms > 0) for one in kept] == [(3, "alice", True), (2, "", False)]
