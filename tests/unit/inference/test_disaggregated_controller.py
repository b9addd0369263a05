"""Prefill and decode engines of an endpoint: what is made, what stays when it changes, when it is ready."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.resources import Metadata, Model, Project
from common.resources.people import ProjectSpec
from common.resources.serving import ModelSpec
from inference.core.rollout import ReplicaState, Rollout, plan_rollout
from inference.routes import MIN_PROMPT_TOKENS, build_routing_table
from tests.unit.inference.endpoint_world import FT, PROJECT, World


def roles(prefill: int = 1, decode: int = 1, **more: Any) -> dict[str, Any]:
    """Of an Endpoint's spec."""
    devices = {"vendors": ["cpu"]}
    return {
        "mode": "disaggregated",
        "prefill": {"replicas": prefill, "devices": devices, **more},
        "decode": {"replicas": decode, "devices": devices},
    }


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    return made


async def _condition(world: World) -> tuple[str, str, str]:
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    return ready.status, ready.reason, ready.message


async def _uids(world: World) -> dict[str, str]:
    return {name: workload.metadata.uid for name, workload in (await world.workloads()).items()}


async def test_each_role_gets_workloads_whose_engines_hand_over_kv_caches(world: World) -> None:
    await world.apply_endpoint(**roles(2, 1, args=["--max-num-batched-tokens", "8192"]))
    await world.step()
    made = await world.workloads()
    assert sorted(made) == ["chat-decode-0", "chat-prefill-0", "chat-prefill-1"]
    for name, workload in made.items():
        [role] = workload.spec.roles
        assert role.name in name
        assert workload.metadata.labels["computility.io/engine-role"] == role.name
        assert role.ports == ["http", "kv"]
        assert role.devices.vendors == ["cpu"]
        transfer = json.loads(role.command[role.command.index("--kv-transfer-config") + 1])
        assert transfer["kv_connector"] == "NixlConnector"
        assert transfer["kv_load_failure_policy"] == "recompute"
        assert role.env["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "$(ADDRESS)"
        assert role.env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "$(PORT:kv)"
        assert ("8192" in role.command) == (role.name == "prefill")


async def test_the_number_of_one_role_changes_without_a_restart_of_any_other_engine(world: World) -> None:
    await world.apply_endpoint(**roles(1, 1))
    await world.step()
    before = await _uids(world)
    for prefill, decode in ((3, 1), (3, 2), (1, 2), (1, 1)):
        await world.apply_endpoint(**roles(prefill, decode))
        await world.step()
        now = await _uids(world)
        assert len(now) == prefill + decode
        assert before.items() <= now.items()


async def test_new_arguments_of_one_role_restart_no_engine_of_the_other(world: World) -> None:
    await world.apply_endpoint(**roles())
    await world.step()
    before = await _uids(world)
    await world.apply_endpoint(**roles(args=["--max-num-seqs", "4"]))
    await world.step(3)
    now = await _uids(world)
    assert [name for name in now if now[name] != before[name]] == ["chat-prefill-0"]


async def test_it_is_ready_when_both_roles_answer_and_says_which_one_does_not(world: World) -> None:
    await world.apply_endpoint(**roles())
    await world.step()
    message = "0 of 1 prefill engines and 0 of 1 decode engines answer; "
    waiting = "chat-decode-0 is Pending, chat-prefill-0 is Pending"
    assert await _condition(world) == ("False", "NoReplicaReady", message + waiting)
    await world.start("chat-decode-0")
    await world.step()
    status, reason, message = await _condition(world)
    assert (status, reason) == ("False", "RoleNotReady")
    assert "0 of 1 prefill engines" in message
    await world.start("chat-prefill-0")
    await world.step()
    message = "1 of 1 prefill engines and 1 of 1 decode engines answer"
    assert await _condition(world) == ("True", "Ready", message)
    replicas = (await world.endpoint()).status.replicas
    assert [(replica.workload, replica.role) for replica in replicas] == [
        ("chat-decode-0", "decode"),
        ("chat-prefill-0", "prefill"),
    ]


async def test_a_role_without_engines_is_not_waited_for(world: World) -> None:
    await world.apply_endpoint(**roles(0, 1))
    await world.step()
    await world.start("chat-decode-0")
    await world.step()
    assert await _condition(world) == ("True", "Ready", "1 of 1 decode engines answer")
    await world.apply_endpoint(**roles(0, 0))
    await world.step()
    text = "spec.prefill.replicas and spec.decode.replicas are 0"
    assert await _condition(world) == ("False", "ScaledToZero", text)


async def test_a_change_of_mode_takes_no_engine_away_before_others_answer(world: World) -> None:
    await world.apply_endpoint(2)
    await world.step()
    for name in ("chat-0", "chat-1"):
        await world.start(name)
    await world.apply_endpoint(**roles())
    await world.step()
    assert {"chat-0", "chat-1", "chat-decode-0", "chat-prefill-0"} == set(await world.workloads())
    assert "chat-0 and chat-1 of the former mode serve until" in (await _condition(world))[2]
    await world.start("chat-decode-0")
    await world.step()
    assert {"chat-0", "chat-1"} <= set(await world.workloads())
    await world.start("chat-prefill-0")
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-decode-0", "chat-prefill-0"}
    assert (await _condition(world))[0] == "True"
    await world.apply_endpoint(1)
    await world.step()
    assert {"chat-decode-0", "chat-prefill-0"} < set(await world.workloads())
    await world.start("chat-0")
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-0"}


def test_what_serves_nobody_goes_at_once_when_the_mode_changes() -> None:
    states = {"chat-0": ReplicaState(False, True), "chat-1": ReplicaState(False, False)}
    wanted = {"p": "prefill", "d": "decode"}
    assert plan_rollout(wanted, states) == Rollout(create=("p", "d"), remove=("chat-1",))
    states |= {"p": ReplicaState(False, True, "prefill"), "d": ReplicaState(False, True, "decode")}
    assert plan_rollout(wanted, states).remove == ("chat-0", "chat-1")
    assert plan_rollout({}, states).remove == ("chat-0", "chat-1", "d", "p")


async def test_adapters_are_loaded_on_both_roles(world: World) -> None:
    await world.apply_endpoint(**roles())
    await world.apply_adapter()
    await world.step()
    urls = [await world.start(name) for name in ("chat-decode-0", "chat-prefill-0")]
    await world.step()
    assert all(FT in world.engines.running[url].adapters for url in urls)
    assert (await world.adapter()).status.is_true("Served")


async def test_a_model_for_embeddings_is_refused_by_name(world: World) -> None:
    spec = ModelSpec(source="$(HOME_DIR)/models/tiny", tasks=["embeddings"])
    await world.store.apply(Model(metadata=Metadata(name="tiny", project=PROJECT), spec=spec))
    await world.apply_endpoint(**roles())
    await world.step()
    assert not await world.workloads()
    status, _, message = await _condition(world)
    assert status == "False"
    assert "spec.mode" in message


async def test_gateways_are_told_roles_and_which_engines_belong_together(world: World) -> None:
    await world.store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="acme")))
    for asked, told in ((None, MIN_PROMPT_TOKENS), (7, 7)):
        await world.apply_endpoint(**roles(), minPromptTokens=asked)
        await world.step()
        for name in ("chat-decode-0", "chat-prefill-0"):
            await world.start(name)
        await world.step()
        [route] = (await build_routing_table(world.store)).routes
        assert [(r.id, r.role, r.endpoint, r.min_prompt_tokens) for r in route.replicas] == [
            ("chat-decode-0", "decode", "lab/chat", 0),
            ("chat-prefill-0", "prefill", "lab/chat", told),
        ]
