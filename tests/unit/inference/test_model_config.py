"""Where the config.json of a Model is found, and what is said where it is not."""

import json
import os
from pathlib import Path

import pytest

from common.errors import InvalidInput
from inference import model_files
from inference.model_config import MAX_BYTES, find_config

NAME = "acme/never-published-7b"


def test_a_local_model_has_it_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 8}')
    assert find_config("$(HOME_DIR)/models/tiny", tmp_path) == {"hidden_size": 8}


def test_of_a_hub_name_the_newest_snapshot_in_the_cache_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "HUB_CACHE", str(tmp_path))
    for at, name in enumerate(("b", "a")):
        snapshot = tmp_path / "models--acme--never-published-7b" / "snapshots" / name
        snapshot.mkdir(parents=True)
        file = snapshot / "config.json"
        file.write_text(json.dumps({"hidden_size": at}))
        os.utime(file, (1000 + at, 1000 + at))
    assert find_config(NAME, tmp_path) == {"hidden_size": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no config.json"),
        (b"{", "config.json"),
        (b"[]", "must be a mapping"),
        (b" " * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
    ],
)
def test_what_is_missing_or_unreadable_is_said_with_what_to_do(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=said) as refused:
        find_config("$(HOME_DIR)/models/tiny", tmp_path)
    assert refused.value.param == "spec.model"
    assert str(tmp_path) not in refused.value.message


def test_a_hub_name_that_is_not_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "HUB_CACHE", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"hub cache.*--model-config"):
        find_config(NAME, tmp_path)


def test_a_projects_folder_shows_no_configuration_of_another(tmp_path: Path) -> None:
    own, other = (tmp_path / "models" / name / "m" for name in ("lab", "secret"))
    for folder in (own, other):
        folder.mkdir(parents=True)
    (other / "config.json").write_text('{"hidden_size": 8}')
    (own / "config.json").symlink_to(other / "config.json")
    source = "$(HOME_DIR)/models/lab/m"
    with pytest.raises(InvalidInput, match="link out of the project's folder"):
        find_config(source, tmp_path, "lab")
    assert find_config(source, tmp_path) == {"hidden_size": 8}, "an administrator may name what he likes"
    (own / "config.json").unlink()
    (own / "real.json").write_text('{"hidden_size": 9}')
    (own / "config.json").symlink_to("real.json")
    assert find_config(source, tmp_path, "lab") == {"hidden_size": 9}
