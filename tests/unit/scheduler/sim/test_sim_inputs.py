"""Traces are read as they are, what they do not tell is drawn from a seed, and worlds can be made from
one."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import InvalidInput
from common.units import GIB, MIB
from scheduler.sim.generate import generated_jobs, generated_nodes, generated_queues
from scheduler.sim.habits import Habits, at_poisson_times, queues_of
from scheduler.sim.options import Options
from scheduler.sim.traces import read_jobs, read_nodes
from tests.unit.scheduler.sim_build import gpu_job

NODES = """sn,cpu_milli,memory_mib,gpu,model
openb-node-0000,64000,262144,2,P100
openb-node-0001,96000,393216,0,
"""
PODS_HEADER = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase"
    ",creation_time,deletion_time,scheduled_time"
)
PODS = f"""{PODS_HEADER}
openb-pod-0000,12000,16384,1,1000,,LS,Running,100,1100,150
openb-pod-0001,6000,12288,1,460,V100M16|V100M32|V100M16,BE,Running,160,400,200
openb-pod-0002,4000,1024,0,0,,LS,Pending,170,300,
"""
PHILLY = """submit_s,duration_s,num_gpus,vc
500,3600,8,aa
620,60,1,bb
"""
KALOS = """job_id,submit_s,duration_s,node_num,gpu_num,cpu_num,mem_per_pod_gb,type
0,0,104.0,8,64,960,1000,Other/SFT
"""


def saved(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["nodes.csv", "nodes.csv.gz"])
def test_nodes_of_openb(tmp_path: Path, name: str) -> None:
    gpu, cpu = read_nodes(saved(tmp_path, NODES, name))
    assert [(d.index, d.vendor, d.model, d.memory_bytes) for d in gpu.devices] == [
        (0, "nvidia", "P100", 16 * GIB),
        (1, "nvidia", "P100", 16 * GIB),
    ]
    assert (gpu.cpu_millis, gpu.host_memory_bytes) == (64_000, 262_144 * MIB)
    assert cpu.devices == ()


def test_pods_of_openb_that_started(tmp_path: Path) -> None:
    whole, part = read_jobs(saved(tmp_path, PODS))
    assert (whole.workload.queue, whole.workload.created_ms, whole.seconds) == ("ls", 0, 950)
    assert (part.workload.created_ms, part.seconds) == (60_000, 200)
    request = part.workload.roles[0].request
    assert (request.count, request.share_millis, request.models) == (1, 460, ("V100M16", "V100M32"))
    assert (request.cpu_millis, request.host_memory_bytes) == (6000, 12_288 * MIB)
    assert part.devices == 0.46


def test_pods_of_several_devices_have_them_whole_and_run_for_a_second_at_least(tmp_path: Path) -> None:
    columns, *_ = PODS.splitlines()
    pods = f"{columns}\npod-2,1000,1024,2,460,,LS,Running,100,90,95\npod-0,1000,1024,0,460,,,Running,7,9,8\n"
    jobs = {job.workload.name: job for job in read_jobs(saved(tmp_path, pods))}
    requests = {name: job.workload.roles[0].request for name, job in jobs.items()}
    assert {name: (one.count, one.share_millis) for name, one in requests.items()} == {
        "pod-2": (2, 1000),
        "pod-0": (0, 1000),
    }
    assert (jobs["pod-2"].seconds, jobs["pod-0"].workload.queue) == (1.0, "default")


def test_jobs_of_philly_and_kalos(tmp_path: Path) -> None:
    first, second = read_jobs(saved(tmp_path, PHILLY))
    assert (first.workload.queue, first.devices, first.seconds, first.workload.created_ms) == (
        "aa",
        8,
        3600,
        0,
    )
    assert (second.workload.queue, second.workload.created_ms) == ("bb", 120_000)
    assert [queue.name for queue in queues_of([first, second])] == ["aa", "bb"]
    (kalos,) = read_jobs(saved(tmp_path, KALOS))
    assert (kalos.workload.queue, kalos.devices, kalos.seconds) == ("other-sft", 64, 104)


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("a,b\n1,2\n", "line 1"),
        ("submit_s,duration_s,num_gpus,vc\n1,2,many,x\n", "line 2, column num_gpus"),
        ("submit_s,duration_s,num_gpus,vc\n1,2,0,x\n", "line 2, column num_gpus"),
        ("submit_s,duration_s,num_gpus,vc\n1,-2,1,x\n", "line 2, column duration_s"),
        ("submit_s,duration_s,num_gpus,vc\n1,2,1,x\n3,4\n", "line 3, column num_gpus"),
        ("", "line 1"),
    ],
)
def test_what_is_wrong_in_a_trace_is_named(tmp_path: Path, text: str, param: str) -> None:
    with pytest.raises(InvalidInput) as error:
        read_jobs(saved(tmp_path, text))
    assert error.value.param == param


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read"):
        read_nodes(tmp_path / "none.csv")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(NODES.encode())[:40])
    with pytest.raises(InvalidInput, match="cannot read"):
        read_nodes(broken)
    with pytest.raises(InvalidInput, match="two nodes"):
        read_nodes(saved(tmp_path, NODES + "openb-node-0000,1,1,1,T4\n"))


def test_users_are_wrong_within_limits_and_some_gangs_are_elastic(tmp_path: Path) -> None:
    text = PHILLY + "".join(f"{1000 + n},1000,4,aa\n" for n in range(200))
    jobs = read_jobs(saved(tmp_path, text), Habits(7, estimate_error=0.2, elastic_part=0.5))
    wrong = [(job.workload.expected_seconds or 0) / (job.seconds or 1) for job in jobs]
    assert min(wrong) < 0.85
    assert max(wrong) > 1.15
    assert all(0.79 < factor < 1.21 for factor in wrong)
    least = [job.workload.roles[0].min_replicas for job in jobs[2:]]
    assert set(least) == {None, 1}
    assert 60 < least.count(1) < 140
    assert jobs[1].workload.roles[0].min_replicas is None, "a single rank cannot shrink"
    bounds = read_jobs(saved(tmp_path, text), Habits(7, upper_bounds=True))
    assert all((job.workload.expected_seconds or 0) >= (job.seconds or 0) for job in bounds)


def test_poisson_times_ask_for_the_load(tmp_path: Path) -> None:
    text = "submit_s,duration_s,num_gpus,vc\n" + "".join(f"{n},600,2,aa\n" for n in range(2000))
    jobs = at_poisson_times(read_jobs(saved(tmp_path, text)), devices=100, load=0.5, seed=1)
    last = jobs[-1].workload.created_ms / 1000
    assert 2000 * 600 * 2 / (100 * last) == pytest.approx(0.5, rel=0.1)
    times = [job.workload.created_ms for job in jobs]
    assert times == sorted(times)


def test_a_generated_world_is_the_same_for_the_same_seed() -> None:
    nodes = generated_nodes(16)
    assert {device.vendor for node in nodes for device in node.devices} == {"nvidia", "ascend", "amd"}
    first, second = (generated_jobs(300, 128, 0.8, Habits(3)) for _ in range(2))
    assert first == second
    assert first != generated_jobs(300, 128, 0.8, Habits(4))
    ranks = [job.workload.roles[0].replicas for job in first]
    assert max(ranks) <= 32
    assert sum(rank > 1 for rank in ranks) == pytest.approx(30, abs=20)
    names = {queue.name for queue in generated_queues(128)}
    assert {job.workload.queue for job in first} <= names


@pytest.mark.parametrize(
    "make",
    [
        lambda: generated_nodes(0),
        lambda: generated_jobs(0, 8, 0.5, Habits()),
        lambda: generated_jobs(5, 8, 0.0, Habits()),
        lambda: at_poisson_times([], 0, 0.5, 1),
        lambda: Habits(elastic_part=1.5),
        lambda: Habits(estimate_error=-0.1),
        lambda: Habits(estimate_step=2),
        lambda: Habits(elastic_least=1.01),
    ],
)
def test_impossible_worlds_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput):
        make()


def test_queues_that_are_made_up_own_the_whole_pool_in_equal_parts() -> None:
    owned = [quota.nominal_millis for queue in generated_queues(60) for quota in queue.quotas]
    assert owned == [10_000] * 6


@pytest.mark.parametrize("field", ["horizon_seconds", "heartbeat_seconds", "audit_every"])
def test_how_long_and_how_closely_are_above_nothing(field: str) -> None:
    with pytest.raises(InvalidInput, match="horizon, heartbeat and audit are above 0") as refused:
        Options(**{"horizon_seconds": 1, field: 0})  # type: ignore[arg-type]
    assert refused.value.param == "horizon_seconds"
    Options(**{"horizon_seconds": 1, field: 1})  # type: ignore[arg-type]


def test_jobs_without_an_end_ask_for_no_part_of_the_load() -> None:
    jobs = [gpu_job("endless", seconds=None), gpu_job("a", 2, 100.0), gpu_job("b", 2, 300.0)]
    drawn = at_poisson_times(jobs, 8, 0.5, 7)
    again = at_poisson_times([replace(jobs[0], seconds=0.0), *jobs[1:]], 8, 0.5, 7)
    times = [job.workload.created_ms for job in drawn]
    assert times == [job.workload.created_ms for job in again] == sorted(times)
    for devices, load in ((0, 1.0), (8, 0.0)):
        with pytest.raises(InvalidInput, match="load and devices are above 0") as refused:
            at_poisson_times(jobs, devices, load, 7)
        assert refused.value.param == "load"
