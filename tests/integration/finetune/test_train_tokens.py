"""The count of trained tokens is exact at each step, whatever the batches and wherever training resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig

from finetune.train.data import IGNORED
from finetune.train.tokens import CountingTrainer, TokenCounter

pytestmark = pytest.mark.integration

ROWS, EPOCHS, BATCH = 7, 3, 2
FIRST_ID = 10
TOKENS = [3, 1, 7, 2, 5, 11, 4]
"""Trained tokens of each row: all different sums, so that a wrong order or a lost batch shows."""


class Recorder(TrainerCallback):
    """The count after each step. With ``stop_after`` it saves there and stops."""

    def __init__(self, counter: TokenCounter, stop_after: int = 0) -> None:
        self.counts: dict[int, int] = {}
        self._counter, self._stop_after = counter, stop_after

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.counts[state.global_step] = self._counter.trained_tokens
        if state.global_step == self._stop_after:
            control.should_save = control.should_training_stop = True


def _rows() -> list[dict[str, list[int]]]:
    """Rows that begin with an id of their own and a prompt of one token."""
    return [
        {
            "input_ids": [FIRST_ID + index, 1, *[2] * count],
            "labels": [IGNORED, IGNORED, *[2] * count],
        }
        for index, count in enumerate(TOKENS)
    ]


class Run:
    """A trainer, and the rows that its model has seen while training, batch by batch."""

    def __init__(self, folder: Path, accumulation: int, stop_after: int = 0) -> None:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
        vocabulary = {f"w{number}": number for number in range(32)}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(WordLevel(vocabulary, "w0")), pad_token="w0", eos_token="w3"
        )
        counter = TokenCounter()
        self.recorder = Recorder(counter, stop_after)
        self.trainer = CountingTrainer(
            counter,
            model=LlamaForCausalLM(config),
            args=SFTConfig(
                output_dir=str(folder),
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=BATCH,
                gradient_accumulation_steps=accumulation,
                max_length=None,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                seed=5,
                save_strategy="epoch",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(_rows()),
            eval_dataset=Dataset.from_list(_rows()),
            processing_class=tokenizer,
            callbacks=[self.recorder],
        )
        self.batches: list[list[int]] = []
        self.trainer.model.register_forward_pre_hook(self._on_forward, with_kwargs=True)

    def _on_forward(self, model: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if model.training:
            self.batches.append((kwargs["input_ids"][:, 0] - FIRST_ID).tolist())

    def train(self, resume: Path | None = None) -> dict[int, int]:
        """Counts by step."""
        self.trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return self.recorder.counts


def _recomputed(batches: list[list[int]], accumulation: int) -> dict[int, int]:
    """The counts that the order of the data gives: each step takes ``accumulation`` batches, and the last of
    an epoch what is left."""
    per_epoch = -(-ROWS // BATCH)
    counts: dict[int, int] = {}
    total = 0
    for start in range(0, len(batches), per_epoch):
        epoch = batches[start : start + per_epoch]
        for first in range(0, per_epoch, accumulation):
            total += sum(TOKENS[row] for batch in epoch[first : first + accumulation] for row in batch)
            counts[len(counts) + 1] = total
    return counts


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_count_of_each_step_is_that_of_the_batches_taken(tmp_path: Path, accumulation: int) -> None:
    run = Run(tmp_path, accumulation)
    counts = run.train()
    run.trainer.evaluate()
    assert sorted(row for batch in run.batches for row in batch) == sorted(EPOCHS * list(range(ROWS)))
    assert counts == _recomputed(run.batches, accumulation)
    assert counts[max(counts)] == EPOCHS * sum(TOKENS)


@pytest.mark.parametrize(("accumulation", "stop_after"), [(1, 3), (1, 4), (3, 3), (3, 4)])
def test_a_resumed_run_counts_on_from_its_checkpoint(
    tmp_path: Path, accumulation: int, stop_after: int
) -> None:
    whole = Run(tmp_path / "whole", accumulation).train()
    first = Run(tmp_path / "cut", accumulation, stop_after).train()
    assert first == {step: count for step, count in whole.items() if step <= stop_after}
    again = Run(tmp_path / "cut", accumulation)
    rest = again.train(tmp_path / "cut" / f"checkpoint-{stop_after}")
    assert rest == {step: count for step, count in whole.items() if step > stop_after}
    assert rest[max(rest)] == EPOCHS * sum(TOKENS)
