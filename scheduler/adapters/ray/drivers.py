"""Versions of the vendors' kernel drivers, from the files in which they tell them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

SOURCES: Mapping[str, tuple[str, str]] = {
    "nvidia": ("proc/driver/nvidia/version", r"Kernel Module(?:\s+for\s+\S+)?\s+(\d[\w.]*)"),
    "amd": ("sys/module/amdgpu/version", r"(\d[\w.]*)"),
    "ascend": ("usr/local/Ascend/driver/version.info", r"(?m)^Version=(\S+)"),
}
"""Vendor -> file below the root, and the pattern of the version in it."""


def driver_versions(root: Path = Path("/")) -> dict[str, str]:
    """Vendor -> version, of those whose driver is there."""
    found = {}
    for vendor, (path, pattern) in SOURCES.items():
        try:
            match = re.search(pattern, (root / path).read_text(errors="replace"))
        except OSError:
            continue
        if match:
            found[vendor] = match[1]
    return found
