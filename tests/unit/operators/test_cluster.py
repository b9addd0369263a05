"""What is known of Kubernetes, whatever the order in which events and lists tell of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Unavailable
from operators.control.view import Item
from operators.documents import PROJECT, Key, Place
from operators.kube.client import Kube
from operators.kube.cluster import Cluster

SPACE, NAMES = "team", ("a", "b")
Body = dict[str, Any]


def body(name: str, version: int, uid: str, **metadata: Any) -> Body:
    told = {"name": name, "namespace": SPACE, "uid": uid, "resourceVersion": str(version), **metadata}
    return {"apiVersion": "computility.io/v1alpha1", "kind": "Model", "metadata": told, "spec": {}}


def namespace(project: str = "", *, uid: str = "ns", version: int = 1) -> Body:
    notes = {PROJECT: project} if project else {}
    return {"metadata": {"name": SPACE, "uid": uid, "resourceVersion": str(version), "annotations": notes}}


class Server:
    """What is there, and all that was ever told of it. ``meanwhile`` is called within a list."""

    def __init__(self) -> None:
        self.there: dict[str, Body] = {}
        self.told: list[tuple[str, Body]] = []
        self.version = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def write(self, name: str) -> None:
        self.version += 1
        old = self.there.get(name)
        uid = old["metadata"]["uid"] if old else f"u{self.version}"
        self.there[name] = body(name, self.version, uid)
        self.told.append(("MODIFIED", self.there[name]))

    def delete(self, name: str) -> None:
        if name in self.there:
            self.version += 1
            gone = self.there.pop(name)
            self.told.append(("DELETED", body(name, self.version, gone["metadata"]["uid"])))

    async def each(self, path: str, **query: str) -> AsyncIterator[Body]:
        if path.endswith("/namespaces"):
            yield namespace()
        elif path.endswith("/models"):
            snapshot = list(self.there.values())
            self.meanwhile()
            for found in snapshot:
                yield {key: value for key, value in found.items() if key != "kind"}


def hear(cluster: Cluster, told: tuple[str, Body]) -> None:
    kind, found = told
    cluster.forget(found) if kind == "DELETED" else cluster.learn(found)


def known(cluster: Cluster) -> dict[str, str]:
    return {
        key.name: cluster.find(key)["metadata"]["uid"]  # type: ignore[index]
        for key in cluster.all_keys()
    }


changes = st.lists(st.tuples(st.sampled_from(["write", "delete"]), st.sampled_from(NAMES)), max_size=8)


@given(changes, changes, st.integers(0, 16), st.booleans())
def test_lists_and_events_agree_in_the_end(
    before: list[tuple[str, str]], during: list[tuple[str, str]], heard: int, is_told_within: bool
) -> None:
    """Some of what happens is told before a list, the rest during it or after it, some of it twice."""
    server, cluster = Server(), Cluster()

    def play(steps: list[tuple[str, str]]) -> None:
        for what, name in steps:
            getattr(server, what)(name)

    def meanwhile() -> None:
        play(during)
        for told in server.told[heard:] if is_told_within else ():
            hear(cluster, told)

    play(before)
    heard = min(heard, len(server.told))
    for told in server.told[:heard]:
        hear(cluster, told)
    server.meanwhile = meanwhile
    asyncio.run(cluster.read_all(cast(Kube, server), []))
    for told in server.told[heard:]:
        hear(cluster, told)
    assert known(cluster) == {name: found["metadata"]["uid"] for name, found in server.there.items()}


def test_what_is_gone_stays_gone_and_what_lives_stays() -> None:
    cluster = Cluster()
    old, new = body("a", 5, "u-old"), body("a", 20, "u-new")
    cluster.learn(new)
    cluster.forget(old)
    cluster.learn(old)
    assert known(cluster) == {"a": "u-new"}
    cluster.forget(new)
    cluster.learn(body("a", 21, "u-new"))
    cluster.learn(old)
    assert known(cluster) == {}
    cluster.learn(body("b", 9, "u-b"))
    cluster.learn(body("b", 3, "u-other"))
    assert known(cluster) == {"b": "u-b"}


def test_what_no_list_has_any_more_is_forgotten() -> None:
    cluster, server = Cluster(), Server()
    cluster.learn(body("a", 1, "u-a"))
    assert set(asyncio.run(cluster.read_all(cast(Kube, server), []))) == {Key("Model", SPACE, "a")}
    assert known(cluster) == {}


def test_only_what_is_used_is_kept() -> None:
    cluster = Cluster()
    notes = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 250_000, "computility.io/role": "m"}
    key = cluster.learn(body("a", 1, "u", annotations=notes, managedFields=[{"manager": "kubectl"}]))
    found = cluster.find(key)
    assert found is not None
    assert found["metadata"]["annotations"] == {"computility.io/role": "m"}
    assert "managedFields" not in found["metadata"]


def test_a_namespace_that_is_not_known_is_no_project() -> None:
    cluster = Cluster()
    key = cluster.learn(body("a", 1, "u"))
    with pytest.raises(Unavailable, match="not known yet"):
        cluster.place(SPACE)
    assert cluster.learn_namespace(namespace("sandbox")) == [key]
    assert cluster.place(SPACE) == Place("sandbox")
    assert list(cluster.keys_of(Item("Model", "sandbox", "a"))) == [key]


def test_a_former_namespace_says_nothing_of_the_one_of_its_name() -> None:
    cluster = Cluster()
    cluster.learn_namespace(namespace("sandbox", uid="new", version=9))
    former = namespace("prod", uid="old", version=4)
    assert cluster.learn_namespace(former) == []
    cluster.forget_namespace(former)
    assert cluster.place(SPACE) == Place("sandbox")
    cluster.forget_namespace(namespace(uid="new", version=10))
    cluster.learn_namespace(namespace("sandbox", uid="new", version=9))
    with pytest.raises(Unavailable):
        cluster.place(SPACE)
