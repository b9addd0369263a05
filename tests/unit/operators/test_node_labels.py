"""Labels of a node as Ray takes them: those that are there; an error where the API server says nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Forbidden, InvalidInput, Unavailable
from operators import node_labels

ZONE = {"computility.io/zone": "topology.kubernetes.io/zone"}


class Server:
    """An API server that answers from some question on."""

    def __init__(self, labels: Mapping[str, str] | None, silent: int = 0) -> None:
        self.labels, self.silent = labels, silent
        self.asked: list[str] = []
        self.paused = 0.0

    async def ask(self, path: str) -> Mapping[str, Any]:
        self.asked.append(path)
        if len(self.asked) <= self.silent:
            raise Unavailable("no route")
        return {"metadata": {"name": "x", "labels": self.labels}}

    async def pause(self, seconds: float) -> None:
        self.paused += seconds


async def test_a_server_that_is_late_is_waited_for() -> None:
    server = Server({"topology.kubernetes.io/zone": "eu-1a"}, silent=3)
    found = await node_labels.labels_of("node/one", ZONE, server.ask, server.pause)
    assert found == {"computility.io/zone": "eu-1a"}
    assert (server.asked[0], server.paused) == ("/api/v1/nodes/node%2Fone", 6.0)


async def test_a_server_that_stays_away_is_an_error() -> None:
    server = Server({}, silent=99)
    with pytest.raises(Unavailable):
        await node_labels.labels_of("one", ZONE, server.ask, server.pause)
    assert len(server.asked) == node_labels.ATTEMPTS


@given(
    labels=st.none() | st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y"])),
    wanted=st.dictionaries(st.sampled_from("rst"), st.sampled_from("abcd")),
)
def test_what_a_node_lacks_is_left_out(labels: dict[str, str] | None, wanted: dict[str, str]) -> None:
    made = node_labels.translated({"metadata": {"labels": labels}}, wanted)
    assert set(made) <= set(wanted)
    for ray, kubernetes in wanted.items():
        assert made.get(ray, "") == (labels or {}).get(kubernetes, "")


@pytest.mark.parametrize("pair", ["zone", "=x", "x=", ""])
def test_a_label_that_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(InvalidInput, match="write RAY=KUBERNETES"):
        node_labels.wanted_labels([pair])


def test_the_command_writes_the_file_and_tells_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def labels(name: str, wanted: Mapping[str, str]) -> dict[str, str]:
        if name == "secret":
            raise Forbidden("nodes is forbidden")
        return dict.fromkeys(wanted, name)

    monkeypatch.setattr(node_labels, "_labels_from_cluster", labels)
    out = tmp_path / "labels.yaml"
    said = [f"--out={out}", "--label=computility.io/zone=zone"]
    assert node_labels.main(["--node=true", *said]) == 0
    assert yaml.safe_load(out.read_text()) == {"computility.io/zone": "true"}
    assert node_labels.main(["--node=secret", *said]) == 3
    assert node_labels.main(["--node=x", f"--out={tmp_path}/no/where", *said[1:]]) == 7
    assert "nodes is forbidden" in capsys.readouterr().err
