"""The processes, the store, the Ray cluster, engines, and what is kept of ended work."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from common.resources.fields import LongName
from common.settings.address import AddressSettings
from common.settings.listener import ListenerSettings
from common.settings.section import Section

_SERVER = re.compile(r"https?://(?:[A-Za-z0-9._-]{1,253}|\[([0-9a-fA-F:.]+)\])(?::(\d{1,5}))?")


def _is_server(url: str) -> bool:
    found = _SERVER.fullmatch(url)
    if found is None or not 0 < int(found[2] or 80) < 2**16:
        return False
    try:
        return not found[1] or bool(ipaddress.IPv6Address(found[1]))
    except ValueError:
        return False


class ControlSettings(AddressSettings, ListenerSettings):
    """The control process."""

    port: int = Field(8001, ge=1, le=65535)
    urls: list[str] = Field(
        default_factory=list,
        max_length=32,
        description="where gateways and the command line reach the control processes, such as "
        "https://control-1:8001; one that does not answer is followed by the next. Empty = the one at "
        "control.host",
    )
    peer_url: str = Field(
        "", description="where the other control processes reach this one; empty = at control.host"
    )
    peer_name: str = Field(
        "",
        pattern=r"^(?:[A-Za-z0-9._-]{1,253})?$",
        description="name that the certificates of the other control processes are made out for, where their "
        "URLs have addresses; empty = what stands in the URL",
    )
    lease_seconds: float = Field(
        8.0,
        ge=2,
        le=120,
        description="a control process that leads and has shown no sign of life for so long is followed by "
        "another",
    )
    upload_limit_bytes: int = Field(512 * 1024**2, gt=0, description="largest file that /v1/files takes")
    max_watches_per_key: int = Field(16, ge=1, description="streams of changes that one key may have open")
    admin_key: str = Field(
        "",
        pattern=r"^(?:[A-Za-z0-9_-]{32,200})?$",
        repr=False,
        description="whoever leads keeps a platform-admin's key `installation` with this secret in force; "
        "empty = none. For installations that make their secrets themselves",
    )

    @field_validator("urls", "peer_url")
    @classmethod
    def _urls_are_of_servers(cls, value: list[str] | str) -> list[str] | str:
        for url in [value] if isinstance(value, str) else value:
            if (url or isinstance(value, list)) and not _is_server(url):
                raise ValueError(
                    f"{url[:200]!r} is no address of a server; write scheme://host:port, without a path"
                )
        return value


class GatewaySettings(AddressSettings, ListenerSettings):
    """The gateway process."""

    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that serve on the one port, each with its spool and its share of all limits; "
        "one for each core that the gateway may have to itself",
    )
    cors_origins: list[str] = Field(
        ["*"],
        max_length=64,
        description="web pages that may call the gateway from a browser; * = all, as OpenAI and vLLM have "
        "it: a page can do what it was given a key for, and no cookie counts",
    )
    body_limit_bytes: int = Field(16 * 1024**2, gt=0, description="largest request body for inference paths")
    connect_timeout_seconds: float = Field(5.0, gt=0)
    read_timeout_seconds: float = Field(
        600.0, gt=0, description="longest silence of an engine within one request"
    )
    prefix_entries: int = Field(
        256 * 1024,
        ge=0,
        description="pairs of a block of a prompt and a replica that is likely to have it in its cache; some "
        "300 bytes each; 0 = requests go where the least waits, whatever was sent there before",
    )
    prefill_timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="longest wait for a prefill engine to read a prompt; then the decode engine reads it, "
        "and the prefill engine is left alone for a while",
    )
    waking_timeout_seconds: float = Field(
        300.0,
        gt=0,
        description="longest wait of a request for an engine of an Endpoint that gets one when somebody asks",
    )
    waking_requests_per_endpoint: int = Field(512, ge=0, description="that wait for its engine to wake")
    waking_requests_per_tenant: int = Field(256, ge=0, description="that wait for engines to wake")
    waking_body_bytes_per_endpoint: int = Field(
        64 * 1024**2, ge=0, description="of the bodies of requests that wait for its engine to wake"
    )
    waking_body_bytes_per_tenant: int = Field(
        32 * 1024**2, ge=0, description="of the bodies of its requests that wait for engines to wake"
    )
    queued_requests_per_tenant: int = Field(
        1024,
        ge=0,
        description="that wait for a turn at engines which are busy, of each Endpoint; tenants have turns in "
        "fair order. 0 = none waits here: engines serve whoever came first",
    )
    queue_timeout_seconds: float = Field(
        300.0, gt=0, description="longest wait of a request for a turn at engines that are busy"
    )
    shadow_requests: int = Field(
        16, ge=0, description="copies that are under way at a time; others are dropped"
    )
    shadow_body_bytes: int = Field(16 * 1024**2, ge=0, description="of their bodies")
    large_body_bytes: int = Field(
        64 * 1024,
        gt=0,
        description="a longer body is read and parsed beside the others, one at a time for each key",
    )
    body_bytes_per_key: int = Field(
        64 * 1024**2, gt=0, description="of the bodies of one key's open requests"
    )
    max_values_per_request: int = Field(
        1_000_000, gt=0, description="entries of all lists and objects in one body"
    )
    max_sequences_per_request: int = Field(
        128, gt=0, description="answers that one request may ask for: choices times prompts"
    )
    max_inputs_per_request: int = Field(2048, gt=0, description="texts of one embeddings request")
    max_requests_per_key: int = Field(512, gt=0, description="open at once, streams included")
    max_sequences_per_key: int = Field(
        2048, gt=0, description="answers that the open requests of one key may ask for together"
    )
    body_bytes_per_tenant: int = Field(
        256 * 1024**2, gt=0, description="as body_bytes_per_key, for all keys of a tenant together"
    )
    max_requests_per_tenant: int = Field(
        4096, gt=0, description="as max_requests_per_key, for all keys of a tenant together"
    )
    answer_bytes_per_tenant: int = Field(
        512 * 1024**2,
        gt=0,
        description="of answers in one piece that are on their way to the clients of one tenant; of streams, "
        "what it takes to continue them has half of it at most",
    )
    continuations_per_stream: int = Field(
        2,
        ge=0,
        le=16,
        description="how often a stream whose engine breaks is continued on another one, where the request "
        "allows it; 0 = it ends with an error",
    )
    drain_seconds: int = Field(
        30,
        ge=0,
        le=86_400,
        description="longest that a gateway which is told to end goes on with requests that are under way",
    )
    continuation_bytes_per_stream: int = Field(
        4 * 1024**2,
        ge=0,
        description="of what is kept of a request and its stream to continue it; one that needs more ends "
        "with an error when its engine breaks",
    )
    external_private_addresses: bool = Field(
        False,
        description="external models may be at loopback and private addresses, and be asked in clear",
    )
    provider_keys_folder: Path | None = Field(
        None,
        description="where the keys of external models lie, a file for each by its name; unset = "
        "provider-keys in the home",
    )
    routes_max_age_seconds: float = Field(
        86_400.0,
        gt=0,
        description="a gateway that control has not confirmed its routing table for so long serves nobody: "
        "keys may have been revoked since",
    )
    max_sequences_per_tenant: int = Field(
        16_384, gt=0, description="as max_sequences_per_key, for all keys of a tenant together"
    )


class StoreSettings(Section):
    """Where state lives."""

    url: str = Field("", description="SQLAlchemy URL; empty = SQLite in COMPUTILITY_HOME")
    history_bytes: int = Field(
        64 * 1024**2, ge=1024**2, description="of changes kept for those who watch; then the oldest go"
    )


class RaySettings(Section):
    """The Ray cluster that runs gangs."""

    address: str = Field("", description="Ray address to join; empty = `up` starts a local Ray")
    clusters: dict[str, str] = Field(
        default_factory=dict, description="name -> Ray address of further clusters that feed the same pool"
    )
    accelerator_resources: list[str] = Field(
        ["GPU", "NPU", "TPU", "HPU", "MLU", "DCU", "neuron_cores"],
        description="Ray resources that the node agents hold, so that no other Ray job gets the devices",
    )
    node_address: str = Field(
        "", description="where gangs listen; empty = the address that Ray tells; `up` sets it for a local Ray"
    )
    driver_address: str = Field(
        "",
        description="address of the Ray node on this machine through which control joins; empty = any. For "
        "a pod or machine with several",
    )
    object_store_bytes: int = Field(100 * 1024**2, ge=78 * 1024**2, description="of the local Ray")

    @field_validator("clusters")
    @classmethod
    def _names_are_parts_of_node_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, address in value.items():
            if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name):
                raise ValueError(f"the cluster name {name!r} must be 1-40 characters of a-z, 0-9 and '-'")
            if not address:
                raise ValueError(f"the cluster {name} needs the address of its Ray")
        return value


class RetentionSettings(Section):
    """What is kept of work that has ended. Beyond ``bytes`` the longest unused goes first; 0 = no limit."""

    log_days: float = Field(14.0, ge=0, description="logs of processes, on each node")
    log_bytes: int = Field(0, ge=0, description="of all logs of processes in one COMPUTILITY_HOME")
    process_log_bytes: int = Field(
        16 * 1024**2,
        ge=0,
        description="of one process's log, also while it runs; then it begins anew, and what it held is kept "
        "till the next time, so that a log takes about twice as much",
    )
    job_days: float = Field(14.0, ge=0, description="work folders of fine-tuning jobs; adapters are kept")
    job_bytes: int = Field(0, ge=0, description="of all work folders")


SandboxMode = Literal["auto", "require", "off"]


class SandboxSettings(Section):
    """The cells in which trainers run on the nodes: see docs/design/sandbox.md."""

    mode: SandboxMode = Field(
        "auto",
        description="auto = where bubblewrap works on the node; require = trainers start nowhere else; "
        "off = never: trainers are the platform's user and see all that it sees",
    )


class EngineSettings(Section):
    """Defaults for engines that Endpoints start."""

    cpu_kv_cache_gib: int = Field(1, ge=1)
    omp_threads: int = Field(1, ge=1)
    start_timeout_seconds: float = Field(600.0, gt=0)
    drain_timeout_seconds: float = Field(
        300.0,
        ge=0,
        description="an engine that is not wanted any more goes when it has nothing to do, or after this",
    )
    measurements_file: str = Field(
        "",
        description="YAML list of what was measured of this pool's engines, by which `computility plan` "
        "corrects its figures; empty = none",
    )
    media_domains: list[LongName] = Field(
        default_factory=list,
        description="hosts from which engines may fetch the images and sounds that requests name by URL; "
        "empty = none, so that no tenant reaches the platform's own network through an engine",
    )
