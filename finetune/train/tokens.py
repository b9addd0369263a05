"""Counts the tokens that an optimizer has really learned from: a cancelled job is billed by this count."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from trl import SFTTrainer

from finetune.train.data import IGNORED


class TokenCounter(TrainerCallback, ExportableState):
    """``trained_tokens``: trained labels in all batches up to the last optimizer step.

    It is saved with the trainer's state: a run that goes on from a checkpoint begins with the count of that
    checkpoint, so steps that are done again after a kill count once.
    """

    def __init__(self) -> None:
        self.trained_tokens = 0
        self._pending_tokens = 0

    def see(self, labels: torch.Tensor) -> None:
        """Note a batch that was learned from; the next optimizer step makes it count."""
        self._pending_tokens += int((labels != IGNORED).sum())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trained_tokens = state.stateful_callbacks[type(self).__name__]["attributes"]["trained_tokens"]
        self._pending_tokens = 0

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trained_tokens += self._pending_tokens
        self._pending_tokens = 0

    def state(self) -> dict[str, Any]:
        """What is saved in a checkpoint."""
        return {"args": {}, "attributes": {"trained_tokens": self.trained_tokens}}


class CountingTrainer(SFTTrainer):
    """An ``SFTTrainer`` that tells a counter of each batch that it learns from."""

    def __init__(self, counter: TokenCounter, **options: Any) -> None:
        self._counter = counter
        super().__init__(**options)
        self.add_callback(counter)

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        self._counter.see(inputs["labels"])
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        return loss
