"""What lies at a model's source: whether it can be served, what it is, and how long its context is."""

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.resources import Metadata, Model
from common.resources.serving import ModelSpec, ModelStatus
from common.settings import Settings
from common.store.memory import MemoryStore
from inference import model_status
from inference.model_files import CONFIG_BYTES, inspect_model, model_digest, within_project
from inference.model_status import ModelStatusKeeper

SOURCE = "$(HOME_DIR)/models/tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that can be served."""
    made = tmp_path / "models" / "tiny"
    made.mkdir(parents=True)
    (made / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
    (made / "model.safetensors").write_bytes(b"weights")
    return made


@pytest.mark.parametrize("weights", ["a.safetensors", "a.bin", "a.gguf", "a.pt"])
def test_any_usual_form_of_weights_will_do(folder: Path, tmp_path: Path, weights: str) -> None:
    (folder / "model.safetensors").rename(folder / weights)
    found = inspect_model(SOURCE, tmp_path)
    assert (found.usable, found.reason, found.path) == (True, "Found", folder)
    (folder / weights).rename(folder / "weights.txt")
    assert inspect_model(SOURCE, tmp_path).reason == "WeightsMissing"


@pytest.mark.parametrize("config", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_cannot_be_read_is_told(folder: Path, tmp_path: Path, config: bytes) -> None:
    (folder / "config.json").write_bytes(config)
    found = inspect_model(SOURCE, tmp_path)
    assert (found.usable, found.reason) == (False, "ConfigUnreadable")
    assert found.message.startswith(f"spec.source: {SOURCE}/config.json: ")


def test_a_config_that_is_a_folder_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert inspect_model(SOURCE, tmp_path).message.endswith("config.json: Is a directory")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["a pipe", "a device", "too long"])
def test_a_config_without_an_end_holds_nobody_up(folder: Path, tmp_path: Path, what: str) -> None:
    """Whoever fills a project's folder fills it with what it likes."""
    file = folder / "config.json"
    file.unlink()
    if what == "a pipe":
        os.mkfifo(file)
    elif what == "a device":
        file.symlink_to("/dev/zero")
    else:
        file.touch()
        os.truncate(file, CONFIG_BYTES + 1)
    found = inspect_model(SOURCE, tmp_path)
    assert (found.usable, found.reason) == (False, "ConfigUnreadable")
    said = f"more than {CONFIG_BYTES} bytes" if what == "too long" else "no regular file"
    assert said in found.message


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 512}}, 512),
        ({"max_position_embeddings": 1, "text_config": {"max_position_embeddings": 512}}, 1),
        ({"max_position_embeddings": 0, "text_config": 7}, None),
        ({"max_position_embeddings": "4096"}, None),
        ([], None),
    ],
)
def test_the_context_is_what_the_config_says(
    folder: Path, tmp_path: Path, config: object, tokens: int | None
) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    assert inspect_model(SOURCE, tmp_path).context_tokens == tokens


def test_a_model_of_a_hub_is_taken_as_it_is(tmp_path: Path) -> None:
    found = inspect_model("org/name", tmp_path)
    assert (found.usable, found.reason, found.path, found.fingerprint) == (True, "OnHub", None, "")


def test_a_digest_is_of_names_and_contents_and_of_no_hidden_file(folder: Path) -> None:
    first = model_digest(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    (folder / ".hidden").write_text("x")
    assert model_digest(folder) == first
    (folder / "sub").mkdir()
    (folder / "sub" / "a").write_text("x")
    second = model_digest(folder)
    (folder / "sub" / "a").rename(folder / "sub" / "b")
    assert len({first, second, model_digest(folder)}) == 3


def test_files_that_change_are_seen_by_size_or_time(folder: Path, tmp_path: Path) -> None:
    first = inspect_model(SOURCE, tmp_path).fingerprint
    assert inspect_model(SOURCE, tmp_path).fingerprint == first
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert inspect_model(SOURCE, tmp_path).fingerprint != first


def test_a_folder_of_a_project_leads_nowhere_else_and_that_of_an_administrator_may(tmp_path: Path) -> None:
    own, other = tmp_path / "models" / "lab" / "m", tmp_path / "elsewhere"
    for path in (own, other):
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
        (path / "model.safetensors").write_bytes(b"w")
    source = "$(HOME_DIR)/models/lab/m"
    files = inspect_model(source, tmp_path)
    assert within_project(files, source, "lab", tmp_path) == files
    (own / "inside").symlink_to(own / "config.json")
    assert within_project(files, source, "lab", tmp_path) == files
    (own / "z").symlink_to(other)
    found = within_project(files, source, "lab", tmp_path)
    assert (found.usable, found.reason) == (False, "LinkLeadsOutside")
    assert f"{source}: z is a link out of the project's folder" in found.message
    assert within_project(files, source, "another", tmp_path) == files, "who may name it is asked elsewhere"


class Keeping:
    """A store with one Model, and who keeps its status."""

    def __init__(self, home: Path) -> None:
        self.store = MemoryStore(VirtualClock())
        self.keeper = ModelStatusKeeper(self.store, Settings(home=home), VirtualClock())

    async def look(self) -> ModelStatus:
        """The status after a look."""
        spec = ModelSpec(source=SOURCE)
        await self.store.apply(Model(metadata=Metadata(name="tiny", project="lab"), spec=spec))
        await self.keeper.observe(await self.store.get(Model, "tiny", "lab"))
        return (await self.store.get(Model, "tiny", "lab")).status


async def test_a_large_model_holds_up_no_pass_and_has_its_digest_once_it_is_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, go_on, keeping = list[Path](), threading.Event(), Keeping(tmp_path)

    def slow(path: Path) -> str:
        made.append(path)
        go_on.wait(20)
        return "digest"

    monkeypatch.setattr(model_status, "_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(model_status, "model_digest", slow)
    for _ in range(2):
        status = await keeping.look()
        assert (status.digest, status.context_tokens) == ("", 1024)
    go_on.set()
    await asyncio.gather(*keeping.keeper._digests.values())
    status = await keeping.look()
    assert (status.digest, made) == ("digest", [folder])
    assert status.observed_generation == 1
    (folder / "config.json").unlink()
    status = await keeping.look()
    assert (status.digest, status.is_true("Ready")) == ("", False)
    await keeping.keeper.close()


async def test_files_that_vanish_while_they_are_read_are_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> str:
        raise FileNotFoundError(path)

    keeping = Keeping(tmp_path)
    monkeypatch.setattr(model_status, "model_digest", gone)
    assert (await keeping.look()).digest == ""
    monkeypatch.undo()
    assert (await keeping.look()).digest == model_digest(folder)
    await keeping.keeper.close()
