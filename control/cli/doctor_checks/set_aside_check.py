"""What `doctor` says of stored resources that control does not take any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import ComputilityError, Forbidden, Unauthenticated, Unavailable
from common.settings import Settings
from control.cli.asking.session import Session
from control.cli.doctor_checks.checks import Check

NAME = "stored"
MOST_NAMED = 5
ADVICE = (
    "apply them anew as they have to be by now, or remove each for good: "
    "DELETE /api/v1/set-aside/{kind}/{name}?project={project} with the admin key"
)


def check_set_aside(settings: Settings) -> Check:
    """Asked of the control process that runs here, with the admin key that `up` kept."""
    try:
        with Session(settings).client() as client:
            return judge_set_aside(client.set_aside())
    except (Unauthenticated, Forbidden):
        return Check(NAME, "ok", "not asked: it takes a platform-admin's key (--key)")
    except Unavailable:
        return Check(NAME, "ok", "not asked: control does not answer")
    except ComputilityError as error:
        return Check(NAME, "warn", error.message, "does control listen there?")


def judge_set_aside(found: Sequence[Mapping[str, Any]]) -> Check:
    """The finding for what control has set aside."""
    if not found:
        return Check(NAME, "ok", "every stored resource is taken as it is")
    named = "; ".join(_named(one) for one in found[:MOST_NAMED])
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return Check(NAME, "warn", f"of an older version, and not taken any more: {named}{more}", ADVICE)


def _named(one: Mapping[str, Any]) -> str:
    where = f" of project {one['project']}" if one.get("project") else ""
    return f"{one.get('kind')} {one.get('name')}{where} ({one.get('reason')})"
