"""The Workload of one engine, and what its status says about the replica."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.errors import InvalidInput
from common.labels import DRAINING, IDENTITY_LABEL, MODEL_LABEL, RESTARTED
from common.resources import Endpoint, Metadata, Model, Owner, Workload
from common.resources.engines import RoleSpec
from common.resources.pool import DeviceRequest
from common.resources.scaling import EngineRole
from common.resources.serving import PAIR, Replica, model_identity
from common.resources.workload import (
    RankPlacement,
    Readiness,
    RestartPolicy,
    WorkloadRole,
    WorkloadSpec,
    failure_in_words,
)
from common.settings import EngineSettings
from common.sources import launch_source, local_path
from common.vendors import VENDORS
from inference.core.engine_command import (
    HEALTH_PATH,
    KV_PORT_NAME,
    PORT_NAME,
    EngineOptions,
    engine_command,
)
from inference.parsers.choose import reasoning_of, tools_of

ENDPOINT_LABEL = "computility.io/endpoint"
ROLE_LABEL = "computility.io/engine-role"
MAX_CRASHES, BACKOFF_MAX_SECONDS = 20, 300.0
"""An engine that never answers is started 21 times within about an hour, and billed for these starts."""
WORKER_ROLE = "worker"
"""Of an engine on several nodes: the ranks that do not serve."""
_WORKLOAD_ROLES: dict[EngineRole, str] = {
    "": "engine",
    "canary": "engine",
    **dict(zip(PAIR, PAIR, strict=True)),
}
_ENGINE_ROLES: dict[str, EngineRole] = {"engine": "", **dict(zip(PAIR, PAIR, strict=True))}


def served_name(endpoint: Endpoint) -> str:
    """What clients put in ``model``."""
    return endpoint.served_name


def workload_name(endpoint: Endpoint, index: int, role: EngineRole = "") -> str:
    """The name of replica ``index`` of a role."""
    return f"{endpoint.name}-{role}-{index}" if role else f"{endpoint.name}-{index}"


def engine_workload(
    endpoint: Endpoint,
    model: Model,
    index: int,
    settings: EngineSettings,
    role: EngineRole = "",
    traces_url: str = "",
) -> Workload:
    """The Workload that runs replica ``index`` of a role of the endpoint, and sends spans there if they are
    to go anywhere. Raises ``InvalidInput`` where the model cannot be served so."""
    spec, wanted = endpoint.spec, endpoint.roles[role]
    if role in PAIR and model.spec.tasks == ["embeddings"]:
        raise InvalidInput(f"spec.mode: {model.name} makes embeddings, which have no decode; use replicated")
    options = replace(_options(endpoint, model, settings, role, wanted), traces_url=traces_url)
    started = engine_command(options)
    serving = WorkloadRole(
        name=_WORKLOAD_ROLES[role],
        command=started.command,
        env=started.env,
        ports=[PORT_NAME, KV_PORT_NAME] if _connector(endpoint, model, role, wanted) else [PORT_NAME],
        devices=_devices(options, wanted),
        readiness=Readiness(
            port=PORT_NAME, path=HEALTH_PATH, start_timeout_seconds=settings.start_timeout_seconds
        ),
    )
    return Workload(
        metadata=Metadata(
            name=workload_name(endpoint, index, role),
            project=endpoint.project,
            labels={
                MODEL_LABEL: served_name(endpoint),
                IDENTITY_LABEL: model_identity((model.project, model.name)),
                ENDPOINT_LABEL: endpoint.name,
                **({ROLE_LABEL: role} if role else {}),
            },
            annotations=_annotations(spec.rollout.restarted_ms),
            owner=Owner(kind="Endpoint", name=endpoint.name, uid=endpoint.metadata.uid),
        ),
        spec=WorkloadSpec(
            queue=spec.queue,
            priority=spec.priority,
            kind="inference",
            roles=[serving, *_workers(options, wanted)],
            restart=RestartPolicy(
                policy="Always", max_crashes=MAX_CRASHES, backoff_max_seconds=BACKOFF_MAX_SECONDS
            ),
        ),
    )


def _annotations(restarted_ms: int) -> dict[str, str]:
    return {RESTARTED: str(restarted_ms)} if restarted_ms else {}


def _options(
    endpoint: Endpoint, model: Model, settings: EngineSettings, role: EngineRole, wanted: RoleSpec
) -> EngineOptions:
    spec, engine, devices = endpoint.spec, endpoint.spec.engine, wanted.devices
    embeddings = model.spec.tasks == ["embeddings"]
    args = (*engine.args, *wanted.args)
    return EngineOptions(
        source=launch_source(model.spec.source),
        served_name=served_name(endpoint),
        local=local_path(model.spec.source, Path()) is not None,
        shards=devices.count > 1 or devices.equivalence is not None,
        nodes=wanted.nodes,
        pipeline_stages=engine.pipeline_stages,
        devices=wanted.node_devices,
        cpu_only=devices.vendors == ["cpu"],
        embeddings=embeddings,
        max_context_tokens=engine.max_context_tokens,
        max_adapters=0 if embeddings else engine.max_adapters,
        max_adapter_rank=engine.max_adapter_rank,
        cpu_kv_cache_gib=settings.cpu_kv_cache_gib,
        omp_threads=settings.omp_threads,
        media_domains=tuple(settings.media_domains),
        kv_connector=_connector(endpoint, model, role, wanted),
        kv_host_bytes=spec.kv_cache.host_memory_bytes if spec.kv_cache is not None and not embeddings else 0,
        tool_parser=tools_of(endpoint, model, args).parser,
        reasoning_parser=reasoning_of(endpoint, model, args).parser,
        args=args,
        env=engine.env,
    )


def _devices(options: EngineOptions, wanted: RoleSpec) -> DeviceRequest:
    """What an engine asks the scheduler for: with the memory of the host that its KV caches take."""
    devices = wanted.devices.model_copy(deep=True)
    if options.kv_host_bytes:
        devices.host_memory_bytes += options.kv_host_bytes
    return devices


def _workers(options: EngineOptions, wanted: RoleSpec) -> list[WorkloadRole]:
    """The ranks beyond the one that serves, which is up when they are."""
    if options.nodes == 1:
        return []
    started = engine_command(options, serves=False)
    ports = [KV_PORT_NAME] if options.kv_connector else []
    return [
        WorkloadRole(
            name=WORKER_ROLE,
            replicas=options.nodes - 1,
            command=started.command,
            env=started.env,
            ports=ports,
            devices=wanted.devices.model_copy(deep=True),
        )
    ]


def _connector(endpoint: Endpoint, model: Model, role: EngineRole, wanted: RoleSpec) -> str:
    """By which it hands KV caches over; empty = it does not, as where embeddings are made."""
    if role in PAIR:
        return VENDORS[wanted.devices.vendors[0]].kv_connector or ""
    auto = endpoint.status.auto if endpoint.spec.mode == "auto" else None
    return auto.connector if auto is not None and model.spec.tasks != ["embeddings"] else ""


def replica_of(workload: Workload) -> Replica:
    """The replica as its workload's status shows it (without adapters)."""
    rank = engine_rank(workload)
    ready = workload.status.phase == "Ready" and rank is not None and rank.state == "Ready"
    return Replica(
        workload=workload.name,
        role=engine_role(workload),
        phase=workload.status.phase,
        message=_trouble(workload) if not ready else "",
        never_fits=workload.status.never_fits,
        ready=ready and bool(_url(rank)),
        draining=DRAINING in workload.metadata.annotations,
        url=_url(rank) if ready else "",
        attempt=workload.status.attempt,
        device_class=_device_class(rank),
        model_identity=workload.metadata.labels.get(IDENTITY_LABEL, ""),
    )


