"""Whose gangs `down` stops, where there are several control processes."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.settings import Settings
from control.supervisor import supervisor
from control.supervisor.supervisor import Instance


class _Client:
    def __init__(self, role: str) -> None:
        self._role = role
        self.drained: list[bool] = []

    def __enter__(self) -> "_Client":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ready(self) -> dict[str, str]:
        return {"role": self._role} if self._role else {}

    def drain(self, token: str, *, timeout_seconds: float, dismiss_agents: bool) -> None:
        self.drained.append(dismiss_agents)


@pytest.mark.parametrize(
    ("role", "has_own_ray", "drained"),
    [
        ("leader", False, [True]),
        ("follower", False, []),
        ("follower", True, [False]),
        ("leader", True, [False]),
        ("", False, [True]),
    ],
)
def test_gangs_of_another_that_leads_run_on_unless_their_ray_ends(
    monkeypatch: pytest.MonkeyPatch, role: str, has_own_ray: bool, drained: list[bool]
) -> None:
    client = _Client(role)
    monkeypatch.setattr(supervisor, "control_client", lambda settings: client)
    children = {"control": SimpleNamespace(state="ready")}
    instance = SimpleNamespace(
        supervisor=SimpleNamespace(children=children),
        settings=Settings(),
        _ray=object() if has_own_ray else None,
    )
    Instance._drain(cast(Any, instance))
    assert client.drained == drained
