"""What a node's devices did lately: samples of their load, and which of them is not to be trusted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.resources.pool import Device
from scheduler.ports import DeviceSample

SAMPLE_SECONDS = 5.0
SAMPLES = 720
"""An hour of samples."""
MISSING_SECONDS = 6.0
"""A device that its probe no longer shows is faulty after so long."""
PROBE_DOWN_SECONDS = 30.0
"""The same where the whole probe fails: a vendor's tool may hang for a while."""
FORGET_SECONDS = 3600.0
"""A device that is gone for so long is no longer listed; a fault so long ago is forgiven."""
HOLD_SECONDS = 30.0
HOLD_MOST_SECONDS = 1920.0
"""A device that recovers from a fault is given out again after the first; each further fault doubles it."""


@dataclass
class _Watched:
    device: Device
    seen_seconds: float
    faults: int = 0
    faulty_seconds: float | None = None
    held_until_seconds: float = 0.0
    sampled_seconds: float | None = None
    samples: deque[DeviceSample] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class DeviceHistory:
    """Sees every answer of the probes. Not about CPUs: a node that answers has one."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def observe(
        self, found: Iterable[Device], failed: Mapping[str, str], now_seconds: float, now_ms: int
    ) -> tuple[Device, ...]:
        """The devices to tell of: those found and those that are missing since a short while, unhealthy where
        not to be trusted. ``failed``: vendors whose probe gave a reason instead of devices."""
        present = {device.id: device for device in found if device.healthy or device.vendor not in failed}
        for device in present.values():
            watched = self._watched.setdefault(device.id, _Watched(device, now_seconds))
            watched.device, watched.seen_seconds = device, now_seconds
            _judge(watched, now_seconds)
            _sample(watched, now_seconds, now_ms)
        for watched in self._watched.values():
            if watched.device.id not in present:
                _miss(watched, failed, now_seconds)
        self._watched = {
            key: watched
            for key, watched in self._watched.items()
            if now_seconds - watched.seen_seconds < FORGET_SECONDS
        }
        return tuple(_told(watched, now_seconds) for watched in self._watched.values())

    def series(self) -> dict[str, tuple[DeviceSample, ...]]:
        """Per device id the samples of the last hour, the oldest first."""
        return {key: tuple(watched.samples) for key, watched in self._watched.items()}


def _judge(watched: _Watched, now_seconds: float) -> None:
    if not watched.device.healthy:
        _fault(watched, now_seconds)
    elif watched.faulty_seconds is not None:
        hold = min(HOLD_MOST_SECONDS, HOLD_SECONDS * 2.0 ** (watched.faults - 1))
        watched.faulty_seconds, watched.held_until_seconds = None, now_seconds + hold
    elif now_seconds - watched.held_until_seconds > FORGET_SECONDS:
        watched.faults = 0


def _fault(watched: _Watched, now_seconds: float) -> None:
    if watched.faulty_seconds is None:
        watched.faulty_seconds = now_seconds
        watched.faults += 1


def _miss(watched: _Watched, failed: Mapping[str, str], now_seconds: float) -> None:
    limit_seconds = PROBE_DOWN_SECONDS if watched.device.vendor in failed else MISSING_SECONDS
    if watched.device.vendor != "cpu" and now_seconds - watched.seen_seconds >= limit_seconds:
        _fault(watched, now_seconds)
        reason = failed.get(watched.device.vendor, "no longer shown by its probe")
        watched.device = watched.device.model_copy(update={"healthy": False, "fault": reason})


def _told(watched: _Watched, now_seconds: float) -> Device:
    if not watched.device.healthy or now_seconds >= watched.held_until_seconds:
        return watched.device
    times = "once" if watched.faults == 1 else f"{watched.faults} times"
    fault = f"recovered, but faulty {times} lately: watched for a while before it is given out again"
    return watched.device.model_copy(update={"healthy": False, "fault": fault})


def _sample(watched: _Watched, now_seconds: float, now_ms: int) -> None:
    if watched.sampled_seconds is not None and now_seconds - watched.sampled_seconds < SAMPLE_SECONDS:
        return
    device, watched.sampled_seconds = watched.device, now_seconds
    watched.samples.append(
        DeviceSample(
            time_ms=now_ms,
            healthy=device.healthy,
            utilisation_percent=device.utilisation_percent,
            memory_used_bytes=device.memory_used_bytes,
            temperature_celsius=device.temperature_celsius,
            power_watts=device.power_watts,
        )
    )
