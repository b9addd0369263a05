"""Jobs that somebody types into, or whose ports are reached."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.labels import SANDBOX_LABEL
from common.resources import Metadata, Node, Workload
from common.resources.jobs import JobSpec
from common.resources.pool import NodeStatus
from common.resources.sessions import Session
from common.settings import Settings
from jobs.job_workload import refusal_of
from tests.fixtures.jobs import JOB, PROJECT, JobWorld

PORTS = {"ports": True}


async def test_the_rank_gets_the_session_and_ends_when_nobody_types(tmp_path: Path) -> None:
    world = JobWorld(tmp_path)
    await world.fill()
    await world.apply(session={"terminal": True, "idleSeconds": 60})
    await world.step()
    workload = await world.workload()
    assert workload is not None
    assert workload.spec.roles[0].session == Session(terminal=True, idle_seconds=60)
    await world.seen("Running", None)
    await world.step()
    assert (await world.status()).phase == "Running"
    stored = await world.store.get(Workload, JOB, PROJECT)
    stored.status.ranks[0].idle = True
    await world.store.set_status(stored)
    await world.step()
    stopped = await world.workload()
    assert stopped is not None
    assert stopped.spec.suspend
    await world.seen("Suspended", 143)
    await world.step()
    status = await world.status()
    assert (status.phase, status.reason) == ("Cancelled", "Idle")
    assert "idleSeconds" in status.message


@pytest.mark.parametrize(
    "spec",
    [
        {"session": {}},
        {"session": {"terminal": True, "idleSeconds": 59}},
        {"session": {"terminal": True}, "replicas": 2},
        {"session": PORTS, "network": True},
    ],
)
def test_what_no_session_can_be_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate({"command": ["bash"], **spec})


def test_ports_are_reached_in_cells_only() -> None:
    spec = JobSpec.model_validate({"command": ["bash"], "session": PORTS})
    cells = Node(metadata=Metadata(name="n"), status=NodeStatus(labels={SANDBOX_LABEL: "works"}))
    assert refusal_of(spec, Settings(), [cells]) is None
    refused = refusal_of(spec, Settings(jobs={"allow_unconfined": True}), [cells])
    assert refused is not None
    assert refused[0] == "spec.session.ports"
