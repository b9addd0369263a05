"""What mode disaggregated needs: engines for prefill and engines for decode that fit each other."""

from __future__ import annotations

from collections.abc import Mapping

from common.resources.engines import RoleSpec
from common.vendors import VENDORS


def check_pair(roles: Mapping[str, RoleSpec | None]) -> None:
    """Raises ``ValueError`` where one is missing, or cannot hand its KV caches to the other."""
    first = None
    for name, role in roles.items():
        if role is None:
            raise ValueError(f"{name}: mode disaggregated needs it, e.g. {name}: {{replicas: 1}}")
        vendors = list(dict.fromkeys(role.devices.vendors))
        path = f"{name}.devices.vendors"
        if len(vendors) != 1:
            raise ValueError(f"{path}: name one vendor, since KV caches do not fit those of another")
        if VENDORS[vendors[0]].kv_connector is None:
            able = ", ".join(vendor for vendor, row in VENDORS.items() if row.kv_connector)
            raise ValueError(f"{path}: no way is known to hand over KV caches on {vendors[0]}, but on {able}")
        if first not in (None, vendors[0]):
            raise ValueError(f"{path}: must be {first} as of prefill, since KV caches have to fit")
        first = vendors[0]
    _check_sleep({name: role for name, role in roles.items() if role is not None})


def _check_sleep(roles: Mapping[str, RoleSpec]) -> None:
    """A role at zero would see no load, and so never get an engine again, unless the other one does."""
    sleeps = {name for name, role in roles.items() if role.may_sleep}
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        if role in sleeps and other not in sleeps:
            raise ValueError(
                f"{role}.autoscaling.minReplicas: 0 needs {other}.autoscaling.minReplicas: 0, since both "
                "wake together"
            )
