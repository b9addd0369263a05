"""The worker of a LoRA job.

    python -m finetune.train --job JOBDIR

Reads ``JOBDIR/job.json``, appends to ``JOBDIR/events.jsonl``, leaves an adapter of every epoch in
``JOBDIR/checkpoints/step-N`` and the finished one at the job's ``adapter_dir``. Started again after it was
killed, it goes on from its last complete state and tells no step twice.

Exit codes: 0 done, 1 failure, 2 bad input (both with an ``error`` event), 143 stopped by SIGTERM.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from common.clock import SYSTEM_CLOCK
from common.errors import ComputilityError, InvalidInput
from finetune.core.job import EVENTS_FILE, JOB_FILE, TrainJob, parse_job
from finetune.train.events import EventLog

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_STOPPED = 0, 1, 2, 143


class Stop:
    """Remembers a SIGTERM. Before training starts there is nothing to save, so it exits at once."""

    def __init__(self) -> None:
        self.asked = False
        self.progress: Any = None
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.progress is None:
            raise SystemExit(EXIT_STOPPED)
        self.progress.stop = True


def run(job_dir: Path) -> int:
    """Train the job in ``job_dir``; returns the exit code."""
    stop = Stop()
    events = EventLog(job_dir / EVENTS_FILE, SYSTEM_CLOCK)
    try:
        job = parse_job(_read_json(job_dir / JOB_FILE))
        if _is_finished(events):
            return EXIT_DONE
        return _train(job, job_dir, events, stop)
    except InvalidInput as error:
        problems = [dataclasses.asdict(problem) for problem in error.problems]
        events.write("error", error.message, "error", code=error.code, param=error.param, problems=problems)
        return EXIT_BAD_INPUT
    except ComputilityError as error:
        events.write("error", error.message, "error", code=error.code, param=error.param, problems=[])
        return EXIT_FAILED
    except Exception as error:
        logging.getLogger(__name__).exception("training failed")
        message = f"training failed: {type(error).__name__}: {error}"
        events.write("error", message, "error", code="training_failed", param=None, problems=[])
        return EXIT_FAILED


def _is_finished(events: EventLog) -> bool:
    """Whether an earlier run told its result and the adapter is still there as it was written."""
    result = events.result()
    if result is None:
        return False
    weights = Path(result["data"]["adapter_path"]) / "adapter_model.safetensors"
    if not weights.is_file():
        return False
    return hashlib.sha256(weights.read_bytes()).hexdigest() == str(result["data"]["adapter_sha256"])


def _train(job: TrainJob, job_dir: Path, events: EventLog, stop: Stop) -> int:
    # Imported here because it takes seconds: a wrong job file is told at once.
    from finetune.train.adapter import last_complete, save_adapter
    from finetune.train.callback import Progress
    from finetune.train.setup import build_trainer, load_inputs

    inputs = load_inputs(job)
    for level, text in inputs.notes:
        events.write("message", text, level)
    progress = Progress(events, job_dir, job.base_model, inputs.lineage)
    trainer = build_trainer(job, inputs, job_dir / "trainer", progress)
    resume = last_complete(job_dir / "trainer")
    events.write("message", f"Training goes on from {resume.name}" if resume else "Training started")
    stop.progress = progress
    outcome = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if trainer.state.global_step < trainer.state.max_steps:
        events.write("message", f"Stopped after step {trainer.state.global_step}", "warn")
        return EXIT_STOPPED
    _check_count(progress.counter.trained_tokens, inputs.trained_tokens)
    digest = save_adapter(trainer.model, Path(job.adapter_dir), job.base_model, inputs.lineage)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    events.write(
        "result",
        f"Trained {inputs.trained_tokens} tokens in {outcome.global_step} steps",
        trained_tokens=inputs.trained_tokens,
        total_tokens=inputs.total_tokens,
        steps=outcome.global_step,
        train_loss=float(losses[-1]) if losses else None,
        adapter_path=str(Path(job.adapter_dir)),
        adapter_sha256=digest,
        template_sha256=inputs.lineage["template_sha256"],
    )
    return EXIT_DONE


def _check_count(counted: int, expected: int) -> None:
    """The tokens counted step by step are billed: they must be those that the rows add up to."""
    if counted != expected:
        raise ComputilityError(
            f"the optimizer learned from {counted} tokens, but the training rows have {expected} over all "
            "epochs; this is an error of the trainer, and the job is not billed",
            code="trained_tokens_mismatch",
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {path.name}: {error}", param=path.name) from error


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="finetune.train", description="Train one LoRA job.")
    parser.add_argument("--job", type=Path, required=True, help=f"folder that holds {JOB_FILE}")
    options = parser.parse_args(arguments)
    if not options.job.is_dir():
        parser.error(f"{options.job} is not a folder")
    return run(options.job)


if __name__ == "__main__":
    sys.exit(main())
