"""What nodes of a Ray cluster are called in the pool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NODE_LABEL = "computility.io/node"


def in_cluster(name: str, cluster: str) -> str:
    """A node's name in the pool: after that of its cluster where it has one. An agent keeps the name that it
    was given, which may be of a time when its cluster had none."""
    return name if not cluster or name.startswith(f"{cluster}.") else f"{cluster}.{name}"


def unique_name(row: Mapping[str, Any], taken: set[str]) -> str:
    """A resource name for a Ray node: its label, else its host name; with a part of the Ray id where that
    is taken."""
    wanted = (row.get("Labels") or {}).get(NODE_LABEL) or row["NodeManagerHostname"]
    name = re.sub(r"[^a-z0-9.-]+", "-", wanted.lower()).strip("-.")[:190] or "node"
    return name if name not in taken else f"{name}-{row['NodeID'][:8]}"
