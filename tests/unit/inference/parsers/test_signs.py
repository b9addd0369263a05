"""What is read of a model's files, whatever lies there."""

import json
import os
from pathlib import Path

import pytest

from inference import model_files
from inference.parsers.choose import ModelSigns
from inference.parsers.signs import signs_of


def write(folder: Path, **files: object) -> Path:
    """Files by name; ``__`` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_every_place_of_a_template_is_looked_at(tmp_path: Path) -> None:
    listed = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools }}"}, 7]
    places: tuple[dict[str, object], ...] = (
        {"chat_template__jinja": "{{ tools }}"},
        {"chat_template__json": {"chat_template": "{{ tools }}"}},
        {"tokenizer_config__json": {"chat_template": "{{ tools }}"}},
        {"tokenizer_config__json": {"chat_template": listed}},
    )
    for place, files in enumerate(places):
        folder = write(tmp_path / str(place) / "Mine", config__json={"model_type": "llama"}, **files)
        found = signs_of("$(HOME_DIR)/models/p/Mine", folder)
        assert (found.name, found.model_type) == ("Mine", "llama")
        assert found.template is not None
        assert "{{ tools }}" in found.template


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"chat_template": 3}', '{"chat_template": [[]]}', "\xff"]
)
def test_what_cannot_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    folder = write(tmp_path / "m", config__json=content, tokenizer_config__json=content)
    found = signs_of("m", folder)
    assert (found.model_type, (found.template or "").strip()) == ("", "")


def test_nothing_without_end_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", config__json={"model_type": "llama"})
    os.mkfifo(folder / "tokenizer_config.json")
    with (folder / "chat_template.jinja").open("wb") as file:
        file.truncate(model_files.CONFIG_BYTES + 1)
    assert not (signs_of("m", folder).template or "").strip()


def test_a_tokenizer_with_a_template_of_its_own_is_not_seen_through(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", config__json={"model_type": "mistral3"}, tekken__json={})
    assert signs_of("m", folder) == ModelSigns("m", "mistral3", None)


def test_a_model_of_the_hub_is_seen_where_this_machine_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "HUB_CACHE", str(tmp_path))
    assert signs_of("org/mine", None) == ModelSigns("org/mine")
    folder = tmp_path / "models--org--mine" / "snapshots" / "abc"
    write(folder, config__json={"model_type": "qwen3"}, chat_template__jinja="{{ tools }}")
    assert signs_of("org/mine", None) == ModelSigns("org/mine", "qwen3", "{{ tools }}")
