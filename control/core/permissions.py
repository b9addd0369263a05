"""Who may do what: one table, deny by default.

Two questions are asked of every request. *May this role do such a thing at all?* is answered by ``TABLE``; a
no is ``Forbidden``. *Does this thing exist for this principal?* is answered by ``visible``; a no is
``NotFound``, so nobody learns what other tenants have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["platform-admin", "tenant-admin", "member", "agent"]
Verb = Literal["read", "write", "delete"]

ROLES: tuple[Role, ...] = ("platform-admin", "tenant-admin", "member", "agent")
_VERBS: Mapping[str, Verb] = {"r": "read", "w": "write", "d": "delete"}


def _row(*letters: str) -> Mapping[Role, frozenset[Verb]]:
    """One cell per role, in the order of ``ROLES``; r, w and d stand for read, write and delete."""
    cells = zip(ROLES, letters, strict=True)
    return {role: frozenset(_VERBS[letter] for letter in cell) for role, cell in cells}


# fmt: off
TABLE: Mapping[str, Mapping[Role, frozenset[Verb]]] = {
    #                 platform-admin  tenant-admin  member  agent
    "Tenant":    _row("rwd",          "r",          "r",    ""),
    "Project":   _row("rwd",          "rwd",        "r",    ""),
    "ApiKey":    _row("r",            "r",          "",     ""),
    "Node":      _row("rwd",          "",           "",     ""),
    "Queue":     _row("rwd",          "r",          "r",    ""),
    "Workload":  _row("rwd",          "r",          "r",    ""),
    "Model":     _row("rwd",          "rwd",        "rwd",  "r"),
    "Adapter":   _row("rwd",          "rd",         "rd",   ""),
    "Endpoint":  _row("rwd",          "rwd",        "rwd",  ""),
    "ExternalModel": _row("rwd",      "r",          "r",    ""),
    "Route":     _row("rwd",          "rwd",        "rwd",  ""),
    "Job":       _row("rwd",          "rwd",        "rwd",  ""),
    "FineTune":  _row("rd",           "rd",         "rd",   ""),
    "File":      _row("r",            "r",          "r",    ""),
    "Batch":     _row("rd",           "rd",         "rd",   ""),
    "Price":     _row("rwd",          "r",          "r",    ""),
    "Budget":    _row("rwd",          "rwd",        "r",    ""),
    "Guardrail": _row("rwd",          "rwd",        "r",    ""),
    # Things that are no kinds:
    "keys":      _row("rwd",          "rwd",        "",     ""),
    "usage":     _row("r",            "r",          "r",    ""),
    "pauses":    _row("rw",           "rw",           "r",    ""),
    "invoices":  _row("rw",           "r",          "",     ""),
    "products":  _row("rwd",          "r",          "r",    ""),
    "orders":    _row("rwd",          "rwd",        "r",    ""),
    "vouchers":  _row("rwd",          "",           "",     ""),
    "outcomes":  _row("rwd",          "rwd",        "rwd",  ""),
    "events":    _row("r",            "r",          "r",    ""),
    "watch":     _row("r",            "r",          "r",    ""),
    "audit":     _row("r",            "",           "",     ""),
    "sharing":   _row("w",            "",           "",     ""),
    "flags":     _row("w",            "",           "",     ""),
    "paths":     _row("w",            "",           "",     ""),
    "limits":    _row("w",            "",           "",     ""),
    "files":     _row("rwd",          "rwd",        "rwd",  ""),
    "jobs":      _row("rwd",          "rwd",        "rwd",  ""),
    "batches":   _row("rw",           "rw",         "rw",   ""),
}
"""Thing -> role -> verbs. ``sharing`` is to show a Model or Endpoint to all tenants, and to change what is
shared; ``flags`` are arguments and environment of engines, and what stands behind those that have some;
``paths`` are sources of Models anywhere on the nodes; ``limits`` are queues and limits of projects, and to go
beyond them; ``files``, ``jobs`` and ``batches`` are the OpenAI-shaped ``/v1/files``,
``/v1/fine_tuning/jobs`` and ``/v1/batches``.