def _trouble(workload: Workload) -> str:
    """Why it fits nowhere, or how it ended last, of one that has not answered since."""
    status = workload.status
    if status.never_fits:
        return status.message
    is_known = status.last_failure is not None and (status.crashes or status.phase == "Failed")
    return failure_in_words(status.last_failure) if is_known and status.last_failure else ""


def engine_role(workload: Workload) -> EngineRole:
    """What the engine is for. That of a canary differs by its label only, so that it can become one of the
    Endpoint's own while it runs."""
    if workload.metadata.labels.get(ROLE_LABEL) == "canary":
        return "canary"
    return _ENGINE_ROLES.get(workload.spec.roles[0].name, "")


def engine_rank(workload: Workload) -> RankPlacement | None:
    """The rank that is the engine, once it has a place."""
    return next((rank for rank in workload.status.ranks if rank.role in _ENGINE_ROLES), None)


def _url(rank: RankPlacement | None) -> str:
    if rank is None or not rank.address or PORT_NAME not in rank.ports:
        return ""
    host = f"[{rank.address}]" if ":" in rank.address else rank.address
    return f"http://{host}:{rank.ports[PORT_NAME]}"


def _device_class(rank: RankPlacement | None) -> str:
    if rank is None or not rank.grants:
        return ""
    return f"{rank.grants[0].vendor}/{rank.grants[0].model}"
