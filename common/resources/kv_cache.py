"""Where engines keep the KV caches of prompts that their devices have no room for any more."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from common.resources.engines import RoleSpec
from common.resources.meta import Model as Part
from common.resources.scaling import EngineRole
from common.vendors import VENDORS
from common.vocabulary import MAX_NUMBER

LEAST_BYTES = 2**26


class KvCacheSpec(Part):
    """Tiers behind the memory of an engine's devices."""

    host_memory_bytes: int = Field(
        ge=LEAST_BYTES,
        le=MAX_NUMBER,
        description="of the host's memory, for each engine; added to devices.hostMemoryBytes",
    )


def check_kv_cache(cache: KvCacheSpec, roles: Mapping[EngineRole, RoleSpec]) -> None:
    """Raises ``ValueError`` where an engine could be on devices, or so many nodes, that have no such tier, or
    would ask for more memory than can be said."""
    able = [name for name, row in VENDORS.items() if row.kv_host_memory]
    for name, role in roles.items():
        path = f"{name}." if name in ("prefill", "decode") else ""
        vendors = list(dict.fromkeys(role.devices.vendors))
        if not vendors:
            raise ValueError(f"{path}devices.vendors: name them with kvCache, of {', '.join(able)}")
        unable = [vendor for vendor in vendors if vendor not in able]
        if unable:
            raise ValueError(
                f"kvCache.hostMemoryBytes: engines on {', '.join(unable)} keep no KV caches in host memory, "
                f"those on {', '.join(able)} do ({path}devices.vendors)"
            )
        if role.nodes > 1:
            raise ValueError(f"kvCache: is for engines on one node, not {role.nodes} ({path}nodes)")
        if role.devices.host_memory_bytes + cache.host_memory_bytes > MAX_NUMBER:
            raise ValueError(
                f"kvCache.hostMemoryBytes: with {path}devices.hostMemoryBytes at most {MAX_NUMBER}"
            )
