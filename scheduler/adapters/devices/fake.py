"""Devices told by a file instead of a probe: to try placement for hardware that is not there.

The file maps node names (``*`` = any other node) to lists of devices in the shape of
``resources.pool.Device``::

    node-a:
      - {id: npu-0, index: 0, vendor: ascend, model: 910B3, memoryBytes: 68719476736}
      - {id: npu-1, index: 1, vendor: ascend, model: 910B3, memoryBytes: 68719476736,
         healthy: false, fault: HBM error}

It is read at every probe, so that editing it breaks, mends, adds and removes devices while all runs.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from common.errors import InvalidInput
from common.resources.meta import parse_model
from common.resources.pool import Device


def probe_file(path: Path, node: str) -> list[Device]:
    """The devices that the file gives to ``node``. Raises ``InvalidInput`` naming what is wrong in the
    file."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InvalidInput(f"device file {path}: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"device file {path}: must map node names to lists of devices")
    entries = content.get(node, content.get("*", []))
    if not isinstance(entries, list):
        raise InvalidInput(f"device file {path}: {node} must be a list of devices")
    devices = [parse_model(Device, entry, f"{path.name}:{node}[{i}]") for i, entry in enumerate(entries)]
    seen: set[str] = set()
    for i, device in enumerate(devices):
        if device.id in seen:
            raise InvalidInput(f"device file {path}: {node}[{i}]: the id {device.id} is there twice")
        seen.add(device.id)
    return devices
