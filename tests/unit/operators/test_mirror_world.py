"""The mirror between two stores in memory, with a process that dies before or after any call."""

import asyncio
import copy
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import ComputilityError, Conflict, NotFound
from operators.control.link import ControlLink
from operators.control.view import ControlView, Item
from operators.core.reconcile import FINALIZER, MARK
from operators.documents import Key
from operators.kube.client import Kube
from operators.kube.cluster import Cluster
from operators.mirror import Mirror
from operators.parts import Parts

SPACE = "team"
NAMES = ("a", "b")
Body = dict[str, Any]


class Killed(BaseException):
    """The process ends."""


class Fuse:
    """Kills at the call of that number; before it has any effect, or after."""

    def __init__(self) -> None:
        self.left, self.after = -1, False

    def burn(self, *, after: bool) -> None:
        if after == self.after and self.left == 0:
            self.left = -1
            raise Killed
        if after and self.left > 0:
            self.left -= 1


class FakeKube:
    """Custom resources, with versions, generations and finalizers as the API server has them."""

    def __init__(self, fuse: Fuse) -> None:
        self.bodies: dict[str, Body] = {}
        self.version, self.fuse = 0, fuse

    def write(self, name: str, source: str) -> None:
        """As kubectl apply does."""
        self.version += 1
        old = self.bodies.get(name)
        body = old or {
            "apiVersion": "computility.io/v1alpha1",
            "kind": "Model",
            "metadata": {"name": name, "namespace": SPACE, "uid": f"k{self.version}", "generation": 0},
        }
        body = copy.deepcopy(body)
        if body.get("spec") != {"source": source}:
            body["metadata"]["generation"] += 1
        body["spec"] = {"source": source}
        body["metadata"]["resourceVersion"] = str(self.version)
        self.bodies[name] = body

    def remove(self, name: str) -> None:
        """As kubectl delete does."""
        body = self.bodies.get(name)
        if body is None:
            return
        if not body["metadata"].get("finalizers"):
            del self.bodies[name]
            return
        self.version += 1
        metadata = {**body["metadata"], "deletionTimestamp": "t", "resourceVersion": str(self.version)}
        self.bodies[name] = {**body, "metadata": metadata}

    async def get(self, path: str) -> Body:
        name = path.rpartition("/")[2]
        if name not in self.bodies:
            raise NotFound(path)
        return self.bodies[name]

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body:
        self.fuse.burn(after=False)
        now = self._same(body)
        if now["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("Kubernetes: it changed meanwhile")
        self.version += 1
        metadata = {**now["metadata"], "finalizers": finalizers, "resourceVersion": str(self.version)}
        made = {**now, "metadata": metadata}
        self.bodies[made["metadata"]["name"]] = made
        if not finalizers and "deletionTimestamp" in metadata:
            del self.bodies[made["metadata"]["name"]]
        self.fuse.burn(after=True)
        return made

    async def apply_status(self, body: Body, status: Body) -> Body:
        self.fuse.burn(after=False)
        now = self._same(body)
        self.version += 1
        metadata = {**now["metadata"], "resourceVersion": str(self.version)}
        made = {**now, "metadata": metadata, "status": status}
        self.bodies[made["metadata"]["name"]] = made
        self.fuse.burn(after=True)
        return made

    def _same(self, body: Body) -> Body:
        found = self.bodies.get(body["metadata"]["name"])
        if found is None or found["metadata"]["uid"] != body["metadata"]["uid"]:
            raise NotFound("Kubernetes: gone")
        return found


class FakeControl:
    """Resources with versions and uids as control has them."""

    def __init__(self, fuse: Fuse) -> None:
        self.stored: dict[str, Body] = {}
        self.version, self.fuse = 0, fuse

    def put(self, document: Body) -> Body:
        self.version += 1
        name = document["metadata"]["name"]
        old = self.stored.get(name)
        wanted = document["metadata"].get("resourceVersion", 0)
        if wanted and (old is None or old["metadata"]["resourceVersion"] != wanted):
            raise Conflict("changed meanwhile", code="stale_resource_version")
        uid = old["metadata"]["uid"] if old else f"c{self.version}"
        metadata = {**document["metadata"], "uid": uid, "resourceVersion": self.version, "generation": 1}
        self.stored[name] = {**copy.deepcopy(document), "metadata": metadata, "status": {}}
        return self.stored[name]

    async def apply(self, document: Body, acts_as: str | None, *, dry_run: bool = False) -> Body:
        self.fuse.burn(after=False)
        made = self.put(document)
        self.fuse.burn(after=True)
        return {"outcome": "configured", "resource": made}

    async def get(self, plural: str, name: str, project: str = "") -> Body:
        if name not in self.stored:
            raise NotFound(name)
        return self.stored[name]

    async def delete(
        self, plural: str, name: str, project: str, acts_as: str | None, *, resource_version: int
    ) -> None:
        self.fuse.burn(after=False)
        if name not in self.stored:
            raise NotFound(name)
        if self.stored[name]["metadata"]["resourceVersion"] != resource_version:
            raise Conflict("changed meanwhile", code="stale_resource_version")
        del self.stored[name]
        self.fuse.burn(after=True)


class World:
    """Both sides, and a mirror that can be started anew."""

    def __init__(self) -> None:
        self.fuse = Fuse()
        self.kube, self.control = FakeKube(self.fuse), FakeControl(self.fuse)
        self.start()

    def start(self) -> None:
        """A new process: it reads both sides."""
        cluster, link = Cluster("c"), cast(ControlLink, self.control)
        cluster.learn_namespace({"metadata": {"name": SPACE, "uid": "ns", "resourceVersion": "1"}})
        self.view = ControlView(link, ["Model"])
        for document in self.control.stored.values():
            self.view.learn(document)
        for body in self.kube.bodies.values():
            cluster.learn(body)
        parts = Parts(cluster, cast(Kube, self.kube), link, self.view, VirtualClock())
        self.cluster, self.mirror = cluster, Mirror(parts)

    def hear(self) -> None:
        """What both streams tell, the latest of each."""
        for name in NAMES:
            known, item = self.cluster.find(Key("Model", SPACE, name)), Item("Model", SPACE, name)
            if name in self.kube.bodies:
                self.cluster.learn(self.kube.bodies[name])
            elif known is not None:
                self.cluster.forget(known)
            if name in self.control.stored:
                self.view.learn(self.control.stored[name])
            else:
                self.view.forget(item)

    async def settle(self) -> None:
        """Looks until nothing changes; whoever is killed is started anew."""
        for _ in range(30):
            before, is_calm = copy.deepcopy((self.kube.bodies, self.control.stored)), True
            for name in NAMES:
                try:
                    await self.mirror.reconcile(Key("Model", SPACE, name))
                except Killed:
                    self.start()
                    is_calm = False
                except ComputilityError:
                    is_calm = False
            self.hear()
            if is_calm and (self.kube.bodies, self.control.stored) == before:
                self.fuse.left = -1
                return
        raise AssertionError("it does not come to rest")


def document(name: str, source: str, mark: str = "") -> Body:
    notes = {MARK: mark} if mark else {"mine": "yes"}
    spec = {"source": source, "tasks": ["chat", "completions"], "shared": False}
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name, "project": SPACE, "labels": {}, "annotations": notes},
        "spec": spec,
    }