Who writes a Workload, or an engine's flags, runs what they like as the platform's user on its nodes. A Job
runs what its project likes in a cell."""

MADE_ELSEWHERE: Mapping[str, str] = {
    "ApiKey": "`computility keys create NAME` makes a key and `computility keys revoke NAME` ends it (POST "
    "/api/v1/keys, DELETE /api/v1/keys/{name})",
    "File": "`computility files upload PATH` makes a file and `computility files delete ID` deletes it "
    "(POST /v1/files, DELETE /v1/files/{id})",
    "FineTune": "`computility finetunes create -m MODEL -f FILE` makes a job (POST /v1/fine_tuning/jobs)",
    "Batch": "`computility batches create FILE` makes a batch (POST /v1/batches)",
    "Workload": "an Endpoint or a fine-tune job makes its own, and a Job (`computility run -- COMMAND`) runs "
    "a command of yours; only a platform-admin writes other Workloads, which run as the platform's own user",
    "Adapter": "a fine-tune job (`computility finetunes create -m MODEL -f FILE`) registers its adapter; "
    "only a platform-admin registers others",
}
"""What to do instead of writing a kind that only controllers, or the platform, write."""

CALLED: Mapping[str, str] = {
    "keys": "keys",
    "usage": "usage",
    "events": "events",
    "watch": "changes as they happen",
    "audit": "the audit log",
    "invoices": "invoices",
    "pauses": "pauses",
    "products": "products",
    "orders": "orders",
    "vouchers": "vouchers",
    "outcomes": "outcomes",
    "sharing": "what all tenants share",
    "flags": "arguments and environment of engines",
    "paths": "models anywhere on the nodes",
    "limits": "queues and limits of projects",
    "files": "files",
    "jobs": "fine-tune jobs",
    "batches": "batches",
}
"""Things that are no kinds, as people call them."""

PAGE = "docs/roles.md"
"""Where the table stands for people."""

GRANTABLE: Mapping[Role, frozenset[Role]] = {
    "platform-admin": frozenset(ROLES),
    "tenant-admin": frozenset(("tenant-admin", "member", "agent")),
    "member": frozenset(),
    "agent": frozenset(),
}
"""Role -> the roles that it may give to new keys."""


def allows(role: str, thing: str, verb: Verb) -> bool:
    """Whether the role may do this to some such thing. Unknown roles and things are denied."""
    cells: Mapping[str, frozenset[Verb]] = {str(name): verbs for name, verbs in TABLE.get(thing, {}).items()}
    return verb in cells.get(role, frozenset())


def refusal(role: str, key: str, verb: Verb, thing: str) -> str:
    """Why a key may not do this, which role would do, and who gives it."""
    may = [one for one in reversed(ROLES) if allows(one, thing, verb)]
    elsewhere = MADE_ELSEWHERE.get(thing)
    if elsewhere and (verb == "write" or not may):
        done = "made" if verb == "write" else "deleted"
        return f"{called(thing)} are not {done} here: {elsewhere}"
    said = f"the role {role} of the key {key} may not {verb} {called(thing)}"
    if not may:
        return f"{said}, nor may any other; {PAGE} has what each role may do"
    givers = " or ".join(f"a {one}" for one in reversed(ROLES) if may_grant(one, may[0]))
    makes = f"{givers[0].upper()}{givers[1:]} makes such a key"
    command = f"`computility keys create NAME --role {may[0]}{_SCOPE.get(may[0], '')}`"
    return f"{said}; {' or '.join(may)} may. {makes} ({command}); {PAGE} has what each role may do"


_SCOPE: Mapping[Role, str] = {
    "tenant-admin": " --tenant TENANT",
    "member": " --project PROJECT",
    "agent": " --project PROJECT",
}


def called(thing: str) -> str:
    """The thing as people call it: kinds in the plural."""
    return CALLED.get(thing, f"{thing}s")


def may_grant(role: str, granted: str) -> bool:
    """Whether a key of ``role`` may make a key of role ``granted``."""
    grantable = {str(name): roles for name, roles in GRANTABLE.items()}
    return granted in grantable.get(role, frozenset())


@dataclass(frozen=True)
class Owner:
    """Whose a thing is. ``public`` things (queues, prices for all) belong to nobody and may be read by all
    roles that read such things; ``shared`` things belong to a project but may be read from outside."""

    tenant: str | None = None
    project: str | None = None
    public: bool = False
    shared: bool = False


def visible(role: str, tenant: str | None, project: str | None, owner: Owner, verb: Verb = "read") -> bool:
    """Whether a thing of ``owner`` exists for a principal with this role, tenant and project when it does
    ``verb``.
    """
    if role == "platform-admin":
        return True
    if verb == "read" and (owner.public or owner.shared):
        return True
    if role == "tenant-admin":
        return tenant is not None and owner.tenant == tenant
    if role not in ("member", "agent"):
        return False
    if owner.project is not None:
        return project is not None and owner.project == project
    return tenant is not None and owner.tenant == tenant
