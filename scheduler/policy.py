"""The policy of this installation, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from common.errors import InvalidInput
from common.settings import PolicySettings
from scheduler.core.model.types import WHOLE_MILLIS, Policy
from scheduler.core.tide.tidal import Calendar, Window, parse_window, tides
from scheduler.serving_need import Need

DATA, NEAR = "data", "near"
"""Weights that ``Policy`` keeps apart from those of scorers."""


class PolicyMaker:
    """Reads the settings once: ``calendar``, and the ``classes`` of devices that it has windows for. Raises
    ``InvalidInput`` for an unknown weight or a window that is none."""

    def __init__(self, settings: PolicySettings, needs: Mapping[str, Need] | None = None) -> None:
        """``needs``: what inference needs by class, kept up to date by ``ServingNeed``; None = the calendar
        only."""
        defaults = Policy()
        given = dict(settings.weights)
        known = dict(defaults.weights)
        for name in given:
            if name not in (*known, DATA, NEAR):
                names = ", ".join((*known, DATA, NEAR))
                raise InvalidInput(
                    f"scheduler.policy.weights: {name} is unknown; known: {names}",
                    param="scheduler.policy.weights",
                )
        self._policy = replace(
            defaults,
            weights=tuple((name, given.get(name, weight)) for name, weight in known.items()),
            data_weight=given.get(DATA, defaults.data_weight),
            near_weight=given.get(NEAR, defaults.near_weight),
            min_run_seconds=settings.min_run_seconds,
            reserve=settings.reserve,
            preempt=settings.preempt,
            defragment=settings.defragment,
            max_moves=settings.max_moves,
            max_delay_seconds=settings.max_delay_seconds,
            topology=tuple(settings.topology),
        )
        windows: list[Window] = [
            parse_window(tide.window, tide.device_class, round(tide.inference_devices * WHOLE_MILLIS))
            for tide in settings.tides
        ]
        self.needs: Mapping[str, Need] = {} if needs is None else needs
        self.classes = {window.device_class for window in windows}
        self.calendar = Calendar(tuple(windows), settings.utc_offset_minutes)

    def at(self, now_ms: int) -> Policy:
        """The policy at this time: the same but for the tides. A class of which inference needs nothing has
        no tide."""
        services = [(need.rule, need.replicas) for need in self.needs.values()]
        found = tuple(tide for tide in tides(self.calendar, services, now_ms) if tide.inference_millis)
        return replace(self._policy, tides=found) if found else self._policy
