"""What `doctor` says of the control process that runs here: whether its loops get their work done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import ComputilityError, Unavailable
from common.settings import Settings
from control.cli.asking.session import Session
from control.cli.doctor_checks.checks import Check

ANSWER_SECONDS = 5.0
NAME = "loops"
ADVICE = "the log of control has the whole error; what it cannot handle says so in its condition Handled"

ADVICE_STORE = "the log of control says why; with PostgreSQL look whether the database answers"


def check_loops(settings: Settings) -> Check:
    """Asked where `up` said that control listens, which may be elsewhere than settings say."""
    session = Session(settings)
    url = session.credentials.control_url
    try:
        with session.keyless(ANSWER_SECONDS) as client:
            return judge_loops(client.ready())
    except Unavailable:
        return Check(NAME, "ok", f"control is not asked: it does not answer at {url}")
    except ComputilityError as error:
        return Check(NAME, "warn", f"{url}: {error.message}", "does control listen there?")


def judge_loops(readiness: Mapping[str, Any]) -> Check:
    """The finding for what ``/readyz`` says."""
    if readiness.get("store") != "ok":
        return Check(NAME, "fail", f"store: {readiness.get('store')}", ADVICE_STORE)
    loops = readiness.get("loops") or []
    if readiness.get("role") == "follower":
        return _follower(str(readiness.get("leader") or ""))
    troubled = [f"{loop['name']}: {loop['trouble']}" for loop in loops if loop.get("trouble")]
    if troubled:
        return Check(NAME, "fail", "; ".join(troubled), ADVICE)
    names = ", ".join(str(loop["name"]) for loop in loops)
    return Check(NAME, "ok", f"all passes end well: {names}" if names else "control runs none")


def _follower(leader: str) -> Check:
    """Of a control process that does not lead."""
    if not leader:
        advice = "another takes over within some seconds; else look whether a control process runs at all"
        return Check(NAME, "fail", "no control process leads now", advice)
    return Check(NAME, "ok", f"this control process follows; the one at {leader} leads")
