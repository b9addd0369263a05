"""Versions of the vendors' kernel drivers, from the files in which they tell them."""

from __future__ import annotations

import re
from pathlib import Path

from common.vendors import VENDORS


def driver_versions(root: Path = Path("/")) -> dict[str, str]:
    """Vendor -> version, of those whose driver is there."""
    found: dict[str, str] = {}
    for vendor, row in VENDORS.items():
        if row.driver_version is None:
            continue
        path, pattern = row.driver_version
        try:
            match = re.search(pattern, (root / path).read_text(errors="replace"))
        except OSError:
            continue
        if match:
            found[vendor] = match[1]
    return found
