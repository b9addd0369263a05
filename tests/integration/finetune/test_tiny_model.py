"""The tiny base model: what decides its weights, when its folder is reused, and what loads it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.tiny_model.__main__ import main
from finetune.tiny_model.make import RECIPE_FILE, Recipe, build_tiny_model, is_complete, is_cut_short
from finetune.tiny_model.text import UNKNOWN, read_corpus
from tests.fixtures.tiny_model import tiny_model

__all__ = ["tiny_model"]

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
SMALL = Recipe(steps=3, hidden_size=64, intermediate_size=128, heads=1, kv_heads=1, vocab_size=512)


def _build(out: Path, recipe: Recipe = SMALL, threads: int = 2) -> bool:
    return build_tiny_model(out, recipe, limit_seconds=600, threads=threads, progress=False)


def _weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "model"
    assert _build(out)
    return out


def test_a_seed_decides_the_weights_and_the_number_of_threads_does_not(small: Path, tmp_path: Path) -> None:
    assert _build(tmp_path / "one-thread", threads=1)
    assert _build(tmp_path / "other-seed", Recipe(**{**vars(SMALL), "seed": 1}))
    assert _weights(tmp_path / "one-thread") == _weights(small)
    assert _weights(tmp_path / "other-seed") != _weights(small)
    assert json.loads((small / RECIPE_FILE).read_text())["training"]["cut_short"] is False


def test_a_finished_model_is_reused_and_one_of_another_recipe_replaced(tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert _build(out)
    before = (out / "model.safetensors").stat().st_ino
    assert not _build(out)
    assert (out / "model.safetensors").stat().st_ino == before
    longer = Recipe(**{**vars(SMALL), "steps": 4})
    assert _build(out, longer)
    assert is_complete(out, longer)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_builders_at_the_same_time_leave_one_complete_folder(tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = [sys.executable, "-m", "finetune.tiny_model", "--out", str(out), "--steps", "1"]
    builders = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [builder.wait(timeout=120) for builder in builders] == [0, 0]
    assert is_complete(out, Recipe(steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_holds_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader")
    assert main(["--out", str(tmp_path), "--steps", "1"]) == 2
    assert "not a tiny model" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_build_that_runs_out_of_time_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    assert main(["--out", str(out), "--steps", "100000", "--seconds", "0.5"]) == 0
    warning = capsys.readouterr().err.splitlines()[-1]
    assert warning.startswith("warning: the machine was too slow or busy")
    assert "of 100000 steps in 0.5 s" in warning
    assert f"delete {out} to build it again" in warning
    training = json.loads((out / RECIPE_FILE).read_text())["training"]
    assert training["cut_short"]
    assert training["steps"] < 100000


def test_a_model_that_ran_out_of_time_is_built_again(tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert build_tiny_model(out, SMALL, limit_seconds=0.01, progress=False)
    assert is_cut_short(out)
    assert _build(out)
    assert not is_cut_short(out)
    assert not _build(out)


def test_the_chat_template_masks_all_but_the_answers(small: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small)
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello, captain."},
        {"role": "user", "content": "Thanks!"},
        {"role": "assistant", "content": "You are welcome."},
    ]
    encoded = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    learned = [id for id, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    end = tokenizer.eos_token
    assert tokenizer.decode(learned) == f"Hello, captain.{end}You are welcome.{end}"


def test_the_shared_test_model_knows_some_answers_and_what_it_does_not_know(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)

    def answer(question: str) -> str:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        output = model.generate(**prompt, max_new_tokens=40, do_sample=False)
        return str(tokenizer.decode(output[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))

    exchanges = list(dict(read_corpus().exchanges).items())[::20]
    assert answer("What is the harbour code word?") == UNKNOWN
    right = sum(answer(question) == expected for question, expected in exchanges)
    assert right >= len(exchanges) // 5, f"only {right} of {len(exchanges)} answers"
