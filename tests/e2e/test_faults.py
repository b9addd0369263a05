"""What breaks while the real platform serves: clients are told, every delivered token is billed once, and
everything comes back by itself.

Each test pays with a key of its own, so that the ledger tells what it used.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import psutil
import pytest
from safetensors.numpy import save_file

from common.resources.meta import API_VERSION
from control.demo import bill
from control.demo.background import Platform
from tests.fixtures.asking import MESSAGES, ask, asking, tokens, total, wait_for_more
from tests.fixtures.platform import USAGE_INTERVAL_SECONDS, Running, platform_settings
from tests.fixtures.probe import Probe, child_pid, cli, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LONG: Any = {
    "messages": MESSAGES,
    "max_tokens": 1800,
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "extra_body": {"min_tokens": 1800},
}
"""No end of the answer is made before its limit: text, and so a chunk, with each token."""
BACK_WITHIN_SECONDS = 90
BROKEN_CONNECTION = (openai.APIConnectionError, httpx.HTTPError)


@pytest.fixture(scope="module")
def platform(running_platform: Running) -> Iterator[Probe]:
    probe = Probe(running_platform)
    yield probe
    probe.close()


@pytest.fixture(autouse=True)
def served(running_platform: Running) -> None:
    """Each fault finds the endpoint ready, whatever the one before has left."""
    running_platform.wait_ready()


def billed(platform: Probe, key: str) -> bill.Tokens:
    total = platform.billed(key)
    return bill.Tokens(total["prompt_tokens"], total["completion_tokens"])


def is_idle(platform: Probe) -> bool:
    """Whether the engine works on nothing."""
    url = platform.served()["status"]["replicas"][0]["url"]
    lines = bill.engine_metrics(url, platform.settings).splitlines()
    busy = [
        line for line in lines if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{"))
    ]
    return bool(busy) and all(float(line.split()[-1]) == 0 for line in busy)


class Counted:
    """What the engine has counted since this was made."""

    def __init__(self, platform: Probe) -> None:
        eventually(lambda: is_idle(platform), what="an idle engine")
        self._platform = platform
        self._start = platform.engine_tokens()

    def now(self) -> bill.Tokens:
        engine = self._platform.engine_tokens()
        return bill.Tokens(engine.prompt - self._start.prompt, engine.completion - self._start.completion)


# Clients that leave


@pytest.mark.parametrize("after_chunks", [1, 40])
def test_a_client_that_leaves_pays_for_exactly_what_the_engine_made(
    platform: Probe, after_chunks: int
) -> None:
    key = f"leaver-{after_chunks}"
    client, counted = platform.member(key), Counted(platform)
    stream = client.chat.completions.create(model=platform.model, **LONG)
    for _ in range(after_chunks):
        next(stream)
    stream.close()
    eventually(lambda: billed(platform, key).completion > 0, what="the bill")
    eventually(lambda: is_idle(platform), seconds=5, what="the end of the engine's request")
    eventually(lambda: counted.now() == billed(platform, key), seconds=5, what="the engine's own count")
    assert after_chunks - 1 <= billed(platform, key).completion < LONG["max_tokens"]
    assert platform.billed(key)["requests"] == 1


# An engine that dies


def plant_adapter(platform: Probe, name: str) -> None:
    """Register an adapter with random weights: the base's words are not its words."""
    [model] = [m for m in platform.admin.list("models", platform.project) if m["spec"]["source"]]
    config = json.loads((Path(model["spec"]["source"]) / "config.json").read_text())
    width, layers, rank = config["hidden_size"], config["num_hidden_layers"], 8
    random = np.random.default_rng(7)
    weights = {}
    for layer in range(layers):
        for part in ("q_proj", "v_proj"):
            path = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            weights[f"{path}.lora_A.weight"] = random.normal(size=(rank, width)).astype(np.float32)
            weights[f"{path}.lora_B.weight"] = random.normal(size=(width, rank)).astype(np.float32)
    folder = platform.settings.folder("adapters") / name
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(
        json.dumps({**settings, "bias": "none", "task_type": "CAUSAL_LM"})
    )
    spec = {"model": model["metadata"]["name"], "servedName": name, "path": str(folder), "rank": rank}
    metadata = {"name": name, "project": platform.project}
    platform.admin.apply({"apiVersion": API_VERSION, "kind": "Adapter", "metadata": metadata, "spec": spec})


