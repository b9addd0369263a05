"""What a training worker is told: the contents of ``job.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.errors import InvalidInput, Problem

JOB_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"

# Ranks for which the engine can reserve room (its --max-lora-rank).
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Lora:
    """Shape of the adapter. The update is scaled by ``alpha / rank``."""

    rank: int = 8
    alpha: int = 16
    target_modules: tuple[str, ...] = DEFAULT_TARGET_MODULES


@dataclass(frozen=True)
class TrainJob:
    """One supervised LoRA job with every hyper-parameter resolved to a number.

    ``base_model`` is a folder or a hub name, ``training_file`` and ``validation_file`` are JSONL chat files,
    of which messages speak by ``training_file_name`` and ``validation_file_name``; ``adapter_dir`` is where
    the finished adapter appears. ``max_length`` is in tokens per row.
    """

    job_id: str
    base_model: str
    training_file: str
    adapter_dir: str
    n_epochs: int
    batch_size: int
    learning_rate: float
    validation_file: str | None = None
    training_file_name: str = ""
    validation_file_name: str = ""
    method: str = "supervised"
    suffix: str | None = None
    seed: int = 0
    max_length: int = 1024
    threads: int = 2
    lora: Lora = field(default_factory=Lora)

    def to_dict(self) -> dict[str, Any]:
        """The job as plain JSON data; ``parse_job`` reads it back."""
        return dataclasses.asdict(self)


def parse_job(data: object) -> TrainJob:
    """Read a job from JSON data. Raises ``InvalidInput`` naming every wrong field."""
    if not isinstance(data, Mapping):
        raise InvalidInput(f"{JOB_FILE} must hold one JSON object")
    problems = [*_shape_problems(data, TrainJob, ""), *_lora_shape_problems(data.get("lora"))]
    if not problems:
        job = _build(data)
        problems = _value_problems(job)
        if not problems:
            return job
    text = "; ".join(f"{p.path}: {p.message}" for p in problems)
    raise InvalidInput(f"{JOB_FILE} is wrong: {text}", param=problems[0].path, problems=tuple(problems))


def _build(data: Mapping[str, Any]) -> TrainJob:
    values = dict(data)
    lora = dict(values.pop("lora", None) or {})
    if "target_modules" in lora:
        lora["target_modules"] = tuple(lora["target_modules"])
    values["learning_rate"] = float(values["learning_rate"])
    return TrainJob(**values, lora=Lora(**lora))


_TEXT, _COUNT, _NUMBER, _MAYBE_TEXT = "a text", "an integer", "a number", "a text or null"
_SOME_TEXT = "a text, also an empty one"
_TYPES = {
    "job_id": _TEXT, "base_model": _TEXT, "training_file": _TEXT, "adapter_dir": _TEXT, "method": _TEXT,
    "n_epochs": _COUNT, "batch_size": _COUNT, "seed": _COUNT, "max_length": _COUNT, "threads": _COUNT,
    "training_file_name": _SOME_TEXT, "validation_file_name": _SOME_TEXT,
    "learning_rate": _NUMBER, "validation_file": _MAYBE_TEXT, "suffix": _MAYBE_TEXT,
    "rank": _COUNT, "alpha": _COUNT,
}  # fmt: skip


def _shape_problems(data: Mapping[str, Any], kind: type, prefix: str) -> list[Problem]:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    problems = [Problem(prefix + str(name), "unknown field") for name in data if name not in fields]
    for name, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if name not in data:
            if required:
                problems.append(Problem(prefix + name, "is missing"))
        elif name in _TYPES and not _is(data[name], _TYPES[name]):
            problems.append(Problem(prefix + name, f"must be {_TYPES[name]}"))
    return problems


def _lora_shape_problems(lora: object) -> list[Problem]:
    if lora is None:
        return []
    if not isinstance(lora, Mapping):
        return [Problem("lora", "must be an object")]
    problems = _shape_problems(lora, Lora, "lora.")
    modules = lora.get("target_modules", ())
    if not isinstance(modules, list | tuple) or not all(isinstance(module, str) for module in modules):
        problems.append(Problem("lora.target_modules", "must be a list of texts"))
    return problems


def _is(value: object, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str) and value != ""
    if kind == _SOME_TEXT:
        return isinstance(value, str)
    if kind == _MAYBE_TEXT:
        return value is None or isinstance(value, str)
    if isinstance(value, bool):
        return False
    return isinstance(value, int) if kind == _COUNT else isinstance(value, int | float)


def _value_problems(job: TrainJob) -> list[Problem]:
    rules = (
        ("method", job.method == "supervised", "only `supervised` can be trained"),
        ("n_epochs", 1 <= job.n_epochs <= 50, "must be from 1 to 50"),
        ("batch_size", 1 <= job.batch_size <= 256, "must be from 1 to 256"),
        ("learning_rate", 0 < job.learning_rate <= 1, "must be above 0 and at most 1"),
        ("seed", 0 <= job.seed <= 2**31 - 1, "must be from 0 to 2147483647"),
        ("max_length", job.max_length >= 8, "must be at least 8 tokens"),
        ("threads", job.threads >= 1, "must be at least 1"),
        ("lora.rank", job.lora.rank in LORA_RANKS, f"must be one of {', '.join(map(str, LORA_RANKS))}"),
        ("lora.alpha", job.lora.alpha >= 1, "must be at least 1"),
        ("lora.target_modules", len(job.lora.target_modules) > 0, "must name at least one module"),
    )
    return [Problem(path, message) for path, holds, message in rules if not holds]
