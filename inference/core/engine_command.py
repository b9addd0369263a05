"""How an engine is started: an endpoint's wishes as a command line and environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

PORT_NAME = "http"
KV_PORT_NAME = "kv"
"""Where engines ask each other how to reach their KV caches."""
HEALTH_PATH = "/health"
DEVICES = "$(DEVICES)"
"""Replaced on the node: how many devices the engine was given there."""
ENGINE_KEY = "$(ENGINE_KEY)"
"""Replaced on the node: who does not have it is served ``/health`` only."""
NOT_LOGGED = (HEALTH_PATH, "/metrics", "/v1/models")
"""What nodes, gateways and control ask engines again and again: else of an idle engine's log five lines in
six."""
NO_MEDIA_DOMAIN = "none.invalid"
"""No host of that name can be (RFC 2606). vLLM takes an empty list for: fetch from anywhere."""
KV_POLL_VARIABLE = "COMPUTILITY_KV_POLL_MICROSECONDS"
"""Read by ``engine_plugin``: the pause between two looks at transfers of KV caches."""
KV_POLL_MICROSECONDS = 1000
"""Of engines on CPUs, which need their cores for the model."""
JSON_SPACES_VARIABLE = "COMPUTILITY_JSON_SPACES"
"""Read by ``engine_plugin``: so many spaces, tabs and line ends may follow each other between the words of
JSON that a schema or a tool asks for."""
JSON_SPACES = 1
"""Models are trained on `{"a": 1, "b": 2}`; more than that some make without end."""
TRACED_AS = "computility-engine"
"""The service that spans of engines are of."""
_MODULE = "vllm.entrypoints.openai.api_server"
_RANK_MODULE = "inference.engine_rank"
"""The same, for engines on several nodes: rank 0 serves, the others work for it."""
_GUARD = "inference.engine_guard.EngineGuard"
_MODEL_WHERE_SCHEDULED = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""An engine of one device on CPUs runs its model in the process that schedules, as on accelerators anyway.
Else one of its own runs it there, to bind threads to cores, which we do not let it do; and the one that
schedules looks for its answers without a pause, which takes a core from the model."""


@dataclass(frozen=True)
class EngineOptions:
    """What decides how an engine is started.

    ``local``: ``source`` is a path, so no hub is asked. ``shards``: each of its nodes may give it several
    devices. ``nodes``: so many ranks make up the engine. ``pipeline_stages``: the layers are divided into so
    many parts, and what is in each is shared by as many devices as there are for it; None = a part on each
    node, one on CPUs. ``devices``: that each node gives.
    ``max_adapters`` 0: the engine takes no adapters. ``media_domains``: hosts from which it may fetch images
    and sounds that requests name; none, unless given. ``kv_connector``: KV caches are handed over by it;
    what does not arrive is computed again. ``kv_host_bytes``: of host memory, for KV caches that the devices
    have no room for. ``tool_parser``, ``reasoning_parser``: by which calls of tools, and thoughts, are read
    out of answers; empty = they are not. ``traces_url``: where it sends spans of requests that are traced, by
    OTLP over HTTP.
    """

    source: str
    served_name: str
    local: bool = False
    shards: bool = False
    nodes: int = 1
    pipeline_stages: int | None = None
    devices: int = 1
    cpu_only: bool = False
    embeddings: bool = False
    max_context_tokens: int | None = None
    max_adapters: int = 0
    max_adapter_rank: int = 16
    cpu_kv_cache_gib: int = 1
    omp_threads: int = 1
    media_domains: tuple[str, ...] = ()
    kv_connector: str = ""
    kv_host_bytes: int = 0
    tool_parser: str = ""
    reasoning_parser: str = ""
    traces_url: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineCommand:
    """A command and environment with the placeholders that the launcher replaces."""

    command: list[str]
    env: dict[str, str]


