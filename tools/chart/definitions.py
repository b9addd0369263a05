"""Shapes that several values of the chart have, as JSON schemas."""

from __future__ import annotations

from typing import Any

from common.settings import Settings

Schema = dict[str, Any]

OWNED: dict[str, frozenset[str]] = {
    "batches": frozenset(("gateway_url",)),
    "control": frozenset(("admin_key", "host", "peer_name", "peer_url", "port", "urls")),
    "gateway": frozenset(("drain_seconds", "host", "port", "provider_keys_folder")),
    "ray": frozenset(("address", "clusters", "driver_address", "node_address", "object_store_bytes")),
    "store": frozenset(("url",)),
    "operator": frozenset(
        (
            *("health_host", "health_port", "key", "key_file", "lease_name", "lease_namespace"),
            *("namespaces", "webhook_folder", "webhook_host", "webhook_port"),
            *("pools_kind", "pools_namespace", "webhook_unavailable"),
        )
    ),
}
"""Settings that the chart sets itself, by section."""
OWNED_EVERYWHERE = frozenset(("allow_clear_text", "loopback_too", "tls_certificate_file", "tls_key_file"))

_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_RESOURCE = r"^([a-z0-9.-]+/)?[A-Za-z0-9._-]+$"


def _object(properties: Schema, *, required: tuple[str, ...] = (), **more: Any) -> Schema:
    made: Schema = {"type": "object", "additionalProperties": False, "properties": properties, **more}
    return made | ({"required": list(required)} if required else {})


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _count(description: str, least: int, **more: Any) -> Schema:
    return {"type": "integer", "minimum": least, "description": description, **more}


QUANTITY: Schema = {
    "description": "an amount as Kubernetes writes it",
    "anyOf": [{"type": "string", "pattern": _QUANTITY}, {"type": "number", "minimum": 0}],
}
_AMOUNTS: Schema = {
    "type": "object",
    "propertyNames": {"pattern": _RESOURCE},
    "additionalProperties": {"$ref": "#/$defs/quantity"},
}


def _pool() -> Schema:
    """One node pool."""
    image = {
        "registry": _text("registry; `global.imageRegistry` wins"),
        "repository": _text("repository", minLength=1),
        "tag": _text("tag; empty = the chart's appVersion"),
        "digest": _text("digest, in place of the tag"),
        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"], "description": "when it is pulled"},
    }
    accelerator = {
        "resource": _text(
            "resource of the vendor's device plugin, such as nvidia.com/mig-3g.40gb; empty = by vendor",
            pattern=f"({_RESOURCE})|^$",
        ),
        "count": _count("how many of it a pod has", 0),
    }
    rdma = {
        "resource": _text("resource of the RDMA device plugin", pattern=_RESOURCE),
        "count": _count("how many of it a pod has", 1),
        "lockMemory": {
            "type": "boolean",
            "description": "add the capability IPC_LOCK, which the restricted standard forbids",
        },
    }
    return {
        "name": _text("name, part of the pods' names", pattern=_NAME),
        "vendor": {"enum": ["cpu", "nvidia", "ascend", "amd"], "description": "whose accelerators"},
        "accelerator": _object(accelerator, description="what a pod takes of a machine's accelerators"),
        "image": _object(
            image, description="image with the vendor's libraries; what is not given is `image`'s"
        ),
        "replicas": _count("pods; of a pool that follows what waits the operator's matter", 0),
        "minReplicas": _count(
            "fewest pods; with maxReplicas above it, the operator lets the pool follow what waits", 0
        ),
        "maxReplicas": _count("most pods", 0),
        "resources": {"$ref": "#/$defs/resources"},
        "sharedMemory": {"$ref": "#/$defs/quantity"},
        "scratch": {"$ref": "#/$defs/quantity"},
        "shape": _object(
            {
                "model": _text("model of a device, as the catalogue has it", minLength=1),
                "memoryBytes": _count("memory of a device", 0),
                "cpuMillis": _count("of the node's CPUs", 0),
                "hostMemoryBytes": _count("of the node's memory", 0),
            },
            description="what a node of the pool has, for an elastic pool of which none has joined yet",
        ),
        "rdma": _object(rdma, required=("resource",), description="network cards that a pod gets"),
        **_kernel(),
        "updateStrategy": {
            "enum": ["RollingUpdate", "OnDelete"],
            "description": "changed pods and engines start anew one by one, or as each is deleted",
        },
        "labels": {"$ref": "#/$defs/stringMap"},
        "extraEnv": {"$ref": "#/$defs/env"},
        "podAnnotations": {"$ref": "#/$defs/stringMap"},
        "supplementalGroups": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "runtimeClassName": _text("runtime class, such as nvidia"),
        "nodeSelector": {"$ref": "#/$defs/stringMap"},
        "tolerations": {"$ref": "#/$defs/tolerations"},
        "affinity": {"$ref": "#/$defs/free"},
        "priorityClassName": _text("priority class"),
    }


