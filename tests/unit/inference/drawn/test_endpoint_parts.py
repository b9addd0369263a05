"""Parts of the controller of Endpoints in drawn worlds: what is started, told and ended."""

import json
import random
from pathlib import Path
from typing import Any, get_args

import pytest

from common.clock import VirtualClock
from common.errors import EngineFailed, InvalidInput, Unavailable
from common.load import EngineLoad
from common.resources import ApiKey, Endpoint, Metadata, Project
from common.resources.people import ApiKeySpec, ProjectSpec
from common.resources.scaling import EngineRole
from common.resources.serving import EndpointSpec
from inference import adapter_sync, engine_guard
from inference.adapter_status import ReplicaReport, report_adapter
from inference.adapter_sync import AdapterSync, Failure, Held, WantedAdapter
from inference.auto_duties import assign_duties
from inference.autoscaling.draining import Draining
from inference.core.rollout import ReplicaState, plan_rollout
from inference.endpoint_readiness import readiness
from inference.engine_guard import ROUTES, EngineGuard
from inference.engine_rank import VARIABLES, rank_arguments
from inference.engine_workload import engine_role, engine_workload, replica_of
from inference.model_files import inspect_model, model_digest, within_project
from inference.ports import LoadedModel
from inference.routes import build_routing_table
from inference.wanted_engine import WantedEngine, WantedEngines
from tests.unit.inference.drawn import endpoint_scene as scene
from tests.unit.inference.drawn.worlds import Worlds, check_worlds

Patch = pytest.MonkeyPatch


def _json(value: Any) -> str:
    return json.dumps(value.model_dump(mode="json", exclude_defaults=True), sort_keys=True)


async def _readiness(rng: random.Random, _: Patch, __: Path) -> str:
    """What is said of an Endpoint, and which of its engines read."""
    endpoint = scene.endpoint(rng)
    told = readiness(endpoint, rng.choice((None, None, None, ("Odd", "why"))))
    replicas = endpoint.status.replicas
    assign_duties(endpoint, replicas)
    return (
        f"{told} {[(one.workload, one.duty) for one in replicas]} {endpoint.wanted} {endpoint.is_undecided}"
    )


class _Store:
    """Lists what there is, and keeps what is applied."""

    def __init__(self, *there: Any) -> None:
        self.there, self.applied = there, list[Any]()

    async def list(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.there if isinstance(one, kind)]

    async def apply(self, one: Any) -> None:
        self.applied.append(one)


async def _routes(rng: random.Random, _: Patch, __: Path) -> str:
    """The table that gateways get."""
    endpoints = [scene.endpoint(rng, name) for name in ("chat", "code", "more")[: rng.randrange(1, 4)]]
    adapters = [scene.adapter(rng, name) for name in ("zoo", "zap")[: rng.randrange(3)]]
    for one in adapters:
        if rng.random() < 0.4:
            reason = rng.choice(("Loaded", "LoadRefused", "RankTooHigh", "Loading"))
            one.status.set_condition("Served", reason == "Loaded", reason, "m", now_ms=1, generation=1)
    models = [scene.model(rng, "m", "p"), scene.model(rng, "m", "q"), scene.model(rng, "n", "p")]
    projects = [
        Project(metadata=Metadata(name=name), spec=ProjectSpec(tenant=tenant))
        for name, tenant in (("p", "t"), ("q", "u"))[: rng.choice((1, 2, 2))]
    ]
    keys = [
        ApiKey(metadata=Metadata(name=name), spec=ApiKeySpec.model_validate(spec))
        for name, spec in (
            ("k", {"role": "member", "project": rng.choice("pqr"), "revoked": rng.random() < 0.3}),
            ("l", {"role": "tenant-admin", "tenant": "t", "models": ["m"], "expiresMs": 5}),
            ("r", {"role": "platform-admin"}),
        )
    ]
    store: Any = _Store(*endpoints, *adapters, *models[: rng.randrange(4)], *projects, *keys)
    return (await build_routing_table(store)).model_dump_json()


