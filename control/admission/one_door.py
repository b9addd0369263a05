"""Who may write a Route, and to which models it may lead."""

from __future__ import annotations

from common.errors import InvalidInput
from common.resources import Route
from control.admission.access import Caller
from control.admission.lookup import References
from control.admission.rights import refuse_limited_key, require

_PATH = "spec.candidates"


async def check_route(route: Route, caller: Caller, references: References) -> None:
    """A key for some models only writes none: by a Route it could reach any other. One that all tenants see
    is the platform's to write."""
    refuse_limited_key(caller, _PATH)
    old = await references.stored(route)
    if route.spec.shared or (old is not None and old.spec.shared):
        require(caller, "sharing", "spec.shared", "only a platform-admin shares with all tenants, or ends it")
    for at, one in enumerate(route.spec.candidates):
        if one.model == route.served_name:
            path = f"{_PATH}[{at}].model"
            raise InvalidInput(f"{path}: is the Route itself; name another model", param=path)
