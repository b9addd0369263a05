"""Keys as they are handed out: none is made that no Secret takes, and none comes back that was revoked."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.clock import VirtualClock
from common.errors import ComputilityError, Conflict, Forbidden, NotFound
from common.settings import Settings
from operators.control.link import ControlLink
from operators.control.view import ControlView
from operators.core.reconcile import FINALIZER
from operators.documents import Key
from operators.keys import ROTATE, ApiKeys
from operators.kube.client import Kube
from operators.kube.cluster import Cluster
from operators.operator import Operator
from operators.parts import Parts

KEY = Key("ApiKey", "team", "k")
Body = dict[str, Any]


class Server:
    """The API server: the custom resource and its Secret. ``broken``: what a write of the Secret raises, also
    a trial; ``breaks``: what the next real write raises."""

    def __init__(self) -> None:
        metadata = {"name": "k", "namespace": "team", "uid": "u1", "resourceVersion": "1", "generation": 1}
        notes = {"annotations": {ROTATE: "1"}, "finalizers": [FINALIZER]}
        self.body: Body = {"kind": "ApiKey", "metadata": {**metadata, **notes}, "spec": {}}
        self.secret: Body | None = None
        self.broken: ComputilityError | None = None
        self.breaks: ComputilityError | None = None

    async def get(self, path: str) -> Body:
        found = self.secret if "/secrets/" in path else self.body
        if found is None:
            raise NotFound(path)
        return found

    async def create(self, path: str, body: Body, *, dry_run: bool = False) -> Body:
        return self._write(body, dry_run)

    async def merge(self, path: str, patch: Body, *, dry_run: bool = False) -> Body:
        assert self.secret is not None
        metadata = {**self.secret["metadata"], **patch["metadata"]}
        return self._write({**self.secret, **patch, "metadata": metadata}, dry_run)

    def _write(self, body: Body, dry_run: bool) -> Body:
        if self.broken is not None:
            raise self.broken
        if dry_run:
            return body
        breaks, self.breaks = self.breaks, None
        if breaks is not None:
            raise breaks
        self.secret = body
        return body

    async def apply_status(self, body: Body, status: Body) -> Body:
        version = int(self.body["metadata"]["resourceVersion"]) + 1
        metadata = {**self.body["metadata"], "resourceVersion": str(version)}
        self.body = {**self.body, "metadata": metadata, "status": status}
        return self.body

    def rotate(self, value: str) -> None:
        version = int(self.body["metadata"]["resourceVersion"]) + 1
        metadata = {**self.body["metadata"], "resourceVersion": str(version), "annotations": {ROTATE: value}}
        self.body = {**self.body, "metadata": metadata}


class Control:
    """Keys as control has them; each change is told at once."""

    def __init__(self) -> None:
        self.keys: dict[str, Body] = {}
        self.made = self.revoked = 0
        self.view: ControlView | None = None

    async def get(self, plural: str, name: str, project: str = "") -> Body:
        if name not in self.keys:
            raise NotFound(name)
        return self.keys[name]

    async def make_key(self, wanted: Body, acts_as: str) -> Body:
        self.made += 1
        secret = f"ck-{self.made:05}-secret"
        self._put(wanted["name"], f"c{self.made}", secret[:8], is_revoked=False)
        return {"resource": self.keys[wanted["name"]], "secret": secret}

    async def revoke_key(self, name: str) -> None:
        self.revoked += 1
        self.revoke(name)

    def revoke(self, name: str) -> None:
        """As somebody else does."""
        old = self.keys[name]
        self._put(name, old["metadata"]["uid"], old["status"]["hint"], is_revoked=True)

    def _put(self, name: str, uid: str, hint: str, *, is_revoked: bool) -> None:
        version = self.made * 2 + self.revoked
        metadata = {"name": name, "uid": uid, "resourceVersion": version, "generation": version}
        document = {"kind": "ApiKey", "metadata": metadata, "spec": {"revoked": is_revoked}}
        self.keys[name] = {**document, "status": {"hint": hint}}
        assert self.view is not None
        self.view._take({"type": "put", "revision": version, "resource": self.keys[name]})


class World:
    def __init__(self) -> None:
        self.server, self.control, self.clock = Server(), Control(), VirtualClock()
        cluster = Cluster("c")
        cluster.learn_namespace({"metadata": {"name": "team", "uid": "ns", "resourceVersion": "1"}})
        cluster.learn(self.server.body)
        link = cast(ControlLink, self.control)
        self.control.view = view = ControlView(link, ["ApiKey"])
        self.parts = Parts(cluster, cast(Kube, self.server), link, view, self.clock)

    async def look(self) -> Body:
        """The status after it."""
        self.parts.cluster.learn(self.server.body)
        with suppress(ComputilityError):
            await ApiKeys(self.parts).reconcile(KEY)
        status: Body = self.server.body["status"]
        return status

    @property
    def in_force(self) -> list[str]:
        return [name for name, key in self.control.keys.items() if not key["spec"]["revoked"]]


def reason(status: Body) -> str:
    return str(status["conditions"][-1]["reason"])


@pytest.mark.parametrize("kind", ["immutable", "refused", "of somebody else"])
async def test_no_key_is_made_that_no_secret_takes(kind: str) -> None:
    world = World()
    if kind != "refused":
        owners = [{"uid": "u1" if kind == "immutable" else "other"}]
        world.server.secret = {"metadata": {"ownerReferences": owners}, "immutable": kind == "immutable"}
    else:
        world.server.broken = Forbidden("Kubernetes: an admission webhook says no")
    for _ in range(5):
        await world.look()
    assert (world.control.made, world.control.revoked) == (0, 0)
    if kind == "immutable":
        assert "is immutable" in world.server.body["status"]["conditions"][-1]["message"]


async def test_what_it_does_itself_undercuts_no_pause() -> None:
    """A Secret that takes trials, and never the key."""
    world = World()
    settings = cast(Settings, SimpleNamespace(operator=SimpleNamespace(namespaces=[], workers=1)))
    operator = Operator(world.parts, settings)
    operator.queue.add(KEY)
    until = world.clock.monotonic_seconds() + 600
    while world.clock.monotonic_seconds() < until:
        key = operator.queue.take_due()
        if key is None:
            world.clock.advance(0.1)
            continue
        world.server.breaks = Conflict("Kubernetes: somebody was faster")
        with pytest.raises(Conflict):
            await operator.table["ApiKey"](key)
        operator._custom("MODIFIED", world.server.body)
        operator.queue.done(key, failed=True)
    assert world.control.made < 22


@pytest.mark.parametrize("has_secret", [True, False])
@pytest.mark.parametrize("is_forgotten", [True, False])
async def test_a_key_that_control_revoked_stays_so_until_it_is_rotated(
    has_secret: bool, is_forgotten: bool
) -> None:
    world = World()
    assert reason(await world.look()) == "Applied"
    [name] = world.in_force
    world.control.revoke(name)
    if not has_secret:
        world.server.secret = None
    assert reason(await world.look()) == "Revoked"
    if is_forgotten:
        del world.control.keys[name]
    for _ in range(3):
        assert reason(await world.look()) == "Revoked"
    assert world.control.made == 1
    world.server.rotate("2")
    assert reason(await world.look()) == "Applied"
    assert len(world.in_force) == 1
    world.server.rotate("1")
    assert reason(await world.look()) == "Applied"
    assert world.in_force == [name]


async def test_a_secret_that_is_lost_is_made_anew_also_by_another_process() -> None:
    world = World()
    await world.look()
    world.server.secret = None
    world.server.breaks = Conflict("Kubernetes: gone in the midst of it")
    await world.look()
    assert reason(await world.look()) == "Applied"
    assert len(world.in_force) == 1


async def test_a_key_that_was_revoked_to_be_made_anew_is_made() -> None:
    """It ends between the two."""
    world = World()
    await world.look()
    world.server.secret = None
    make = world.control.make_key

    async def dies(wanted: Body, acts_as: str) -> Body:
        raise Conflict("it ends")

    world.control.make_key = dies  # type: ignore[method-assign]
    await world.look()
    assert world.in_force == []
    world.control.make_key = make  # type: ignore[method-assign]
    assert reason(await world.look()) == "Applied"
    assert len(world.in_force) == 1
