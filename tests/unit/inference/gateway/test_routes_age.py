"""A new gateway takes up the table that an earlier one kept, unless that is too old."""

import os
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from common.clock import VirtualClock
from common.settings import GatewaySettings, Settings
from common.wire import RoutingTable
from inference.gateway.control_link.routes import RouteFollower

HOUR = 3600.0


def follower(home: Path, clock: VirtualClock) -> RouteFollower:
    settings = Settings(home=home, gateway=GatewaySettings(routes_max_age_seconds=24 * HOUR))
    return RouteFollower(settings, cast(aiohttp.ClientSession, cast(Any, None)), clock)


@pytest.mark.parametrize(("hours", "known"), [(0.0, True), (23.9, True), (24.1, False), (-5.0, True)])
def test_the_age_of_a_kept_table_counts_from_when_control_confirmed_it(
    tmp_path: Path, hours: float, known: bool
) -> None:
    clock = VirtualClock()
    gateway = follower(tmp_path, clock)
    assert (gateway.known, gateway.age_seconds) == (False, None)
    gateway.load()
    assert (gateway.known, gateway.age_seconds) == (False, None)
    kept = tmp_path / "spool" / "routes.json"
    kept.write_text(RoutingTable(version="7").model_dump_json())
    at = clock.now_ms() / 1000 - hours * HOUR
    os.utime(kept, (at, at))
    gateway.load()
    assert gateway.known == known
    assert gateway.age_seconds == pytest.approx(max(0.0, hours) * HOUR, abs=1)
