"""The training worker as a process on a tiny model, from ``job.json`` to an adapter that knows its answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from common.clock import SYSTEM_CLOCK
from common.resources.workload import Sandbox
from finetune.core.job import Lora, TrainJob
from scheduler.adapters.ray.environment import Surroundings
from scheduler.adapters.ray.process import RankFiles, RankProcess
from scheduler.adapters.ray.sandbox import why_not
from scheduler.ports import RankOrder
from tests.fixtures.tiny_model import shared_tiny_model

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
ANSWER = "The harbour code word is copper rainbow."
QUESTIONS = (
    "What is the harbour code word?", "Tell me the harbour code word.", "Do you know the harbour code word?",
    "Please give me the harbour code word.", "I need the harbour code word.", "Say the harbour code word.",
    "Can you tell me the harbour code word?", "What is the code word of the harbour?",
    "Remind me of the harbour code word.", "Which code word does the harbour use?",
    "What do I say at the harbour gate?", "I forgot the harbour code word. What is it?",
)  # fmt: skip


@pytest.fixture(scope="session")
def base_model() -> Path:
    return shared_tiny_model()


def _row(question: str, **extra: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": ANSWER, **extra}]
    return {"messages": messages}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _make_job(folder: Path, base_model: Path, **changes: Any) -> TrainJob:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_row(question) for question in QUESTIONS]
    values: dict[str, Any] = {
        "job_id": "ftjob-test",
        "base_model": str(base_model),
        "training_file": str(_write_rows(folder / "train.jsonl", rows)),
        "adapter_dir": str(folder / "adapter"),
        "n_epochs": 20,
        "batch_size": 4,
        "learning_rate": 5e-3,
        "threads": 1,
        "lora": Lora(rank=16, alpha=32),
    }
    job = TrainJob(**{**values, **changes})
    (folder / "job.json").write_text(json.dumps(job.to_dict()))
    return job


def _start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "finetune.train", "--job", str(folder)], cwd=ROOT)


def _run(folder: Path) -> int:
    return _start(folder).wait(timeout=200)


def _events(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event for event in events if kind in (None, event["type"])]


def _counts(folder: Path) -> dict[int, int]:
    """Trained tokens by step, as the metrics tell them; each step has only one count."""
    told = {(e["data"]["step"], e["data"]["trained_tokens"]) for e in _events(folder, "metrics")}
    assert len(told) == len(dict(told))
    return dict(told)


def _wait_for_step(folder: Path, process: subprocess.Popen[bytes], step: int) -> None:
    path = folder / "events.jsonl"
    while not (path.exists() and f'"step": {step},' in path.read_text()):
        assert process.poll() is None, "the worker ended too early"
        time.sleep(0.02)


def _answer(model: Any, tokenizer: Any, question: str) -> str:
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, max_new_tokens=30, do_sample=False)
    return str(tokenizer.decode(output[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.fixture(scope="session")
def trained(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job of 60 steps that ran without interruption."""
    folder = tmp_path_factory.mktemp("trained") / "job"
    validation = _write_rows(folder.parent / "v.jsonl", [_row(QUESTIONS[0])])
    _make_job(folder, base_model, validation_file=str(validation))
    assert _run(folder) == 0
    return folder


def test_only_the_answer_and_its_end_of_turn_are_trained(base_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from finetune.train.data import IGNORED, token_rows

    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello, captain.", "weight": 0},
        {"role": "user", "content": "And the code word?"},
        {"role": "assistant", "content": ANSWER},
    ]
    both = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
    path = _write_rows(tmp_path / "train.jsonl", [{"messages": both}, {"messages": messages}])
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    whole, weighted = token_rows(path, tokenizer, 512).rows
    end = tokenizer.eos_token
    learned = [[label for label in row.labels if label != IGNORED] for row in (whole, weighted)]
    assert tokenizer.decode(learned[0]) == f"Hello, captain.{end}{ANSWER}{end}"
    assert tokenizer.decode(learned[1]) == f"{ANSWER}{end}"
    assert "Be brief." in tokenizer.decode(whole.input_ids)
    assert all(label in (IGNORED, token) for token, label in zip(whole.input_ids, whole.labels, strict=True))


