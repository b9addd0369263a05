"""The command and environment of one rank, from its order and what the node adds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.errors import InvalidInput
from common.settings.services import SandboxMode
from scheduler.adapters.devices.visible import visible_environment
from scheduler.ports import HostPort, RankOrder

_PLACEHOLDER = re.compile(r"\$\((PYTHON|ADDRESS|RANK|WORLD_SIZE|DEVICES|HOME_DIR|ENGINE_KEY|PORT:[^()]*)\)")


@dataclass(frozen=True)
class Surroundings:
    """What the node adds to a rank. ``base``: variables that it inherits."""

    python: str
    home: str
    instance: str
    address: str
    world_size: int
    local_rank: int
    ports: Mapping[str, int]
    master: HostPort | None
    base: Mapping[str, str]
    engine_key: str = field(default="", repr=False)
    sandbox_mode: SandboxMode = "off"
    sandbox_hindrance: str = ""
    always_ranked: bool = False


def expand(text: str, order: RankOrder, around: Surroundings, engine_key: str = "") -> str:
    """Replace the placeholders of ``resources.workload.WorkloadRole``. Raises ``InvalidInput`` for an
    unknown port, and for the engine key where it may not stand."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("PORT:"):
            port = around.ports.get(name[5:])
            if port is None:
                raise InvalidInput(f"role {order.role}: $({name}) names a port that is not in ports")
            return str(port)
        if name == "ENGINE_KEY" and not engine_key:
            raise InvalidInput(f"role {order.role}: $(ENGINE_KEY) is for the env of Endpoints' engines only")
        return {
            "ENGINE_KEY": engine_key,
            "PYTHON": around.python,
            "ADDRESS": around.address,
            "RANK": str(order.rank),
            "WORLD_SIZE": str(around.world_size),
            "DEVICES": str(max(1, len({grant.device for grant in order.grants}))),
            "HOME_DIR": around.home,
        }[name]

    return _PLACEHOLDER.sub(value, text)


def build_environment(order: RankOrder, around: Surroundings) -> dict[str, str]:
    """The whole environment. A role's own variables may not change which devices it sees."""
    env = dict(around.base)
    env.update(COMPUTILITY_HOME=around.home, COMPUTILITY_INSTANCE=around.instance)
    if around.world_size > 1 or around.always_ranked:
        env.update(RANK=str(order.rank), WORLD_SIZE=str(around.world_size), LOCAL_RANK=str(around.local_rank))
        if around.master:
            env.update(MASTER_ADDR=around.master.host, MASTER_PORT=str(around.master.port))
    env.update({key: expand(value, order, around, around.engine_key) for key, value in order.env.items()})
    for variable, shown in visible_environment(order.grants).items():
        if shown is None:
            env.pop(variable, None)
        else:
            env[variable] = shown
    return env
