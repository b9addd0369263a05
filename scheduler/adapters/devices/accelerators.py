"""The vendors' probes, run so that one that hangs or fails takes nothing from the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from common.clock import SYSTEM_CLOCK
from common.errors import SetupError
from common.resources.pool import Device
from common.vendors import Vendor

Probe = Callable[[str], list[Device]]
"""The node's name → the devices of one vendor, or ``SetupError`` that says why there are none to see."""

TIMEOUT_SECONDS = 15.0
"""For all probes of one reading together: they run side by side."""

_UNKNOWN = "unknown"
_MIG = "MIG-"


@dataclass(frozen=True)
class Found:
    """The node's devices, and for each vendor that shows none the reason."""

    devices: tuple[Device, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)


class Accelerators:
    """The accelerators of this node, as far as its drivers tell.

    What was seen once and is not told now stays, as unhealthy: a device does not go because its driver does.
    """

    def __init__(self, probes: Mapping[Vendor, Probe], timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._probes = probes
        self._timeout_seconds = timeout_seconds
        self._asked: dict[Vendor, _Question] = {}
        self._known: dict[Vendor, dict[str, Device]] = {}

    def read(self, node: str) -> Found:
        """Ask all probes at once; one that is not done in time is not asked again before it is."""
        deadline = SYSTEM_CLOCK.monotonic_seconds() + self._timeout_seconds
        for vendor, probe in self._probes.items():
            if vendor not in self._asked:
                self._asked[vendor] = _Question(probe, node)
        devices: list[Device] = []
        faults: dict[str, str] = {}
        for vendor in self._probes:
            try:
                seen = self._answer(vendor, max(0.0, deadline - SYSTEM_CLOCK.monotonic_seconds()))
            except SetupError as error:
                faults[vendor] = error.message
                seen = [_lost(device, error.message) for device in self._known.get(vendor, {}).values()]
            else:
                seen = self._remember(vendor, seen)
            devices += seen
        return Found(tuple(devices), faults)

    def _answer(self, vendor: Vendor, timeout_seconds: float) -> list[Device]:
        question = self._asked[vendor]
        if not question.done(timeout_seconds):
            raise SetupError(f"the {vendor} driver does not answer")
        del self._asked[vendor]
        return question.answer()

    def _remember(self, vendor: Vendor, seen: Sequence[Device]) -> list[Device]:
        """What is seen, with the identity of those that no longer tell it, and those that are gone."""
        known = self._known.get(vendor, {})
        named = {device.id for device in seen}
        by_index = {device.index: device for device in known.values() if device.id not in named}
        told = [
            _lost(by_index[device.index], device.fault)
            if device.model == _UNKNOWN and device.index in by_index
            else device
            for device in seen
        ]
        gone = [device for device in known.values() if _is_gone(device, told, known)]
        told += [_lost(device, "the driver does not show it any more") for device in gone]
        self._known[vendor] = {device.id: device for device in told if device.model != _UNKNOWN}
        return told


class _Question:
    """One probe that runs in its own thread, which nothing waits for at exit."""

    def __init__(self, probe: Probe, node: str) -> None:
        self._devices: list[Device] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(probe, node), daemon=True)
        self._thread.start()

    def _run(self, probe: Probe, node: str) -> None:
        try:
            self._devices = probe(node)
        except Exception as error:  # noqa: BLE001 - raised again by who asked
            self._error = error

    def done(self, timeout_seconds: float) -> bool:
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def answer(self) -> list[Device]:
        if self._error is not None:
            raise self._error
        return self._devices


def _lost(device: Device, fault: str) -> Device:
    """The device as it was known, unfit for work."""
    readings = ("memory_used_bytes", "utilisation_percent", "temperature_celsius", "power_watts")
    return device.model_copy(update={"healthy": False, "fault": fault, **dict.fromkeys(readings)})


def _is_gone(device: Device, told: Sequence[Device], known: Mapping[str, Device]) -> bool:
    """Not told any more, and nothing new stands in its place: a GPU that is cut anew has other instances."""
    if device.id.startswith(_MIG) or any(device.id == other.id for other in told):
        return False
    fresh = [other for other in told if other.id not in known]
    return not any(o.index == device.index or (o.bus_id and o.bus_id == device.bus_id) for o in fresh)
