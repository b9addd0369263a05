"""Files of jobs: none is left that no job has."""

from contextlib import suppress
from typing import Any, cast

import pytest

from common.clock import VirtualClock
from common.errors import ComputilityError, Conflict, Forbidden, InvalidInput, NotFound
from operators.control.link import ControlLink
from operators.control.lists import Lists
from operators.control.view import ControlView
from operators.core.reconcile import FINALIZER
from operators.documents import Key
from operators.jobs import FineTunes
from operators.kube.client import Kube
from operators.kube.cluster import Cluster
from operators.parts import Parts

KEY = Key("FineTune", "team", "j")
Body = dict[str, Any]
DATA = {"configMap": "data", "key": "rows.jsonl"}


class Server:
    def __init__(self, **spec: Any) -> None:
        metadata = {"name": "j", "namespace": "team", "uid": "u1", "resourceVersion": "1", "generation": 1}
        wanted = {"model": "base", "trainingData": DATA, **spec}
        self.body: Body = {"kind": "FineTune", "metadata": metadata | {"finalizers": [FINALIZER]}}
        self.body["spec"] = wanted
        self.data = {"rows.jsonl": "a", "more.jsonl": "b"}

    async def get(self, path: str) -> Body:
        return {"data": self.data} if "/configmaps/" in path else self.body

    async def apply_status(self, body: Body, status: Body) -> Body:
        return self.change({}, status=status)

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body:
        return self.change({"finalizers": finalizers})

    def change(self, metadata: Body, **parts: Any) -> Body:
        version = int(self.body["metadata"]["resourceVersion"]) + 1
        metadata = {**self.body["metadata"], "resourceVersion": str(version), **metadata}
        self.body = {**self.body, **parts, "metadata": metadata}
        return self.body


class Control:
    """Files and jobs; ``refuses`` says what is raised for a job or for a file with that content."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.once: dict[str, str] = {}
        self.jobs: list[Body] = []
        self.refuses: dict[str, ComputilityError] = {}

    async def upload(self, name: str, content: bytes, project: str, acts_as: str | None, once: str) -> str:
        if content.decode() in self.refuses:
            raise self.refuses[content.decode()]
        made = self.once.setdefault(once, f"file-{len(self.once)}")
        self.files.setdefault(made, content.decode())
        return made

    async def delete_file(self, file_id: str, project: str, acts_as: str | None) -> None:
        if self.files.pop(file_id, None) is None:
            raise NotFound(file_id)

    async def create_job(self, body: Body, project: str, acts_as: str | None, once: str) -> Body:
        if "job" in self.refuses:
            raise self.refuses["job"]
        metadata = {"name": "job-1", "project": project}
        spec = {"metadata": body["metadata"], "trainingFile": body["training_file"]}
        self.jobs.append({"kind": "FineTune", "metadata": metadata, "spec": spec, "status": {"state": "x"}})
        return {"id": "job-1"}

    async def list_all(self, plural: str) -> tuple[list[Body], int]:
        return self.jobs, 1


class World:
    def __init__(self, **spec: Any) -> None:
        self.server, self.control = Server(**spec), Control()
        cluster, link = Cluster("c"), cast(ControlLink, self.control)
        cluster.learn_namespace({"metadata": {"name": "team", "uid": "ns", "resourceVersion": "1"}})
        view = ControlView(link, ["FineTune"])
        self.parts = Parts(cluster, cast(Kube, self.server), link, view, VirtualClock())
        self.parts.lists = Lists(link, 0.0)

    async def look(self) -> None:
        self.parts.cluster.learn(self.server.body)
        with suppress(ComputilityError):
            await FineTunes(self.parts).reconcile(KEY)

    @property
    def reason(self) -> str:
        return str(self.server.body["status"]["conditions"][-1]["reason"])


@pytest.mark.parametrize("refused", ["job", "b"])
async def test_files_of_a_job_that_is_refused_go_with_it(refused: str) -> None:
    """Also the first one, when it is the second that is refused."""
    world = World(validationData={"configMap": "data", "key": "more.jsonl"})
    world.control.refuses[refused] = Forbidden("no") if refused == "job" else InvalidInput("line 1")
    for _ in range(3):
        await world.look()
    assert list(world.control.files.values()) == (["a", "b"] if refused == "job" else ["a"])
    assert len(world.server.body["status"]["uploads"]) == len(world.control.files)
    world.server.change({"deletionTimestamp": "t"})
    await world.look()
    assert world.control.files == {}
    assert world.server.body["metadata"]["finalizers"] == []


async def test_files_of_other_content_take_the_place_of_the_former_ones() -> None:
    world = World()
    world.control.refuses["job"] = Conflict("too many jobs")
    for content in ("a", "c", "a", "c", "a", "a"):
        world.server.data["rows.jsonl"] = content
        await world.look()
        assert list(world.control.files.values()) == [content]


async def test_files_of_a_job_stay() -> None:
    world = World()
    await world.look()
    assert world.reason == "Applied"
    assert "uploads" not in world.server.body["status"]
    world.parts.view.learn(world.control.jobs[0])
    world.control.jobs[0]["status"]["state"] = "succeeded"
    world.server.change({"deletionTimestamp": "t"})
    await world.look()
    assert list(world.control.files.values()) == ["a"]
    assert world.server.body["metadata"]["finalizers"] == []