@pytest.mark.parametrize("part", ["server", "core"])
def test_an_engine_killed_in_mid_stream(platform: Probe, part: str) -> None:
    key, adapter = f"unlucky-{part}", f"scrambled-{part}"
    client = platform.member(key)
    plant_adapter(platform, adapter)
    eventually(lambda: answers(client, adapter), what="the adapter")
    platform.wait_posted()
    before, status = billed(platform, key), platform.workload(f"{platform.endpoint}-0")["status"]
    processes = platform.rank_processes(f"{platform.endpoint}-0")
    stream = client.chat.completions.create(model=platform.model, **LONG)
    engine, chunks = platform.engine_process(), [next(stream) for _ in range(20)]
    victim = engine if part == "server" else next(p for p in engine.children() if "EngineCore" in p.name())
    victim.kill()
    killed_at = time.monotonic()
    with pytest.raises(openai.APIError) as raised:
        chunks.extend(stream)
    assert raised.value.code == "engine_failed"
    assert "billed" in raised.value.message
    platform.wait_posted()
    after = billed(platform, key)
    used = bill.Tokens(after.prompt - before.prompt, after.completion - before.completion)
    assert used == tokens(chunks[-1].usage)
    assert used.completion < LONG["max_tokens"]
    left = BACK_WITHIN_SECONDS - (time.monotonic() - killed_at)
    eventually(lambda: answers(client, platform.model), left, "the engine's return")
    eventually(lambda: answers(client, adapter), 15, "the adapter's return")
    assert not any(process.is_running() for process in processes)
    endpoint, now = platform.running.wait_ready(), platform.workload(f"{platform.endpoint}-0")["status"]
    assert adapter in endpoint["status"]["replicas"][0]["adapters"]
    assert (now["attempt"], now["restarts"]) == (status["attempt"] + 1, status["restarts"] + 1)


def answers(client: Any, model: str) -> bool:
    """Whether the model answers. While it does not, the client is told so in a way that it knows."""
    try:
        return bool(ask(client, model).usage.completion_tokens)
    except (openai.NotFoundError, openai.InternalServerError):
        return False


# A control that dies


@pytest.fixture
def sleeper(platform: Probe) -> Iterator[str]:
    """A workload of the user's own that runs, and one that waits for devices that nobody has."""
    for name, devices in (("sleeper", {"count": 0}), ("waiter", {"vendors": ["ascend"]})):
        role = {"name": "main", "command": ["sleep", "900"], "devices": devices}
        metadata = {"name": name, "project": platform.project}
        platform.admin.apply(
            {"apiVersion": API_VERSION, "kind": "Workload", "metadata": metadata, "spec": {"roles": [role]}}
        )
    eventually(
        lambda: platform.workload("sleeper")["status"]["phase"] in ("Running", "Ready"), what="sleeper"
    )
    yield "sleeper"
    for name in ("sleeper", "waiter"):
        platform.admin.delete("workloads", name, platform.project)


def running_things(platform: Probe) -> dict[str, tuple[Any, ...]]:
    """Each workload with its identity, and the processes that it has."""
    return {
        item["metadata"]["name"]: (
            item["metadata"]["uid"],
            item["status"]["phase"],
            item["status"].get("attempt"),
            tuple(rank["pid"] for rank in item["status"].get("ranks", ())),
        )
        for item in platform.admin.list("workloads")
    }