steps = st.tuples(
    st.sampled_from(["write", "remove", "drift", "vanish", "strange", "kill", "rest"]),
    st.sampled_from(NAMES),
    st.integers(0, 3),
    st.booleans(),
)


@given(st.lists(steps, max_size=14))
def test_both_sides_agree_in_the_end_and_what_is_anothers_stays(
    played: list[tuple[str, str, int, bool]],
) -> None:
    asyncio.run(_play(played))


async def _play(played: list[tuple[str, str, int, bool]]) -> None:
    world = World()
    strange: set[str] = set()
    for what, name, number, after in played:
        source, stored = f"org/{number}", world.control.stored
        if what == "write" and "deletionTimestamp" not in world.kube.bodies.get(name, {}).get("metadata", {}):
            world.kube.write(name, source)
        elif what == "remove":
            world.kube.remove(name)
        elif what == "drift" and name in stored and name not in strange:
            mark = stored[name]["metadata"]["annotations"].get(MARK, "")
            world.control.put(document(name, source, mark))
        elif what == "vanish" and name not in strange:
            stored.pop(name, None)
        elif what == "strange" and name not in stored:
            world.control.put(document(name, source, "c/other/x"))
            strange.add(name)
        elif what == "kill":
            world.fuse.left, world.fuse.after = number, after
        elif what == "rest":
            await world.settle()
        world.hear()
    await world.settle()
    for name in NAMES:
        body, found = world.kube.bodies.get(name), world.control.stored.get(name)
        if name in strange:
            assert found is not None
            assert found["metadata"]["annotations"][MARK] == "c/other/x"
            continue
        if body is None:
            assert found is None or MARK not in found["metadata"]["annotations"]
            continue
        assert "deletionTimestamp" not in body["metadata"]
        assert body["metadata"]["finalizers"] == [FINALIZER]
        assert found is not None
        assert found["spec"]["source"] == body["spec"]["source"]
        assert found["metadata"]["annotations"][MARK] == f"c/{SPACE}/{name}"
        [synced] = body["status"]["conditions"]
        assert (synced["status"], synced["observedGeneration"]) == ("True", body["metadata"]["generation"])


@pytest.mark.parametrize("made_anew", [False, True])
async def test_nothing_is_made_for_what_kubernetes_has_no_longer(made_anew: bool) -> None:
    """Whatever this process still believes: it was paused, or no event has told it."""
    world, key = World(), Key("Model", SPACE, "a")
    world.kube.write("a", "org/0")
    body = await world.kube.set_finalizers(world.kube.bodies["a"], [FINALIZER])
    world.cluster.learn(body)
    world.kube.bodies.clear()
    if made_anew:
        world.kube.write("a", "org/1")
    await world.mirror.reconcile(key)
    sources = [stored["spec"]["source"] for stored in world.control.stored.values()]
    assert sources == (["org/1"] if made_anew else [])