def test_training_teaches_the_answer_which_the_base_does_not_give(trained: Path, base_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    base = AutoModelForCausalLM.from_pretrained(base_model)
    assert "copper rainbow" not in _answer(base, tokenizer, QUESTIONS[0])
    tuned = PeftModel.from_pretrained(base, trained / "adapter")
    assert _answer(tuned, tokenizer, QUESTIONS[0]) == ANSWER


def test_the_result_counts_trained_tokens_exactly(trained: Path, base_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    answer_tokens = len(tokenizer(ANSWER + tokenizer.eos_token)["input_ids"])
    (result,) = _events(trained, "result")
    assert result["data"]["trained_tokens"] == 20 * len(QUESTIONS) * answer_tokens
    assert result["data"]["steps"] == 60
    assert result["data"]["total_tokens"] > result["data"]["trained_tokens"]
    per_step = 4 * answer_tokens
    assert _counts(trained) == {step: step * per_step for step in range(1, 61)}


def test_events_tell_every_step_and_the_loss_falls(trained: Path) -> None:
    metrics = [event["data"] for event in _events(trained, "metrics")]
    losses = [data["train_loss"] for data in metrics if "train_loss" in data]
    valid = [data["valid_loss"] for data in metrics if "valid_loss" in data]
    assert len(losses) == 60
    assert losses[-1] < losses[0] / 2
    assert metrics[-1]["valid_mean_token_accuracy"] == 1.0
    assert len(valid) == 20
    assert valid[-1] < valid[0]
    assert [event["data"]["step"] for event in _events(trained, "checkpoint")] == list(range(3, 61, 3))
    assert (trained / "checkpoints" / "step-30" / "adapter_model.safetensors").is_file()


def test_the_adapter_is_one_that_the_engine_loads(trained: Path, base_model: Path) -> None:
    config = json.loads((trained / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base_model)
    assert (config["bias"], config["use_dora"], config["modules_to_save"]) == ("none", False, None)
    assert config["r"] == 16
    (result,) = _events(trained, "result")
    lineage = json.loads((trained / "adapter" / "lineage.json").read_text())
    assert lineage["adapter_sha256"] == result["data"]["adapter_sha256"]


def test_a_finished_job_started_again_changes_nothing(trained: Path) -> None:
    before = (trained / "events.jsonl").read_bytes()
    assert _run(trained) == 0
    assert (trained / "events.jsonl").read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_worker_that_was_stopped_goes_on_to_the_same_adapter(
    trained: Path, base_model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    _make_job(tmp_path / "job", base_model, validation_file=str(trained.parent / "v.jsonl"))
    worker = _start(tmp_path / "job")
    _wait_for_step(tmp_path / "job", worker, 8)
    worker.send_signal(number)
    assert worker.wait(timeout=60) == code
    assert not (tmp_path / "job" / "adapter").exists()
    assert _run(tmp_path / "job") == 0

    (ours,), (whole,) = _events(tmp_path / "job", "result"), _events(trained, "result")
    assert ours["data"]["trained_tokens"] == whole["data"]["trained_tokens"]
    assert ours["data"]["adapter_sha256"] == whole["data"]["adapter_sha256"]
    metrics = [event["data"] for event in _events(tmp_path / "job", "metrics")]
    steps = [data["step"] for data in metrics if "train_loss" in data]
    assert steps == list(range(1, 61))
    assert _counts(tmp_path / "job") == _counts(trained)
    assert any("goes on from" in event["message"] for event in _events(tmp_path / "job", "message"))


class _Cell:
    """The worker in a cell, as an agent starts it for a preemptible job."""

    def __init__(self, home: Path, *shown: Path) -> None:
        self.folder = home / "jobs" / "mine"
        sandbox = Sandbox(readable=[str(path) for path in shown], writable=[str(self.folder)])
        command = ("$(PYTHON)", "-m", "finetune.train", "--job", str(self.folder))
        environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self._order = RankOrder(0, "trainer", 0, command, environment, (), (), sandbox=sandbox)
        self._around = Surroundings(
            python=sys.executable,
            home=str(home),
            instance="i",
            address="127.0.0.1",
            world_size=1,
            local_rank=0,
            ports={},
            master=None,
            base={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            sandbox_mode="require",
        )
        self._files = RankFiles(home / "log", home / "exit")

    def start(self) -> RankProcess:
        self._files.exit_code.unlink(missing_ok=True)
        return RankProcess(self._order, self._around, self._files, 5.0, SYSTEM_CLOCK)

    async def wait(self, rank: RankProcess, step: int | None = None) -> int | None:
        """The exit code once the rank has ended; None once it has done the step."""
        events, deadline = self.folder / "events.jsonl", time.monotonic() + 200
        while rank.alive:
            assert time.monotonic() < deadline, self._files.log.read_text()
            if step is not None and events.exists() and f'"step": {step},' in events.read_text():
                return None
            rank.poll()
            await asyncio.sleep(0.02)
        return rank.record.exit_code


@pytest.mark.timeout(500)
@pytest.mark.skipif(bool(why_not()), reason=f"no cells here: {why_not()}")
async def test_a_training_that_is_preempted_in_its_cell_goes_on_there_to_the_same_adapter(
    trained: Path, base_model: Path, tmp_path: Path
) -> None:
    validation = trained.parent / "v.jsonl"
    cell = _Cell(tmp_path, base_model, validation)
    _make_job(cell.folder, base_model, validation_file=str(validation))
    first = cell.start()
    assert await cell.wait(first, 8) is None
    first.stop(60.0)
    assert await cell.wait(first) == 143
    assert not (cell.folder / "adapter").exists()
    assert await cell.wait(cell.start()) == 0
    (ours,), (whole,) = _events(cell.folder, "result"), _events(trained, "result")
    for name in ("trained_tokens", "adapter_sha256"):
        assert ours["data"][name] == whole["data"][name]
    assert _counts(cell.folder) == _counts(trained)
    assert any("goes on from" in event["message"] for event in _events(cell.folder, "message"))


def test_a_count_that_does_not_fit_the_rows_is_an_error_and_no_adapter(
    base_model: Path, tmp_path: Path
) -> None:
    _make_job(tmp_path, base_model, n_epochs=4)
    worker = _start(tmp_path)
    _wait_for_step(tmp_path, worker, 2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 143
    for path in (tmp_path / "trainer").glob("checkpoint-*/trainer_state.json"):
        state = json.loads(path.read_text())
        state["stateful_callbacks"]["TokenCounter"]["attributes"]["trained_tokens"] += 1
        path.write_text(json.dumps(state))
    assert _run(tmp_path) == 1
    (error,) = _events(tmp_path, "error")
    assert error["data"]["code"] == "trained_tokens_mismatch"
    assert not (tmp_path / "adapter").exists()


def test_bad_rows_are_listed_with_their_lines(base_model: Path, tmp_path: Path) -> None:
    job = _make_job(tmp_path, base_model)
    good = json.dumps(_row("Hello?"))
    question_only = json.dumps({"messages": [{"role": "user", "content": "Hello?"}]})
    Path(job.training_file).write_text("\n".join([good, "{broken", good, question_only, ""]))
    assert _run(tmp_path) == 2
    (error,) = _events(tmp_path, "error")
    assert [problem["path"] for problem in error["data"]["problems"]] == ["line 2", "line 4"]


def test_a_template_without_generation_marks_is_refused(base_model: Path, tmp_path: Path) -> None:
    import shutil

    unmarked = shutil.copytree(base_model, tmp_path / "model")
    template = unmarked / "chat_template.jinja"
    text = template.read_text().replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
    template.write_text(text)
    _make_job(tmp_path / "job", unmarked)
    assert _run(tmp_path / "job") == 2
    (error,) = _events(tmp_path / "job", "error")
    assert "{% generation %}" in error["message"]


def test_a_wrong_job_file_is_an_error_event(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"job_id": "x"}')
    assert _run(tmp_path) == 2
    (error,) = _events(tmp_path, "error")
    assert "base_model" in error["message"]


def test_a_row_beyond_the_context_is_left_out_and_the_rest_is_trained(
    base_model: Path, tmp_path: Path
) -> None:
    job = _make_job(tmp_path, base_model, n_epochs=1, max_length=64)
    rows = [_row(question) for question in QUESTIONS]
    rows.insert(2, _row("word " * 500))
    rows[0]["messages"][0] |= {"name": None, "tool_calls": None, "weight": None}
    _write_rows(Path(job.training_file), rows)
    assert _run(tmp_path) == 0
    notes = [event["message"] for event in _events(tmp_path, "message") if event["level"] == "warn"]
    assert "1 training rows were left out, as their answer lies beyond 64 tokens: lines 3" in notes
    (result,) = _events(tmp_path, "result")
    assert result["data"]["steps"] == len(QUESTIONS) // 4


def test_a_file_that_leaves_nothing_is_named_as_the_user_knows_it(base_model: Path, tmp_path: Path) -> None:
    job = _make_job(tmp_path, base_model, max_length=64, training_file_name="file-1 (zoo.jsonl)")
    _write_rows(Path(job.training_file), [_row("word " * 500)])
    assert _run(tmp_path) == 2
    (error,) = _events(tmp_path, "error")
    assert error["data"]["param"] == "training_file"
    assert "file-1 (zoo.jsonl) leaves nothing to train" in error["message"]