async def _workloads(rng: random.Random, _: Patch, __: Path) -> str:
    """What is started, whether what runs is the same, and what is seen of it."""
    endpoint, served = scene.endpoint(rng), scene.model(rng)
    engines, lines = WantedEngines(scene.SETTINGS), list[str]()
    try:
        wanted = engines.of(endpoint, served)
    except (InvalidInput, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    for role, one in wanted.items():
        lines.append(f"{role} {_json(one.named('w'))} {one.workload.name}")
    found = scene.workload(rng, endpoint, served, rng.randrange(3))
    lines.append(_json(replica_of(found)))
    change = rng.randrange(6)
    if change == 0:
        found.spec.priority = 3
    elif change == 1:
        found.spec.roles[0].env["B"] = "c"
    elif change == 2:
        found.metadata.labels["computility.io/model"] = "other"
    elif change == 3:
        found.spec.restart.policy = "Never"
    for role in wanted:
        lines.append(f"{wanted[role].is_same(found)} {wanted[role].is_other_process(found)}")
    other = rng.choice((endpoint, scene.endpoint(rng), endpoint.model_copy(deep=True)))
    if rng.random() < 0.3 and other.status.auto is not None:
        other.status.auto.hands_over = not other.status.auto.hands_over
    same: Any = None
    try:
        same = engines.of(other, rng.choice((served, scene.model(rng)))) is wanted
    except (InvalidInput, ValueError) as error:
        same = type(error).__name__
    engines.forget_all_but(rng.choice(((), ("uid-chat",))))
    lines.append(f"{same} {len(engines._known)} {isinstance(wanted[role], WantedEngine)}")
    return "\n".join(lines)


async def _adapters(rng: random.Random, _: Patch, __: Path) -> str:
    """What is said of an Adapter from what replicas hold."""
    adapter = scene.adapter(rng)
    wanted = WantedAdapter("q/zoo", adapter.spec.served_name, "/adapters/1")
    reports = []
    for number in range(rng.choice((0, 1, 2, 3))):
        held = Held()
        if rng.random() < 0.4:
            held.failures[rng.choice("ab")] = (wanted, Failure("Odd", "why"))
        told = held if rng.random() < 0.8 else None
        endpoint, replica = scene.endpoint(rng), scene.replica(rng, number)
        held.paths = dict.fromkeys(replica.adapters, "/adapters/1")
        reports.append(ReplicaReport(endpoint, replica, told))
    return str(report_adapter(adapter, wanted, reports))


async def _rollout(rng: random.Random, _: Patch, __: Path) -> str:
    """Which replicas are made, replaced and removed."""
    roles = rng.choice((("",), ("prefill", "decode")))
    wanted = {f"w{number}": rng.choice(roles) for number in rng.sample(range(5), rng.randrange(4))}
    there = {
        f"w{number}": ReplicaState(rng.random() < 0.4, rng.random() < 0.7, rng.choice(("", *roles)))
        for number in rng.sample(range(5), rng.randrange(5))
    }
    return str(plan_rollout(wanted, there))


class _Engines:
    """Engines that fail now and then; all that they are asked is noted."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.asked = rng, list[str]()
        self.held = {"a": "/1", "old": "/0"} if rng.random() < 0.6 else {}

    def _may_fail(self, part: float) -> None:
        if self.rng.random() < part:
            raise self.rng.choice(
                (Unavailable("away"), EngineFailed("odd"), InvalidInput("no", param="path"), ValueError("x"))
            )

    async def loaded_models(self, url: str) -> list[LoadedModel]:
        self.asked.append(f"list {url}")
        self._may_fail(0.1)
        base = (
            [LoadedModel("tiny", None, "/m", self.rng.choice((None, 64)))] if self.rng.random() < 0.9 else []
        )
        return [*base, *(LoadedModel(name, "tiny", path) for name, path in self.held.items())]

    async def load_adapter(self, url: str, name: str, path: str) -> None:
        self.asked.append(f"load {url} {name} {path}")
        self._may_fail(0.4)
        if self.rng.random() < 0.85:
            self.held[name] = path

    async def unload_adapter(self, url: str, name: str) -> None:
        self.asked.append(f"unload {url} {name}")
        self._may_fail(0.2)
        self.held.pop(name, None)

    async def load(self, url: str) -> EngineLoad:
        self._may_fail(0.2)
        return EngineLoad(self.rng.choice((0, 0, 0, 1)), self.rng.choice((0, 0, 1)), 0.0)


async def _sync(rng: random.Random, patch: Patch, _: Path) -> str:
    """Passes over one engine that is to hold some adapters."""
    clock, engines, lines = VirtualClock(), _Engines(rng), list[str]()
    patch.setattr(adapter_sync, "_RETRY_MAX_SECONDS", 20.0)
    asked: Any = engines
    sync = AdapterSync(asked, clock)
    wanted: list[WantedAdapter] = []
    for _number in range(rng.choice((2, 6, 12))):
        if rng.random() < 0.5:
            wanted = [
                WantedAdapter(f"p/{name}", name, rng.choice(("/1", "/1", "/2")))
                for name in rng.sample("abc", rng.randrange(4))
            ]
        clock.advance(rng.choice((0.0, 5.0, 5.0, 10.0, 15.0, 20.0, 14.999)))
        engine = ("uid", rng.choice((1, 1, 1, 2)))
        try:
            held = await sync.sync(engine, "http://e", wanted, unload=rng.random() < 0.7)
            failures = {name: (one[0].path, one[1]) for name, one in held.failures.items()}
            failed = [held.failure_of(one) for one in wanted]
            lines.append(
                f"{held.names} {held.paths} {held.context_tokens} {failures} {held.retries} {failed}"
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            lines.append(f"{type(error).__name__}: {error}")
        if rng.random() < 0.1:
            sync.forget_all_but({("uid", 1)})
            lines.append(str(sorted(sync._held)))
    return "\n".join([*lines, *engines.asked])


async def _draining(rng: random.Random, _: Patch, __: Path) -> str:
    """Which engines stay, and when those that are to leave may go."""
    clock, engines, store, lines = VirtualClock(), _Engines(rng), _Store(), list[str]()
    shop: Any = store
    asked: Any = engines
    draining = Draining(shop, asked, clock, rng.choice((20.0, 60.0)))
    endpoint, served = scene.endpoint(rng), scene.model(rng)
    try:
        there = [scene.workload(rng, endpoint, served, number) for number in range(rng.choice((1, 3, 5)))]
    except InvalidInput as error:
        return str(error)
    outdated = {one.name for one in there if rng.random() < 0.3}
    for _number in range(rng.choice((2, 6, 10))):
        roles = {role: [one for one in there if engine_role(one) == role] for role in get_args(EngineRole)}
        names = await draining.wanted_names(endpoint, roles, lambda one: one.name in outdated)
        lines.append(str(names))
        unwanted = [one for one in there if rng.random() < 0.8]
        gone = await draining.those_that_may_go(unwanted, rng.choice((0, 1, 2, 5)))
        lines.append(f"{[one.name for one in gone]} {draining.is_under_way} {draining._drains}")
        lines += [f"{one.name} {one.metadata.annotations}" for one in store.applied]
        for one in store.applied:
            there = [one if old.name == one.name else old for old in there]
        store.applied.clear()
        if rng.random() < 0.2:
            await draining.stay(rng.choice(there))
        if rng.random() < 0.1:
            draining.forget_all_but([one.metadata.uid for one in there[:1]])
        clock.advance(rng.choice((0.0, 0.5, 1.0, 4.0, 5.0, 20.0)))
    return "\n".join(lines)


async def _guard(rng: random.Random, patch: Patch, __: Path) -> str:
    """Who gets through an engine's door."""
    key = rng.choice(("", "k", "k"))
    patch.setattr(engine_guard, "engine_key_of_process", lambda: key)
    lines, sent = list[str](), list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lines.append(f"through: {scope['type']} {receive} {send is told}")

    async def told(message: Any) -> None:
        sent.append(message)

    paths = (*ROUTES, "/invocations", "/v1/adapters", "/")
    headers = [
        (rng.choice((b"authorization", b"authorization", b"x")), rng.choice((b"Bearer k", b"Bearer x", b"")))
        for _number in range(rng.choice((0, 1, 1, 1, 2)))
    ]
    scope: Any = {"type": rng.choice(("http", "http", "http", "http", "lifespan", "websocket"))}
    scope |= {"path": rng.choice(paths), "method": rng.choice(("GET", "POST", "POST")), "headers": headers}
    receive: Any = "receive"
    await EngineGuard(app)(scope, receive, told)
    return f"{scope} {lines} {sent}"


async def _ranks(rng: random.Random, _: Patch, __: Path) -> str:
    place = {name: rng.choice(("0", "1", "3")) for name in VARIABLES}
    return f"{VARIABLES} {rank_arguments(['m', '--x'], place)}"


CONFIGS = (
    '{"max_position_embeddings": 5}',
    '{"text_config": {"max_position_embeddings": 7}}',
    "[]",
    "{",
    "7",
)
MORE = (
    '{"max_position_embeddings": 0}',
    '{"max_position_embeddings": "8"}',
    '{"text_config": 3}',
    "[" * 9999,
)


async def _files(rng: random.Random, _: Patch, home: Path) -> str:
    """What is found at a Model's source."""
    folder = home / "models" / "p" / "m"
    folder.mkdir(parents=True)
    kind = rng.random()
    if kind < 0.8:
        (folder / "config.json").write_text(rng.choice((*CONFIGS, *CONFIGS, *MORE)))
    elif kind < 0.9:
        (folder / "config.json").mkdir()
    for name in rng.sample(
        ("a.safetensors", "b.bin", "c.gguf", "d.pt", "e.txt", ".hidden"), rng.randrange(5)
    ):
        (folder / name).write_text(name * rng.choice((1, 2)))
    (home / "models" / "q").mkdir()
    (home / "models" / "q" / "w.safetensors").write_text("w")
    if rng.random() < 0.3:
        (folder / "link.bin").symlink_to(
            rng.choice((folder / "e.txt", home / "models" / "q" / "w.safetensors"))
        )
    source = rng.choice(("$(HOME_DIR)/models/p/m",) * 6 + ("org/name", "$(HOME_DIR)/models/p/none"))
    found = inspect_model(source, home)
    held = within_project(found, source, rng.choice(("p", "q", None)), home)
    digest = model_digest(folder)
    before = found.fingerprint
    (folder / rng.choice(("f.txt", ".f"))).write_text("f")
    changed = inspect_model(source, home).fingerprint != before
    told = (found.usable, found.reason, found.message, found.context_tokens, bool(before), changed)
    return f"{told} {held.usable, held.reason, held.message} {digest}"


WORLDS: Worlds = {
    "readiness": (_readiness, 400, 4),
    "routes": (_routes, 120, 1),
    "workloads": (_workloads, 150, 1),
    "adapters": (_adapters, 200, 4),
    "rollouts": (_rollout, 300, 4),
    "adapters of an engine": (_sync, 200, 1),
    "draining": (_draining, 120, 1),
    "doors": (_guard, 300, 2),
    "ranks": (_ranks, 20, 2),
    "files": (_files, 100, 3),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_parts_of_the_controller_do_what_was_approved(name: str, tmp_path: Path) -> None:
    await check_worlds(Path(__file__), name, WORLDS, tmp_path)


def test_a_workload_shares_nothing_with_its_endpoint() -> None:
    wide = {"model": "m", "nodes": 2, "devices": {"vendors": ["nvidia"], "count": 4}}
    endpoint = Endpoint(
        metadata=Metadata(name="e", project="p", uid="u"), spec=EndpointSpec.model_validate(wide)
    )
    made = engine_workload(endpoint, scene.model(random.Random(1)), 0, scene.SETTINGS)
    assert len(made.spec.roles) == 2
    assert all(role.devices.vendors is not endpoint.spec.devices.vendors for role in made.spec.roles)
