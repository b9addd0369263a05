"""Endpoints of all modes with their Models, Adapters, replicas and Workloads, drawn."""

import random
from typing import Any

from common.labels import DRAINING, IDENTITY_LABEL
from common.resources import Adapter, Endpoint, Metadata, Model, Workload
from common.resources.auto_mode import AutoStatus, Readers
from common.resources.scaling import RoleScaling
from common.resources.serving import AdapterSpec, EndpointSpec, EndpointStatus, ModelSpec, Replica
from common.resources.workload import Grant, RankPlacement
from common.settings import EngineSettings
from inference.engine_workload import engine_workload

GPU, CPU = {"vendors": ["nvidia"]}, {"vendors": ["cpu"]}
CLASSES = ("nvidia/H100", "nvidia/A100", "cpu/x", "")
ROLES: tuple[Any, ...] = ("", "prefill", "decode")
SETTINGS = EngineSettings(cpu_kv_cache_gib=3, omp_threads=5, media_domains=["h"], start_timeout_seconds=77)


def _scaling(rng: random.Random) -> dict[str, Any] | None:
    return rng.choice((None, None, {"minReplicas": 0}, {"minReplicas": 2, "maxReplicas": 5}))


def _wish(rng: random.Random) -> dict[str, Any]:
    kind = rng.randrange(4)
    if kind == 0:
        least = rng.choice((0, 1))
        role = {"devices": {**GPU, "count": rng.choice((1, 2))}, "replicas": rng.choice((0, 1, 2))}
        elastic = {"devices": GPU, "autoscaling": {"minReplicas": least}}
        both = rng.choice(((role, role), (elastic, elastic), ({**role, "nodes": 2, "replicas": 1}, role)))
        asked = rng.choice((None, 0, 9))
        return {"mode": "disaggregated", "prefill": both[0], "decode": both[1], "minPromptTokens": asked}
    if kind == 1:
        return {"mode": "auto", "autoscaling": _scaling(rng)}
    devices = rng.choice((CPU, GPU, {}, {**GPU, "count": 4}, {"vendors": ["cpu"], "count": 2}))
    wish: dict[str, Any] = {"devices": devices, "nodes": rng.choice((1, 1, 2))}
    return wish | rng.choice(
        ({"replicas": rng.randrange(4)}, {"autoscaling": _scaling(rng)}, {"mode": "single"})
    )


def _auto(rng: random.Random) -> AutoStatus | None:
    classes = rng.sample(CLASSES[:2], rng.randrange(3))
    auto = AutoStatus(
        device_class=rng.choice(CLASSES),
        devices_per_engine=rng.choice((0, 2)),
        readers=[Readers(device_class=one, engines=rng.choice((1, 2))) for one in classes],
        min_prompt_tokens=rng.choice((0, 99)),
        hands_over=rng.random() < 0.8,
    )
    return auto if rng.random() < 0.85 else None


def replica(rng: random.Random, number: int) -> Replica:
    return Replica(
        workload=f"w{number}",
        role=rng.choice(("", "", *ROLES)),
        duty=rng.choice(("", "", "prefill")),
        phase=rng.choice(("Pending", "Ready")),
        ready=rng.random() < 0.7,
        draining=rng.random() < 0.2,
        url=f"http://{number}",
        device_class=rng.choice(CLASSES),
        model_identity=rng.choice(("", "p/m", "q/m", "p/gone")),
        adapters=rng.sample(("a", "b"), rng.randrange(3)),
    )


def endpoint(rng: random.Random, name: str = "chat") -> Endpoint:
    engine: dict[str, Any] = {"maxAdapters": rng.choice((0, 2)), "maxAdapterRank": rng.choice((8, 16))}
    engine |= rng.choice(({}, {"args": ["--x"], "env": {"A": "b"}}, {"maxContextTokens": 99}))
    while True:
        shared = rng.random() < 0.5
        wish = {"model": rng.choice("mn"), "engine": engine, "shared": shared, **_wish(rng)}
        wish["queue"], wish["priority"] = rng.choice(("default", "q")), rng.choice((None, 7))
        wish["routing"] = {"prefix": rng.choice((0.0, 2.0)), "load": rng.choice((0.5, 1.0))}
        try:
            spec = EndpointSpec.model_validate(wish)
        except ValueError:
            continue
        break
    meta = Metadata(
        name=name,
        project=rng.choice(("p", "p", "q", None)),
        uid=f"uid-{name}",
        generation=rng.choice((1, 2)),
        created_ms=rng.randrange(3),
    )
    found = Endpoint(metadata=meta, spec=spec)
    found.status = EndpointStatus(
        model_project=rng.choice(("", "q")),
        replicas=[replica(rng, number) for number in range(rng.choice((0, 1, 2, 4)))],
        scaling=[
            RoleScaling(role=role, wanted=rng.randrange(3)) for role in spec.roles if rng.random() < 0.7
        ],
        auto=_auto(rng) if spec.mode == "auto" else None,
        context_tokens=rng.choice((None, 64, 128)),
    )
    if rng.random() < 0.5:
        reason = rng.choice(("Ready", "NoReplicaReady", "ScaledToZero", "ModelNotFound"))
        found.status.set_condition("Ready", reason == "Ready", reason, "m", now_ms=1, generation=1)
    return found


def model(rng: random.Random, name: str = "m", project: str = "p") -> Model:
    tasks: Any = rng.choice((["chat", "completions"], ["embeddings"], ["chat", "embeddings"]))
    source = rng.choice(("$(HOME_DIR)/models/p/m", "org/name", "/models/x"))
    meta = Metadata(name=name, project=project, uid=f"uid-{name}", generation=rng.choice((1, 2)))
    return Model(metadata=meta, spec=ModelSpec(source=source, tasks=tasks, shared=rng.random() < 0.5))


def adapter(rng: random.Random, name: str = "zoo") -> Adapter:
    spec = AdapterSpec(
        model=rng.choice("mn"),
        model_project=rng.choice((None, "q")),
        served_name=rng.choice("ab"),
        path="/adapters/1",
        rank=rng.choice((8, 16)),
    )
    meta = Metadata(name=name, project=rng.choice(("p", "q")), uid=f"uid-{name}", created_ms=rng.randrange(3))
    return Adapter(metadata=meta, spec=spec)


def workload(rng: random.Random, of: Endpoint, served: Model, index: int) -> Workload:
    """Of a replica that has come to some point."""
    role = rng.choice(tuple(of.spec.roles))
    made = engine_workload(of, served, index, SETTINGS, role)
    made.metadata.uid = f"uid-{made.name}"
    if rng.random() < 0.3:
        made.metadata.annotations[DRAINING] = "1"
    if rng.random() < 0.2:
        made.metadata.labels.pop(IDENTITY_LABEL)
    made.status.phase, made.status.attempt = (
        rng.choice(("Ready", "Ready", "Ready", "Running")),
        rng.randrange(3),
    )
    grant = Grant(device="d", index=0, vendor="nvidia", model="H100", millis=1000)
    made.status.ranks = [
        RankPlacement(
            role=rng.choice((made.spec.roles[0].name, made.spec.roles[0].name, "worker")),
            replica=0,
            rank=number,
            node="n",
            grants=[grant] * rng.choice((0, 1, 2)),
            state=rng.choice(("Ready", "Ready", "Ready", "Starting")),
            address=rng.choice(("10.0.0.1", "10.0.0.1", "fd00::1", "")),
            ports=rng.choice(({"http": 9000 + index},) * 3 + ({"kv": 1},)),
        )
        for number in range(rng.choice((0, 1, 1, 2)))
    ]
    return made