def engine_command(options: EngineOptions, *, serves: bool = True) -> EngineCommand:
    """The command of one engine, or, where it is not the rank that ``serves``, of another rank of it. The
    endpoint's own ``args`` and ``env`` come last, so they win; only the key stays, because gateway and
    control know no other."""
    command = ["$(PYTHON)", "-m", _RANK_MODULE if options.nodes > 1 else _MODULE]
    if serves:
        command += ["--host", "$(ADDRESS)", "--port", f"$(PORT:{PORT_NAME})"]
    command += ["--model", options.source, "--served-model-name", options.served_name]
    # The second flag opens the route on which the gateway ends requests with an exact token count.
    command += ["--enable-prompt-tokens-details", "--enable-scale-out", "--middleware", _GUARD]
    command += ["--disable-access-log-for-endpoints", ",".join(NOT_LOGGED)]
    command += ["--allowed-media-domains", *(options.media_domains or (NO_MEDIA_DOMAIN,))]
    if options.max_context_tokens is not None:
        command += ["--max-model-len", str(options.max_context_tokens)]
    command += _parallelism(options)
    if options.embeddings:
        command += ["--runner", "pooling"]
    if options.max_adapters:
        command += ["--enable-lora", "--max-loras", str(options.max_adapters)]
        command += ["--max-lora-rank", str(options.max_adapter_rank)]
    command += _parsers(options)
    command += _kv_transfer(options)
    if options.traces_url:
        command += ["--otlp-traces-endpoint", options.traces_url]
    return EngineCommand([*command, *options.args], _environment(options))


def _parsers(options: EngineOptions) -> list[str]:
    """Tools of a request may be called unless it says otherwise, and what they are called with holds to their
    schemas, as if each were `strict`."""
    flags = []
    if options.tool_parser:
        flags += ["--enable-auto-tool-choice", "--tool-call-parser", options.tool_parser]
        flags += ["--tool-strict-level", "parameter"]
    if options.reasoning_parser:
        flags += ["--reasoning-parser", options.reasoning_parser]
    return flags


def _kv_transfer(options: EngineOptions) -> list[str]:
    """Where KV caches go: to other engines, to host memory, or both. Embeddings have none worth keeping."""
    connectors: list[dict[str, object]] = []
    if options.kv_connector:
        connectors.append({"kv_connector": options.kv_connector, "kv_role": "kv_both"})
    if options.kv_host_bytes:
        size = {"cpu_bytes_to_use": options.kv_host_bytes}
        connectors.append(
            {"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "kv_connector_extra_config": size}
        )
    if not connectors:
        return []
    transfer = connectors[0]
    if len(connectors) > 1:  # what the first one of them can fetch is fetched by it
        several = {"connectors": connectors}
        transfer = {
            "kv_connector": "MultiConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": several,
        }
    transfer = {**transfer, "kv_load_failure_policy": "recompute"}
    return ["--kv-transfer-config", json.dumps(transfer, separators=(",", ":"))]


def _parallelism(options: EngineOptions) -> list[str]:
    """How the model is divided: its layers among nodes, and each of these among the devices of a node, which
    speak to each other faster; or as the endpoint says. On CPUs each layer is divided among all: with stages
    vLLM's build for them breaks at the first chat (0.32)."""
    stages = options.pipeline_stages or (1 if options.cpu_only else options.nodes)
    flags = ["--pipeline-parallel-size", str(stages)] if stages > 1 else []
    if stages != options.nodes:
        return [*flags, "--tensor-parallel-size", str(options.nodes * options.devices // stages)]
    return [*flags, "--tensor-parallel-size", DEVICES] if options.shards and not options.cpu_only else flags


def _environment(options: EngineOptions) -> dict[str, str]:
    env = {
        **_MODEL_WHERE_SCHEDULED,
        "VLLM_CPU_KVCACHE_SPACE": str(options.cpu_kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(options.omp_threads),
        "VLLM_HOST_IP": "$(ADDRESS)",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_NO_USAGE_STATS": "1",
        JSON_SPACES_VARIABLE: str(JSON_SPACES),
        "DO_NOT_TRACK": "1",
    }
    if options.local:
        env["HF_HUB_OFFLINE"] = "1"
    if options.max_adapters:
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if options.kv_connector:
        env["VLLM_NIXL_SIDE_CHANNEL_HOST"] = "$(ADDRESS)"
        env["VLLM_NIXL_SIDE_CHANNEL_PORT"] = f"$(PORT:{KV_PORT_NAME})"
    if options.kv_connector and options.cpu_only:
        env[KV_POLL_VARIABLE] = str(KV_POLL_MICROSECONDS)
    if options.traces_url:
        env |= {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": TRACED_AS}
    return {**env, **options.env, "VLLM_API_KEY": ENGINE_KEY}
