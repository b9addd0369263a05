"""What a node offers, and what its processes get to see of it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput, SetupError
from common.resources.pool import Device
from common.resources.workload import Grant
from scheduler.adapters.devices import probe
from scheduler.adapters.devices.accelerators import Accelerators
from scheduler.adapters.devices.cpu import MIN_SLOTS, model_name, probe_cpu
from scheduler.adapters.devices.visible import visible_environment
from scheduler.adapters.ray.environment import Surroundings, build_environment, expand
from scheduler.adapters.ray.inherited import NAMES, PREFIXES, inherited
from scheduler.ports import HostPort, RankOrder

GPU = Device(id="GPU-1", index=0, vendor="nvidia", model="H100", memory_bytes=80 * 1024**3)


def grants(vendor: str, *indexes: int) -> list[Grant]:
    return [Grant(device=f"{vendor}-{i}", index=i, vendor=vendor, model="m") for i in indexes]


VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "MLU_VISIBLE_DEVICES",
    "MUSA_VISIBLE_DEVICES",
)


@pytest.mark.parametrize(
    ("held", "variables"),
    [
        (grants("nvidia", 3, 1), {"CUDA_VISIBLE_DEVICES": "1,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        (grants("ascend", 0), {"ASCEND_RT_VISIBLE_DEVICES": "0"}),
        (grants("amd", 2), {"HIP_VISIBLE_DEVICES": "2"}),
        (grants("hygon", 2, 10), {"HIP_VISIBLE_DEVICES": "2,10"}),
        (grants("cambricon", 1), {"MLU_VISIBLE_DEVICES": "1"}),
        (grants("mthreads", 1), {"MUSA_VISIBLE_DEVICES": "1"}),
        (grants("metax", 1), {"CUDA_VISIBLE_DEVICES": "1"}),
        (
            [Grant(device="MIG-b", index=9, vendor="nvidia", model="m")],
            {"CUDA_VISIBLE_DEVICES": "MIG-b", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        ),
    ],
)
def test_a_process_sees_its_devices_and_no_others(held: list[Grant], variables: dict[str, str]) -> None:
    assert visible_environment(held) == {**dict.fromkeys(VARIABLES), **variables}


def test_a_process_without_an_accelerator_sees_none() -> None:
    assert visible_environment(grants("cpu", 0, 0)) == dict.fromkeys(VARIABLES, "")


def surroundings(**changes: Any) -> Surroundings:
    values: dict[str, Any] = {
        "python": "/py",
        "home": "/home",
        "instance": "i1",
        "address": "10.0.0.1",
        "world_size": 2,
        "local_rank": 0,
        "ports": {"http": 8100},
        "master": HostPort("10.0.0.9", 29_500),
        "base": {"PATH": "/bin"},
    }
    return Surroundings(**{**values, **changes})


def order(**changes: Any) -> RankOrder:
    values: dict[str, Any] = {
        "rank": 1,
        "role": "main",
        "replica": 1,
        "command": ("x",),
        "env": {},
        "ports": ("http",),
        "grants": tuple(grants("nvidia", 1)),
    }
    return RankOrder(**{**values, **changes})


def test_placeholders_are_replaced_and_all_else_is_left() -> None:
    text = "$(PYTHON) $(ADDRESS):$(PORT:http) $(RANK)/$(WORLD_SIZE) $(HOME_DIR) $(date) $HOME"
    assert expand(text, order(), surroundings()) == "/py 10.0.0.1:8100 1/2 /home $(date) $HOME"


def test_a_port_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInput, match="PORT:grpc"):
        expand("$(PORT:grpc)", order(), surroundings())


def test_the_environment_holds_no_secrets_and_keeps_the_grants() -> None:
    own = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "URL": "http://$(ADDRESS)", "OMP_NUM_THREADS": "4"}
    env = build_environment(order(env=own), surroundings())
    assert env == {
        "PATH": "/bin",
        "COMPUTILITY_HOME": "/home",
        "COMPUTILITY_INSTANCE": "i1",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "10.0.0.9",
        "MASTER_PORT": "29500",
        "URL": "http://10.0.0.1",
        "OMP_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def test_a_role_cannot_show_itself_devices_by_the_variable_of_another_vendor() -> None:
    own = {"HIP_VISIBLE_DEVICES": "0,1,2,3", "ASCEND_RT_VISIBLE_DEVICES": "0"}
    env = build_environment(order(env=own), surroundings(base={"HIP_VISIBLE_DEVICES": "7"}))
    assert {name: value for name, value in env.items() if name in VARIABLES} == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_gang_of_one_has_nobody_to_meet() -> None:
    env = build_environment(order(), surroundings(world_size=1))
    assert {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} & env.keys() == set()
    env = build_environment(order(), surroundings(master=None, local_rank=3))
    assert (env["WORLD_SIZE"], env["LOCAL_RANK"], "MASTER_ADDR" in env) == ("2", "3", False)


@pytest.mark.parametrize(("held", "told"), [((1, 2, 2), "2"), ((5,), "1"), ((), "1")])
def test_a_command_is_told_how_many_devices_it_has_and_one_where_it_has_none(
    held: tuple[int, ...], told: str
) -> None:
    assert expand("$(DEVICES)", order(grants=tuple(grants("nvidia", *held))), surroundings()) == told


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,30}", fullmatch=True), st.text(max_size=5)))
def test_processes_inherit_nothing_that_is_not_named(environment: dict[str, str]) -> None:
    secrets = {
        "HF_TOKEN": "hf_x",
        "HUGGING_FACE_HUB_TOKEN": "hf_x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "NVIDIA_API_KEY": "x",
        "HTTPS_PROXY": "http://user:password@proxy",
        "COMPUTILITY_INTERNAL_TOKEN": "x",
        "RAY_JOB_ID": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONBREAKPOINT": "x",
    }
    known = {"PATH": "/bin", "LD_LIBRARY_PATH": "/lib", "NCCL_DEBUG": "INFO", "ASCEND_HOME_PATH": "/a"}
    found = inherited({**environment, **secrets, **known})
    assert known.items() <= found.items()
    assert not secrets.keys() & found.keys()
    assert all(name in NAMES or name.startswith(PREFIXES) for name in found)


def test_the_platforms_settings_may_name_more() -> None:
    environment = {"HTTPS_PROXY": "http://proxy", "HF_TOKEN": "x"}
    assert inherited(environment, ["HTTPS_PROXY"]) == {"HTTPS_PROXY": "http://proxy"}


def test_a_single_process_is_told_of_no_gang() -> None:
    env = build_environment(order(rank=0), surroundings(world_size=1, master=None))
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} & env.keys()


def test_the_cpu_is_described(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast  CPU 9000\n")
    assert model_name(cpuinfo) == "Fast CPU 9000"
    device = probe_cpu("n", cpuinfo)
    assert (device.id, device.vendor) == ("cpu-n", "cpu")
    assert device.slots >= MIN_SLOTS
    assert 0 < (device.memory_used_bytes or 0) < device.memory_bytes
    assert model_name(tmp_path / "missing") == "cpu"


def _none_found(node: str) -> list[Device]:
    raise SetupError("no driver")


@pytest.mark.parametrize(
    ("setting", "found", "vendors", "faults"),
    [
        ("auto", lambda node: [GPU], ["nvidia"], {}),
        ("always", lambda node: [GPU], ["nvidia", "cpu"], {}),
        ("auto", _none_found, ["cpu"], {"nvidia": "no driver"}),
        ("never", _none_found, [], {"nvidia": "no driver"}),
    ],
)
def test_the_cpu_is_offered_as_set(
    monkeypatch: pytest.MonkeyPatch, setting: Any, found: Any, vendors: list[str], faults: dict[str, str]
) -> None:
    monkeypatch.setattr(probe, "ACCELERATORS", Accelerators({"nvidia": found}))
    result = probe.probe_devices("n", setting)
    assert ([device.vendor for device in result.devices], dict(result.faults)) == (vendors, faults)


def test_a_device_file_stands_for_hardware_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text("a: [{id: npu-0, index: 0, vendor: ascend, model: 910B, memoryBytes: 1024}]\n'*': []\n")
    assert [device.model for device in probe.probe_devices("a", "auto", str(path)).devices] == ["910B"]
    assert probe.probe_devices("b", "auto", str(path)).devices == ()
    path.write_text("a: [{id: npu-0, index: zero, vendor: ascend, model: 910B, memoryBytes: 1024}]\n")
    with pytest.raises(InvalidInput, match=r"devices\.yaml:a\[0\]\.index"):
        probe.probe_devices("a", "auto", str(path))


def test_a_device_is_broken_and_mended_by_editing_the_file(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    line = "- {id: npu-0, index: 0, vendor: ascend, model: 910B3, memoryBytes: 1024"
    seen = []
    for rest in ("}", ", healthy: false, fault: 'HBM error'}", "}"):
        path.write_text(f"n:\n  {line}{rest}\n")
        (device,) = probe.probe_devices("n", "never", str(path)).devices
        seen.append((device.healthy, device.fault))
    assert seen == [(True, ""), (False, "HBM error"), (True, "")]


def test_a_device_file_tells_links_places_and_speed(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text("""
n:
  - {id: a, index: 0, vendor: ascend, model: 910A, memoryBytes: 1, numa: 1, busId: '0000:c1:00.0',
     tflops: {fp16: 256.0}, links: [{peer: b, kind: HCCS, bandwidthGbytesPerSecond: 30}]}
  - {id: b, index: 1, vendor: metax, model: MXC500, memoryBytes: 1}
""")
    first, second = probe.probe_devices("n", "never", str(path)).devices
    assert (first.numa, first.links[0].peer, first.tflops) == (1, "b", {"fp16": 256.0})
    assert second.vendor == "metax"


def test_a_device_file_that_names_one_device_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    line = "  - {id: npu-0, index: 0, vendor: ascend, model: 910B3, memoryBytes: 1024}\n"
    path.write_text("n:\n" + 2 * line)
    with pytest.raises(InvalidInput, match=r"devices\.yaml: n\[1\]: the id npu-0 is there twice"):
        probe.probe_devices("n", "never", str(path))
