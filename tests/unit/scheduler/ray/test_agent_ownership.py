"""An agent works for the installation that made it, until that one has left it behind, and for its leader."""

from pathlib import Path

import pytest

from common.errors import Conflict, Unavailable
from scheduler.adapters.ray import agent as module
from scheduler.adapters.ray.agent import ABANDONED, Agent, AgentOptions
from scheduler.adapters.ray.epoch import Epoch


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


def test_only_the_latest_is_obeyed_also_by_the_next_agent(tmp_path: Path) -> None:
    file = tmp_path / "ranks" / "node" / "epoch"
    epoch = Epoch(file)
    for known in (3, 3, 5):
        epoch.require(known)
    for later in (epoch, Epoch(file)):
        with pytest.raises(Unavailable) as refused:
            later.require(4)
        assert refused.value.code == "not_leading"
        later.require(5)


@pytest.mark.parametrize("content", [b"", b"many", b"-1", b"9" * 40, "\u0665".encode(), b"\xff\x00"])
def test_what_is_no_epoch_is_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "epoch"
    file.write_bytes(content)
    Epoch(file).require(1)
    assert file.read_text() == "1"


def test_a_disk_that_takes_nothing_does_not_stop_the_node(tmp_path: Path) -> None:
    (tmp_path / "ranks").write_text("a file where a folder should be")
    epoch = Epoch(tmp_path / "ranks" / "epoch")
    epoch.require(2)
    with pytest.raises(Unavailable):
        epoch.require(1)
