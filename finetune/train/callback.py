"""What the worker does between two training steps: tell, save, and stop when asked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from common.errors import ComputilityError
from finetune.core.job import CHECKPOINTS_FOLDER
from finetune.train.adapter import mark_complete, save_adapter
from finetune.train.events import EventLog
from finetune.train.tokens import TokenCounter

_TRAIN_FIELDS = {"loss": "train_loss", "mean_token_accuracy": "train_mean_token_accuracy"}
_VALID_FIELDS = {"eval_loss": "valid_loss", "eval_mean_token_accuracy": "valid_mean_token_accuracy"}


class Progress(TrainerCallback):
    """Writes metrics and checkpoints of a job. Set ``stop`` to end after the current step, state saved."""

    def __init__(self, events: EventLog, job_dir: Path, base_model: str, lineage: dict[str, Any]) -> None:
        self._events, self._job_dir = events, job_dir
        self._base_model, self._lineage = base_model, lineage
        self._latest: dict[str, Any] = {}
        self.counter = TokenCounter()
        self.stop = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self.stop:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for fields in (_TRAIN_FIELDS, _VALID_FIELDS):
            values: dict[str, Any] = {
                ours: float(logs[theirs]) for theirs, ours in fields.items() if logs and theirs in logs
            }
            if not values:
                continue
            if not all(map(math.isfinite, values.values())):
                raise ComputilityError(
                    f"the loss is not a number at step {state.global_step}; lower the learning rate"
                )
            self._latest.update(values)
            text = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())
            self._events.write(
                "metrics",
                f"Step {state.global_step}/{state.max_steps}: {text}",
                step=state.global_step,
                total_steps=state.max_steps,
                trained_tokens=self.counter.trained_tokens,
                **values,
            )

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PeftModel | None = None,
        **kwargs: Any,
    ) -> None:
        # The mark comes last: a worker killed before it goes on from an older state and tells this one again.
        if model is not None and math.isclose(state.epoch or 0.0, round(state.epoch or 0.0), abs_tol=1e-6):
            self._tell_checkpoint(state, model)
        mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")

    def _tell_checkpoint(self, state: TrainerState, model: PeftModel) -> None:
        step = state.global_step
        target = self._job_dir / CHECKPOINTS_FOLDER / f"step-{step}"
        so_far = {"step": step, "trained_tokens": self.counter.trained_tokens}
        digest = save_adapter(model, target, self._base_model, {**self._lineage, **so_far})
        self._events.write(
            "checkpoint",
            f"Checkpoint at step {step}/{state.max_steps}",
            step=step,
            total_steps=state.max_steps,
            epoch=round(state.epoch or 0),
            path=str(target),
            adapter_sha256=digest,
            **self._latest,
        )
