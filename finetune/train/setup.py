"""Load what a job names and build the trainer for it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    set_seed,
)
from trl import SFTConfig

from common.errors import InvalidInput
from finetune.core.job import TrainJob
from finetune.train.adapter import file_digest, lora_config
from finetune.train.callback import Progress
from finetune.train.data import TokenRow, TokenRows, check_template, ends_of_turn_trained, token_rows
from finetune.train.tokens import CountingTrainer

_WARMUP_SHARE = 0.05
_NAMED_LINES = 20


@dataclass(frozen=True)
class Inputs:
    """The tokenized rows and what they add up to over all epochs. ``notes`` are (level, text) events."""

    tokenizer: PreTrainedTokenizerBase
    train: tuple[TokenRow, ...]
    valid: tuple[TokenRow, ...] | None
    trained_tokens: int
    total_tokens: int
    lineage: dict[str, Any]
    notes: list[tuple[str, str]]


def load_inputs(job: TrainJob) -> Inputs:
    """Read tokenizer and data. Raises ``InvalidInput`` for a model or rows that cannot be trained."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(job.base_model)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"cannot load the tokenizer of {job.base_model}: {error}", param="model"
        ) from error
    template = check_template(tokenizer)
    given = token_rows(Path(job.training_file), tokenizer, job.max_length, name=job.training_file_name)
    checked = _validation_rows(job, tokenizer)
    train = given.rows
    trained = job.n_epochs * sum(row.trained_tokens for row in train)
    total = job.n_epochs * sum(len(row.input_ids) for row in train)
    lineage = {
        "job_id": job.job_id,
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "training_file_sha256": file_digest(Path(job.training_file)),
        "seed": job.seed,
        "n_epochs": job.n_epochs,
        "batch_size": job.batch_size,
        "learning_rate": job.learning_rate,
        "trained_tokens": trained,
    }
    valid = checked.rows if checked else None
    return Inputs(tokenizer, train, valid, trained, total, lineage, _notes(job, tokenizer, given, checked))


def _validation_rows(job: TrainJob, tokenizer: PreTrainedTokenizerBase) -> TokenRows | None:
    if not job.validation_file:
        return None
    path, name = Path(job.validation_file), job.validation_file_name
    return token_rows(path, tokenizer, job.max_length, "validation_file", name)


def _notes(
    job: TrainJob, tokenizer: PreTrainedTokenizerBase, given: TokenRows, checked: TokenRows | None
) -> list[tuple[str, str]]:
    rows = given.rows
    trained = sum(row.trained_tokens for row in rows)
    notes = [("info", f"{len(rows)} training rows, {trained} trained tokens per epoch")]
    for kind, lines in (("training", given.left_out), ("validation", checked.left_out if checked else ())):
        if lines:
            what = f"{len(lines)} {kind} rows were left out, as their answer lies beyond"
            notes.append(("warn", f"{what} {job.max_length} tokens: {_list_of(lines)}"))
    cut = [row.line for row in rows if row.truncated]
    if cut:
        notes.append(("warn", f"{len(cut)} rows were cut at {job.max_length} tokens: {_list_of(cut)}"))
    if tokenizer.eos_token_id is not None and not ends_of_turn_trained(rows, {tokenizer.eos_token_id}):
        notes.append(
            ("warn", "the chat template leaves the end-of-turn token untrained; answers may not end")
        )
    return notes


def _list_of(lines: Sequence[int]) -> str:
    """The lines by number; of many only the first."""
    more = len(lines) - _NAMED_LINES
    return f"lines {', '.join(map(str, lines[:_NAMED_LINES]))}" + (f" and {more} more" if more > 0 else "")


def build_trainer(job: TrainJob, inputs: Inputs, work_dir: Path, progress: Progress) -> CountingTrainer:
    """The trainer, on the first accelerator or else on ``job.threads`` CPU threads."""
    accelerated = torch.cuda.is_available()
    if not accelerated:
        torch.set_num_threads(job.threads)
    set_seed(job.seed)
    model = _load_model(job, accelerated)
    steps_per_epoch = -(-len(inputs.train) // job.batch_size)
    config = SFTConfig(
        output_dir=str(work_dir),
        num_train_epochs=job.n_epochs,
        per_device_train_batch_size=job.batch_size,
        per_device_eval_batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(_WARMUP_SHARE * steps_per_epoch * job.n_epochs),
        max_length=None,
        packing=False,
        gradient_checkpointing=accelerated,
        use_cpu=not accelerated,
        bf16=accelerated,
        seed=job.seed,
        data_seed=job.seed,
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="epoch",
        save_total_limit=2,
        eval_strategy="epoch" if inputs.valid else "no",
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=accelerated,
    )
    trainer = CountingTrainer(
        progress.counter,
        model=model,
        args=config,
        train_dataset=_dataset(inputs.train),
        eval_dataset=_dataset(inputs.valid) if inputs.valid else None,
        processing_class=inputs.tokenizer,
        peft_config=lora_config(job),
        callbacks=[progress],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _load_model(job: TrainJob, accelerated: bool) -> PreTrainedModel:
    dtype = torch.bfloat16 if accelerated else torch.float32
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            job.base_model, dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot load {job.base_model}: {error}", param="model") from error
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    missing = [module for module in job.lora.target_modules if module not in names]
    if missing:
        raise InvalidInput(
            f"{job.base_model} has no module {', '.join(missing)}", param="lora.target_modules"
        )
    context = getattr(model.config, "max_position_embeddings", job.max_length)
    if job.max_length > context:
        raise InvalidInput(
            f"max_length {job.max_length} is beyond the context of {context} tokens", param="max_length"
        )
    return model


def _dataset(rows: Sequence[TokenRow]) -> Dataset:
    return Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
