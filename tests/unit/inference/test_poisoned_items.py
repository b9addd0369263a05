"""One Model, Endpoint, Adapter or engine that cannot be handled holds up no other, and says why."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import inference.controller as controller
import inference.endpoint_status as endpoint_status
import inference.model_status as model_status
import inference.wanted_engine as wanted_engine
from common.clock import VirtualClock
from common.resources import Adapter, Endpoint, Metadata, Model, Workload
from common.resources.serving import AdapterSpec, EndpointSpec, ModelSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from common.store.ownership import NOBODY_ELSE
from inference.adapter_sync import AdapterSync
from inference.controller import EndpointController
from tests.fixtures.engines import FakeEngines

PROJECTS = ("acme", "evil", "zeta")
BAD = "evil"


class World:
    """Three projects with a Model, an Endpoint that is up, and an Adapter each."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.clock, self.engines = VirtualClock(), FakeEngines()
        self.store = MemoryStore(self.clock)
        self.home = home
        self.restart()

    def restart(self) -> None:
        self.controller = EndpointController(self.store, self.engines, self.settings, self.clock)

    async def fill(self, name: str = "chat") -> None:
        for project in PROJECTS:
            folder = self.home / "models" / project
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
            (folder / "model.safetensors").write_bytes(b"weights")
            source = ModelSpec(source=f"$(HOME_DIR)/models/{project}")
            await self.store.apply(Model(metadata=Metadata(name="tiny", project=project), spec=source))
            spec = EndpointSpec(model="tiny")
            await self.store.apply(Endpoint(metadata=Metadata(name=name, project=project), spec=spec))
            tuned = AdapterSpec(
                model="tiny", served_name=f"ft:{project}", path=f"/adapters/{project}", rank=8
            )
            await self.store.apply(Adapter(metadata=Metadata(name="zoo", project=project), spec=tuned))

    async def start_engines(self) -> None:
        for number, workload in enumerate(await self.store.list(Workload)):
            workload.status.phase = "Ready"
            rank = {"role": "engine", "replica": 0, "rank": 0, "node": "n", "state": "Ready"}
            where = {"address": "127.0.0.1", "ports": {"http": 9000 + number}}
            status = workload.status.model_copy(update={"attempt": 1}).to_dict() | {
                "phase": "Ready",
                "ranks": [{**rank, **where, "grants": []}],
            }
            workload.status = type(workload.status).model_validate_json(json.dumps(status))
            await self.store.set_status(workload)
            self.engines.start(f"http://127.0.0.1:{9000 + number}")

    async def handled(self, kind: Any, project: str) -> str:
        """Status of the condition and its message; nothing where it was always handled."""
        (found,) = await self.store.list(kind, project=project)
        told = found.status.condition("Handled")
        return f"{told.status}: {told.message}" if told else ""


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


def poisoned(original: Callable[..., Any], is_bad: Callable[..., bool], error: Exception) -> Any:
    def step(*arguments: Any, **options: Any) -> Any:
        if is_bad(*arguments, **options):
            raise error
        return original(*arguments, **options)

    return step


def steps() -> Iterator[Any]:
    """Each step of the controller that looks at one thing, and whose trouble it is."""
    by_endpoint = [
        (wanted_engine, "engine_workload", lambda endpoint, *_: endpoint.project == BAD),
        (controller, "_find_model", lambda endpoint, *_: endpoint.project == BAD),
        (endpoint_status, "readiness", lambda endpoint, *_: endpoint.project == BAD),
        (controller, "replica_of", lambda workload: workload.project == BAD),
    ]
    for where, name, is_bad in by_endpoint:
        yield pytest.param(where, name, is_bad, Endpoint, id=name)
    yield pytest.param(controller, "report_adapter", lambda a, *_: a.project == BAD, Adapter, id="adapter")
    yield pytest.param(
        EndpointController, "_wanted", lambda _, a: a.project == BAD, Adapter, id="adapter path"
    )
    yield pytest.param(
        model_status, "inspect_model", lambda source, _: source.endswith(BAD), Model, id="model"
    )


@pytest.mark.parametrize(
    "error", [OverflowError("int too large"), RecursionError("too deep"), KeyError("x"), OSError(36, "long")]
)
@pytest.mark.parametrize(("where", "name", "is_bad", "kind"), list(steps()))
async def test_what_cannot_be_handled_says_why_and_all_else_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, is_bad: Any, kind: Any, error: Any
) -> None:
    await world.fill()
    with monkeypatch.context() as patched:
        patched.setattr(where, name, poisoned(getattr(where, name), is_bad, error))
        await world.controller.step()
        await world.start_engines()
        for restarted in (False, True):
            if restarted:
                world.restart()
            for _ in range(3):
                world.clock.advance(20)
                await world.controller.step()
            for project in PROJECTS:
                if project == BAD:
                    assert (await world.handled(kind, BAD)).startswith(f"False: {type(error).__name__}")
                    continue
                (endpoint,) = await world.store.list(Endpoint, project=project)
                assert endpoint.status.is_true("Ready")
                (adapter,) = await world.store.list(Adapter, project=project)
                assert adapter.status.is_true("Served")
                assert [await world.handled(k, project) for k in (Model, Endpoint, Adapter)] == [""] * 3
    world.clock.advance(600)
    await world.controller.step()
    await world.start_engines()
    await world.controller.step()
    await world.controller.step()
    assert (await world.handled(kind, BAD)).startswith("True")
    (endpoint,) = await world.store.list(Endpoint, project=BAD)
    assert endpoint.status.is_true("Ready")


async def test_an_endpoint_whose_engines_cannot_be_named_says_so(world: World) -> None:
    """The documents are put into the store past the gate: whatever is there, the others are looked after."""
    await world.fill()
    for number, name in enumerate(("x" * 253, "nl\n", "tab\tname")):
        odd = Endpoint(metadata=Metadata(name="odd", project="evil"), spec=EndpointSpec(model="tiny"))
        metadata = odd.metadata.model_copy(update={"name": name, "uid": f"odd-{number}"})
        world.store._put(odd.model_copy(update={"metadata": metadata}), NOBODY_ELSE)
    await world.controller.step()
    for endpoint in await world.store.list(Endpoint):
        ready, handled = endpoint.status.condition("Ready"), endpoint.status.condition("Handled")
        assert ready is not None
        if endpoint.name == "chat":
            assert handled is None
            assert await world.store.find(Workload, "chat-0", endpoint.project) is not None
        else:
            assert handled is not None
            assert (ready.status, handled.status) == ("False", "False")
            assert handled.message.isprintable()
    adapters = await world.store.list(Adapter)
    assert all(adapter.status.condition("Served") for adapter in adapters)


async def test_an_engine_that_answers_nonsense_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fill()
    await world.controller.step()
    await world.start_engines()
    bad = next(url for url in world.engines.running if url.endswith("9001"))
    monkeypatch.setattr(
        AdapterSync,
        "_observe",
        poisoned(AdapterSync._observe, lambda _, held, url: url == bad, KeyError("data")),
    )
    for _ in range(3):
        world.clock.advance(20)
        await world.controller.step()
    served = {a.project: a.status.is_true("Served") for a in await world.store.list(Adapter)}
    assert served == {"acme": True, "evil": False, "zeta": True}
