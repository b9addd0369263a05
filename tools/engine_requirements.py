"""Print what an installed engine distribution requires, one requirement a line, less the names given.

Usage: engine_requirements.py DISTRIBUTION [NAME ...]

The CPU engine declares torch packages that it does not need for text models; leaving them out here keeps the
rest of its requirements exactly as its metadata says.
"""

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def engine_requirements(distribution: str, left_out: set[str]) -> list[str]:
    """What `distribution` requires on this machine, without the canonical names in `left_out`."""
    found = [Requirement(line) for line in requires(distribution) or []]
    kept = [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]
    for requirement in kept:
        requirement.marker = None
    return [str(r) for r in kept if canonicalize_name(r.name) not in left_out]


if __name__ == "__main__":
    print("\n".join(engine_requirements(sys.argv[1], {canonicalize_name(name) for name in sys.argv[2:]})))
