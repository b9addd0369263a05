"""What every replica of a role of an Endpoint is to run: made once for each state of Endpoint and Model, not
in each pass for each replica."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from common.labels import IDENTITY_LABEL, RESTARTED
from common.resources import Endpoint, Model, Workload
from common.resources.scaling import EngineRole
from common.resources.workload import WorkloadRole
from common.settings import EngineSettings
from inference.engine_workload import engine_workload


@dataclass(frozen=True)
class WantedEngine:
    """The Workload of one replica, the name apart."""

    workload: Workload

    def named(self, name: str) -> Workload:
        """A Workload of that name to be written."""
        copy = self.workload.model_copy(deep=True)
        copy.metadata.name = name
        return copy

    def is_same(self, workload: Workload) -> bool:
        """Whether there is nothing to change about it."""
        wanted = self.workload
        return workload.spec == wanted.spec and workload.metadata.labels == wanted.metadata.labels

    def is_other_process(self, workload: Workload) -> bool:
        """Whether the running processes are other than those wanted, were started with another Model, or
        before a restart that somebody asked for."""
        return bool(self.difference(workload))

    def difference(self, workload: Workload) -> str:
        """Why the running processes are not those wanted, in words; empty where they are."""
        wanted = self.workload
        identity = wanted.metadata.labels[IDENTITY_LABEL]
        known = workload.metadata.labels.get(IDENTITY_LABEL, identity)
        if known != identity:
            return f"it runs Model {known}, and {identity} is wanted"
        if _restarted_ms(workload) < _restarted_ms(wanted):
            return "a restart was asked for"
        if workload.spec.roles != wanted.spec.roles:
            return f"it has {_changed(workload.spec.roles, wanted.spec.roles)} than are wanted"
        return ""


def _changed(old: Sequence[WorkloadRole], new: Sequence[WorkloadRole]) -> str:
    """What of the processes differs."""
    if [role.name for role in old] != [role.name for role in new]:
        return "other roles"
    for what, name in (("arguments", "command"), ("variables", "env"), ("devices", "devices")):
        if any(getattr(a, name) != getattr(b, name) for a, b in zip(old, new, strict=True)):
            return f"other {what}"
    return "other settings"


def _restarted_ms(workload: Workload) -> int:
    text = workload.metadata.annotations.get(RESTARTED, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _version_of(model: Model) -> str:
    """It differs where the model would be started otherwise."""
    parsers = (one.parser if one else "" for one in (model.status.tools, model.status.reasoning))
    return f"{model.metadata.uid} {model.metadata.generation} {' '.join(parsers)}"


_Version = tuple[int, str, str]


class WantedEngines:
    """Remembers what is wanted of each Endpoint until it or its Model changes. ``traces_url``: where engines
    send their spans."""

    def __init__(self, settings: EngineSettings, traces_url: str = "") -> None:
        self._settings, self._traces_url = settings, traces_url
        self._known: dict[str, tuple[_Version, Mapping[EngineRole, WantedEngine]]] = {}

    def of(
        self, endpoint: Endpoint, model: Model, canary: Model | None = None
    ) -> Mapping[EngineRole, WantedEngine]:
        """What its replicas are to run, by role; without ``canary``, its Model, none of that role. Raises
        ``InvalidInput`` or ``ValueError`` where no Workload can be made of it."""
        uid = endpoint.metadata.uid
        chosen = endpoint.status.auto
        devices = f"{chosen.device_class} {chosen.devices_per_engine} {chosen.connector}" if chosen else ""
        models = " ".join(_version_of(one) if one else "-" for one in (model, canary))
        version = (endpoint.metadata.generation, models, devices)
        known = self._known.get(uid)
        if known is not None and known[0] == version:
            return known[1]
        of_role = {role: canary if role == "canary" else model for role in endpoint.spec.roles}
        wanted = {
            role: WantedEngine(engine_workload(endpoint, one, 0, self._settings, role, self._traces_url))
            for role, one in of_role.items()
            if one is not None
        }
        self._known[uid] = version, wanted
        return wanted

    def known(self, endpoint: Endpoint) -> Mapping[EngineRole, WantedEngine]:
        """What was wanted of it last; nothing before that is known."""
        known = self._known.get(endpoint.metadata.uid)
        return known[1] if known is not None else {}

    def forget_all_but(self, uids: Container[str]) -> None:
        """Keep only what is wanted of these Endpoints."""
        for uid in [uid for uid in self._known if uid not in uids]:
            del self._known[uid]