def _kernel() -> Schema:
    """What a pool's Ray container may ask of the kernel."""
    return {
        "seccompProfile": _object(
            {
                "type": {
                    "enum": ["RuntimeDefault", "Localhost", "Unconfined"],
                    "description": "seccomp profile of the Ray container; unset = RuntimeDefault",
                },
                "localhostProfile": _text(
                    "file of the node's, below the kubelet's seccomp folder", minLength=1
                ),
            },
            required=("type",),
            description="what engines and trainers may ask of the kernel",
        ),
        "procMount": {
            "enum": ["Default", "Unmasked"],
            "description": "whether /proc is masked; bubblewrap needs Unmasked, and that hostUsers: false",
        },
        "hostUsers": {
            "type": "boolean",
            "description": "false = others than the node's (Kubernetes 1.33, volumes that take it)",
        },
    }


def definitions() -> Schema:
    """All of ``$defs``."""
    toleration = {
        "key": {"type": "string"},
        "operator": {"enum": ["Equal", "Exists"]},
        "value": {"type": "string"},
        "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        "tolerationSeconds": {"type": "integer"},
    }
    variable = {
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "value": {"type": "string"},
        "valueFrom": {"type": "object"},
    }
    modes = ["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]
    pool = _pool()
    return {
        "stringMap": {"type": "object", "additionalProperties": {"type": "string"}},
        "names": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
        "quantity": QUANTITY,
        "resources": _object({"requests": _AMOUNTS, "limits": _AMOUNTS}),
        "tolerations": {"type": "array", "items": _object(toleration)},
        "env": {"type": "array", "items": _object(variable, required=("name",))},
        "accessModes": {"type": "array", "minItems": 1, "items": {"enum": modes}},
        "free": {"type": "object", "description": "as Kubernetes has it"},
        "peers": {"type": "array", "items": {"type": "object"}, "description": "peers of a NetworkPolicy"},
        "freeList": {"type": "array", "items": {"type": "object"}},
        "nodePool": _object({name: of for name, of in pool.items() if name != "name"}),
        "nodePools": {"type": "array", "items": _object(pool, required=("name",))},
        **_settings(),
    }


def _settings() -> Schema:
    """The product's settings, as far as the chart does not set them itself."""
    schema = Settings.model_json_schema(ref_template="#/$defs/settings.{model}")
    parts = schema["$defs"]
    sections = {}
    for name, field in schema["properties"].items():
        if "$ref" in field:
            sections[name] = field
            owned = OWNED.get(name, frozenset()) | OWNED_EVERYWHERE
            fields = parts[field["$ref"].rpartition(".")[2]]["properties"]
            for unwanted in owned & set(fields):
                del fields[unwanted]
    found = {"settings": _object({name: {"$ref": field["$ref"]} for name, field in sections.items()})}
    return found | {f"settings.{name}": _bare(part) for name, part in sorted(parts.items())}


def _bare(part: Any) -> Any:
    """Without titles, which say nothing, defaults, which are the product's, and patterns that Helm cannot
    read."""
    if isinstance(part, list):
        return [_bare(one) for one in part]
    if not isinstance(part, dict):
        return part
    kept = {key: value for key, value in part.items() if key not in ("title", "default")}
    if "\\u" in str(kept.get("pattern", "")):
        del kept["pattern"]
    named = kept.get("patternProperties", {})
    if any("\\u" in pattern for pattern in named):
        [kept["additionalProperties"]] = named.values()
        del kept["patternProperties"]
    for key, value in kept.items():
        by_name = key == "properties"
        kept[key] = {name: _bare(one) for name, one in value.items()} if by_name else _bare(value)
    return kept
