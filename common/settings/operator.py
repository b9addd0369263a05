"""The Kubernetes operator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.resources.fields import Name
from common.settings.section import Section


class OperatorSettings(Section):
    """The mirror between a Kubernetes cluster and control."""

    key: str = Field("", description="of a platform-admin, for control")
    key_file: str = Field("", description="file with that key, read anew as it changes; wins over key")
    namespaces: list[Name] = Field(
        default_factory=list, max_length=1000, description="that are mirrored; empty = all"
    )
    health_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics")
    health_port: int = Field(8081, ge=1, le=65535)
    webhook_host: str = "127.0.0.1"
    webhook_port: int = Field(9443, ge=1, le=65535)
    webhook_folder: str = Field("", description="folder with tls.crt and tls.key; empty = no webhook")
    webhook_client_ca_file: str = Field(
        "",
        description="PEM; who asks the webhook needs a certificate of it, as the API server has from its "
        "admission configuration; empty = whoever reaches the port may ask",
    )
    webhook_seconds: float = Field(5.0, gt=0, le=25, description="longest wait for control's opinion")
    webhook_unavailable: Literal["refuse", "warn"] = Field(
        "warn", description="what the webhook does when control has none; warn = let pass with a warning"
    )
    lease_namespace: str = Field(
        "", description="where the Lease lies by which one operator leads; empty = there is only one"
    )
    lease_name: str = "computility-operator"
    lease_seconds: float = Field(15.0, ge=2, le=120)
    resync_seconds: float = Field(300.0, ge=1, description="between looks at everything")
    workers: int = Field(32, ge=1, le=64, description="documents that are mirrored at a time")
    events_per_minute: int = Field(120, ge=0, le=10_000, description="that are told as Kubernetes Events")
    pools_namespace: str = Field(
        "", description="where pools of Ray nodes follow demand, by their labels; empty = nowhere"
    )
    pools_kind: Literal["StatefulSet", "RayCluster"] = Field(
        "StatefulSet",
        description="what pools are there: StatefulSets with the label computility.io/pool, or groups of "
        "RayClusters with the label computility.io/pools",
    )
    pools_look_seconds: float = Field(10.0, ge=0.2, description="between looks at pools")
    pools_cool_seconds: float = Field(
        600.0, ge=0, description="a node that is idle for so long is drained, then taken away"
    )
