"""Print what this node has, as JSON: ``python -m control.supervisor.probe_devices``.

A process of its own, so that a vendor's library that hangs or crashes harms nobody.
"""

from __future__ import annotations

import json
import sys

from common.errors import ComputilityError
from common.settings import load_settings
from scheduler.adapters.devices.probe import probe_devices
from scheduler.adapters.ray.sandbox import why_not


def main() -> int:
    """Exit code 0 and ``{"devices": […], "faults": {vendor: why}, "no_sandbox": why}``, or 1 and
    ``{"error": …}``. ``why`` is empty where the node can put trainers into cells."""
    try:
        settings = load_settings().scheduler
        found = probe_devices("this-machine", settings.cpu_device, settings.device_file)
    except ComputilityError as error:
        json.dump({"error": error.message}, sys.stdout)
        return 1
    content = {
        "devices": [d.to_dict() for d in found.devices],
        "faults": dict(found.faults),
        "no_sandbox": why_not(),
    }
    json.dump(content, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
