"""Endpoints have tools called as their Model's files say, and say so in their status."""

from pathlib import Path

import pytest

from common.resources.serving import Model
from inference import model_files
from tests.unit.inference.endpoint_world import PROJECT, World

CALLS = "{%- if tools %}<tool_call>{name, arguments}</tool_call>{% endif %}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(model_files, "HUB_CACHE", str(tmp_path / "hub"))
    made = World(tmp_path)
    made.make_model()
    return made


def write_template(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "chat_template.jinja").write_text(text)


async def parser_of(world: World) -> str:
    """That of its engine's command, which its status has to name too."""
    [workload] = (await world.workloads()).values()
    command = workload.spec.roles[0].command
    flag = "--tool-call-parser"
    parser = command[command.index(flag) + 1] if flag in command else ""
    told = (await world.endpoint()).status.tools
    assert told is not None
    assert told.parser == parser
    assert told.reason
    return parser


async def test_a_template_that_takes_tools_has_them_called(world: World) -> None:
    write_template(world.model_path, CALLS)
    await world.apply_model()
    await world.apply_endpoint()
    await world.controller.step()
    assert await parser_of(world) == "hermes"


async def test_files_that_become_others_replace_the_engine(world: World) -> None:
    await world.apply_model()
    await world.apply_endpoint()
    await world.controller.step()
    assert await parser_of(world) == ""
    write_template(world.model_path, CALLS)
    for _ in range(2):
        await world.controller.step()
    assert await parser_of(world) == "hermes"


async def test_what_an_engine_fetches_from_the_hub_replaces_none(world: World, tmp_path: Path) -> None:
    await world.apply_model(source="org/my-tune")
    await world.apply_endpoint()
    await world.controller.step()
    assert await parser_of(world) == ""
    write_template(tmp_path / "hub" / "models--org--my-tune" / "snapshots" / "a", CALLS)
    world.restart_controller()
    await world.controller.step()
    assert await parser_of(world) == ""
    await world.apply_model(source="org/my-tune", shared=True)  # whoever changes it has it looked at again
    for _ in range(2):
        await world.controller.step()
    assert await parser_of(world) == "hermes"


async def test_a_model_whose_files_are_gone_keeps_its_parser(world: World) -> None:
    write_template(world.model_path, CALLS)
    await world.apply_model()
    await world.apply_endpoint()
    await world.controller.step()
    (world.model_path / "config.json").unlink()
    await world.controller.step()
    found = await world.store.get(Model, "tiny", PROJECT)
    assert found.status.tools is not None
    assert (found.status.is_true("Ready"), found.status.tools.parser) == (False, "hermes")


async def test_a_link_out_of_a_projects_folder_is_not_read(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jinja"
    secret.write_text(CALLS)
    folder = tmp_path / "models" / PROJECT / "mine"
    folder.mkdir(parents=True)
    for file in world.model_path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").symlink_to(secret)
    await world.apply_model(source=f"$(HOME_DIR)/models/{PROJECT}/mine")
    await world.controller.step()
    assert (await world.store.get(Model, "tiny", PROJECT)).status.tools is None
