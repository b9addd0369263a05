"""openb's files as they come, and what is wrong with bad ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bench.traces import TraceNode, TraceTask, read_nodes, read_tasks
from common.errors import InvalidInput

pytestmark = pytest.mark.unit

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,96000,393216,8,G2\nn1,32000,1024,0,\n"
HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_nodes_with_and_without_gpus(tmp_path: Path) -> None:
    expected = [TraceNode("n0", 96000, 393216, 8, "G2"), TraceNode("n1", 32000, 1024, 0, "")]
    assert read_nodes(written(tmp_path, NODES)) == expected
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(gzip.compress(NODES.encode()))
    assert read_nodes(packed) == expected


def test_tasks_name_their_models_once(tmp_path: Path) -> None:
    text = HEAD + "a,4000,8192,1,470,V100M32|V100M16|V100M32\nb,8000,1,0,0,\nc,64000,1,8,1000,\n"
    tasks = read_tasks(written(tmp_path, text))
    assert tasks[0] == TraceTask("a", 4000, 8192, 1, 470, ("V100M16", "V100M32"))
    assert [task.gpu_millis for task in tasks] == [470, 0, 8000]


def test_variants_of_the_trace_have_no_column_for_models(tmp_path: Path) -> None:
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,4000,8192,1,470\n"
    assert read_tasks(written(tmp_path, text))[0].models == ()


@pytest.mark.parametrize(
    ("row", "where"),
    [
        pytest.param("a,many,1,1,1000,", "line 2, column cpu_milli", id="no-number"),
        pytest.param("a,-1,1,1,1000,", "line 2, column cpu_milli", id="negative"),
        pytest.param("a,1,1,1,1001,", "line 2, column gpu_milli", id="more-than-a-gpu"),
        pytest.param("a,1,1,0,500,", "line 2, column gpu_milli", id="share-of-nothing"),
        pytest.param("a,1,1,2,500,", "line 2, column gpu_milli", id="several-shared"),
        pytest.param("a,1,1", "line 2, column num_gpu", id="cut-short"),
        pytest.param("a,1,1,0,0,", "no task that asks for GPUs", id="no-gpus"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, row: str, where: str) -> None:
    with pytest.raises(InvalidInput, match=where):
        read_tasks(written(tmp_path, HEAD + row + "\n"))


def test_files_that_are_no_trace(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no column gpu"):
        read_nodes(written(tmp_path, "sn,cpu_milli,memory_mib,model\n"))
    with pytest.raises(InvalidInput, match="has no GPUs"):
        read_nodes(written(tmp_path, NODES.replace(",8,G2", ",0,")))
    with pytest.raises(InvalidInput, match="cannot read"):
        read_nodes(tmp_path / "absent.csv")
    broken = tmp_path / "trace.csv.gz"
    broken.write_bytes(b"no gzip")
    with pytest.raises(InvalidInput, match="cannot read"):
        read_tasks(broken)
