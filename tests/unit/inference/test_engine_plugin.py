"""Each process of an engine may use the tile registers of its processor, where it has any, and takes no core
to wait for transfers."""

import ctypes
import platform
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest

from inference import engine_plugin
from inference.core.engine_command import KV_POLL_VARIABLE
from inference.engine_plugin import allow_amx, prepare

ASKED = """
import ctypes
from inference.engine_plugin import allow_amx

def allowed(code):
    mask = ctypes.c_ulong()
    ctypes.CDLL(None).syscall(158, code, ctypes.byref(mask))
    return mask.value

allow_amx()
allow_amx()
print(allowed(0x1021) & ~allowed(0x1022) & 1 << 18)
"""
"""What Linux supports (ARCH_GET_XCOMP_SUPP) and the process may not use (ARCH_GET_XCOMP_PERM)."""
SLOWED = """
from inference.engine_plugin import poll_calmly

poll_calmly(1000)
from nixl._bindings import nixlAgentConfig

config = nixlAgentConfig()
config.pthrDelay = 0
print(config.pthrDelay)
"""


def test_vllm_finds_it_and_it_can_be_called_more_than_once() -> None:
    [plugin] = [one for one in entry_points(group="vllm.general_plugins") if one.name == "computility"]
    assert plugin.load() is prepare
    for _ in range(2):
        prepare()


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="AMX is of x86")
def test_what_the_processor_has_may_be_used() -> None:
    answer = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "0"


def test_elsewhere_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str | None] = []
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **_: loaded.append(name))
    allow_amx()
    assert loaded == []


class Config:
    """As NIXL's: what is asked for is kept by the property."""

    def __init__(self) -> None:
        self.kept = 0

    def _keep(self, value: int) -> None:
        self.kept = value


DELAY = property(lambda config: config.kept, Config._keep)


@pytest.mark.parametrize(("said", "delay"), [("1000", 1000), ("", 0), ("x", 0), ("-1", 0)])
def test_transfers_are_polled_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, said: str, delay: int
) -> None:
    config = type("Config", (Config,), {"pthrDelay": DELAY})
    monkeypatch.setitem(sys.modules, "nixl", ModuleType("nixl"))
    monkeypatch.setitem(sys.modules, "nixl._bindings", SimpleNamespace(nixlAgentConfig=config))
    monkeypatch.setitem(sys.modules, "vllm.platforms.cpu", SimpleNamespace(CpuPlatform=type("P", (), {})))
    monkeypatch.setenv(KV_POLL_VARIABLE, said)
    for _ in range(2):
        prepare()
    made = config()
    made.pthrDelay = 0
    assert made.kept == delay
    made.pthrDelay = 5000
    assert made.kept == 5000


@pytest.mark.parametrize(("said", "nodes"), [("1000", []), ("", [[0, 1]])])
def test_who_hands_caches_over_on_cpus_is_told_of_no_core_to_be_bound_to(
    monkeypatch: pytest.MonkeyPatch, said: str, nodes: list[list[int]]
) -> None:
    platform = type("CpuPlatform", (), {"discover_numa_topology": classmethod(lambda cls: [[0, 1]])})
    monkeypatch.setitem(sys.modules, "vllm.platforms.cpu", SimpleNamespace(CpuPlatform=platform))
    monkeypatch.setitem(sys.modules, "nixl", None)
    monkeypatch.setenv(KV_POLL_VARIABLE, said)
    prepare()
    assert platform().discover_numa_topology() == nodes


def test_an_engine_without_nixl_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nixl", None)
    monkeypatch.setitem(sys.modules, "vllm.platforms.cpu", None)
    monkeypatch.setenv(KV_POLL_VARIABLE, "1000")
    allowed: list[bool] = []
    monkeypatch.setattr(engine_plugin, "allow_amx", lambda: allowed.append(True))
    prepare()
    assert allowed == [True]


@pytest.mark.skipif(find_spec("nixl") is None, reason="NIXL is not installed")
def test_what_nixl_asks_for_is_slowed_down_in_the_real_library() -> None:
    answer = subprocess.run([sys.executable, "-c", SLOWED], capture_output=True, text=True, check=True)
    assert answer.stdout.split()[-1] == "1000"


@pytest.mark.parametrize("is_cpu", [True, False])
def test_ranks_of_log_probabilities_are_not_compiled_on_cpus(
    is_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written() -> None: ...

    def compiled() -> None: ...

    compiled._torchdynamo_orig_callable = written  # type: ignore[attr-defined]
    logprobs = ModuleType("vllm.v1.sample.ops.logprobs")
    logprobs.batched_count_greater_than = compiled  # type: ignore[attr-defined]
    ops = ModuleType("vllm.v1.sample.ops")
    ops.logprobs = logprobs  # type: ignore[attr-defined]
    platforms = ModuleType("vllm.platforms")
    platforms.current_platform = SimpleNamespace(is_cpu=lambda: is_cpu)  # type: ignore[attr-defined]
    for module in (platforms, ops, logprobs):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("vllm", "vllm.v1", "vllm.v1.sample"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for _ in range(2):
        engine_plugin.rank_as_written()
    expected = written if is_cpu else compiled
    assert logprobs.batched_count_greater_than is expected
