"""An agent works for the installation that made it, until that one has left it behind."""

from pathlib import Path

import pytest

from common.errors import Conflict
from scheduler.adapters.ray import agent as module
from scheduler.adapters.ray.agent import ABANDONED, Agent, AgentOptions


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(AgentOptions("n", "127.0.0.1", str(tmp_path), "first", "always"))


async def test_only_its_own_installation_is_answered(agent: Agent, tmp_path: Path) -> None:
    assert await agent.node("first") == "n"
    assert (await agent.observe("first")).node == "n"
    for ask in (agent.node, agent.observe):
        with pytest.raises(Conflict, match=str(tmp_path)) as refused:
            await ask("second")
        assert refused.value.code == "other_installation"


async def test_one_that_was_left_behind_says_so(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ABANDONED_SECONDS", 0.0)
    with pytest.raises(Conflict) as refused:
        await agent.node("second")
    assert refused.value.code == ABANDONED
