"""All targets, in one table by name."""

from __future__ import annotations

from tests.fuzz import apis, connections, devices, documents, gateway, tuning, usage
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (apis, connections, gateway, usage, devices, tuning, documents)
    for target in module.TARGETS
}