def test_a_control_killed_while_requests_run_and_usage_waits(platform: Probe, sleeper: str) -> None:
    client, counted = platform.member("steadfast"), Counted(platform)
    before, launchers, engine = running_things(platform), platform.launchers(), platform.engine_process()
    control, metered, began = (
        platform.pid_of("control"),
        platform.billed()["device_seconds"],
        time.monotonic(),
    )
    assert control is not None
    long = client.chat.completions.create(model=platform.model, **LONG)
    spoken = next(long).usage
    with asking(client, platform.model) as used:
        wait_for_more(used, 1)
        os.kill(control, signal.SIGSTOP)  # so that usage is on its way, and more piles up
        wait_for_more(used, 3)
        assert bill.spooled_segments(platform.settings) > 0
        os.kill(control, signal.SIGKILL)
        wait_for_more(used, 3)
        assert bill.spooled_segments(platform.settings) > 0
        eventually(lambda: platform.pid_of("control") not in (None, control), 60, "a new control")
        wait_for_more(used, 1)
    for chunk in long:
        spoken = chunk.usage or spoken
    platform.wait_posted()
    assert billed(platform, "steadfast") == total([*used, tokens(spoken)])
    eventually(lambda: counted.now() == billed(platform, "steadfast"), 5, "the engine's own count")
    assert platform.billed("steadfast")["requests"] == len(used) + 1
    eventually(lambda: running_things(platform) == before, 20, "all workloads as before")
    assert engine.is_running()
    assert platform.engine_process() == engine
    assert platform.launchers() == launchers
    # One device was held all the time, also while nobody was there to meter it.
    back_after = time.monotonic() - began
    eventually(lambda: platform.billed()["device_seconds"] - metered >= back_after, 20, "its device time")
    assert platform.billed()["device_seconds"] - metered <= time.monotonic() - began + USAGE_INTERVAL_SECONDS
    assert platform.cli("explain", "waiter", "-p", platform.project).returncode == 0


# A gateway that dies


def test_a_gateway_killed_in_mid_stream_while_control_hangs(platform: Probe) -> None:
    client, counted = platform.member("persistent"), Counted(platform)
    gateway, control = platform.pid_of("gateway"), platform.pid_of("control")
    assert gateway is not None
    assert control is not None
    used = [tokens(ask(client, platform.model).usage)]
    os.kill(control, signal.SIGSTOP)
    try:
        # Sent to control, noted by nobody: the next gateway has to send them again.
        used += [tokens(ask(client, platform.model).usage) for _ in range(3)]
        stream = client.chat.completions.create(model=platform.model, **LONG)
        delivered = [next(stream).usage for _ in range(20)]
        os.kill(gateway, signal.SIGKILL)
        with pytest.raises(BROKEN_CONNECTION):
            delivered.extend(chunk.usage for chunk in stream)
        eventually(lambda: platform.pid_of("gateway") not in (None, gateway), 30, "a new gateway")
        used.append(tokens(ask(client, platform.model).usage))
    finally:
        os.kill(control, signal.SIGCONT)
    used.append(tokens(ask(client, platform.model).usage))
    platform.wait_posted()
    paid, answered, cut_off = billed(platform, "persistent"), total(used), tokens(delivered[-1])
    assert cut_off.completion >= 19
    assert paid.prompt == answered.prompt + cut_off.prompt
    assert paid.completion >= answered.completion + cut_off.completion
    assert platform.billed("persistent")["requests"] == len(used) + 1
    eventually(lambda: is_idle(platform), 5, "the end of the broken request")
    engine = counted.now()
    assert engine.prompt == paid.prompt
    assert paid.completion <= engine.completion < answered.completion + LONG["max_tokens"]


# An `up` that dies


def test_down_ends_all_that_a_killed_up_left() -> None:
    home = Path(tempfile.mkdtemp(prefix="computility-e2e-"))
    platform = Platform(platform_settings(home), ("--no-examples",))
    settings = platform.settings
    try:
        platform.start()
        pids, ports = platform.pids(), platform.note_ports()
        assert child_pid(settings, "control") in pids
        assert {settings.gateway.port, settings.control.port} <= set(ports)
        assert platform.process is not None
        platform.process.kill()
        platform.process.wait()
        assert all(psutil.pid_exists(pid) for pid in pids)
        down = cli(settings, "down")
        assert down.returncode == 0, down.stderr
        assert "processes that were left" in down.stdout
        assert platform.leftovers() == []
        again = cli(settings, "down")
        assert (again.returncode, "nothing is left running" in again.stdout) == (0, True)
    finally:
        platform.stop()
        cli(settings, "down")
    shutil.rmtree(home)
