"""What tenants give to fine-tuning, and what their trainers tell."""

from __future__ import annotations

import json
from typing import Any

from common.errors import InvalidInput
from finetune.api.requests import parse_create_job
from finetune.core.hyperparameters import resolve
from finetune.core.validate import check_rows
from finetune.core.worker_events import last_of, result_csv, whole_lines
from finetune.train.data import token_rows
from tests.fuzz.target import Target, answer, cut, dice, scratch

_NO_LIMIT = 10**9
_EXAMPLES = 40
_MOST_TIME_MS = 2**63 // 1000


class _Words:
    """A tokenizer in its simplest form: a token for each word, after one for the role."""

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> dict[str, list[int]]:
        ids: list[int] = []
        mask: list[int] = []
        for message in messages:
            words = message["content"].split()
            ids += [1, *(2 + len(word) for word in words)]
            mask += [0, *(int(message["role"] == "assistant") for _ in words)]
        return {"input_ids": ids, "assistant_masks": mask}


def check_training_file(raw: bytes) -> None:
    """The check says the same however the file is cut, and what it passes, and nothing else, trains."""
    verdict = check_rows([raw])
    assert check_rows(cut(raw, dice(raw))) == verdict
    json.dumps([problem.message for problem in verdict.problems], ensure_ascii=False).encode()
    with scratch() as folder:
        path = folder / "train.jsonl"
        path.write_bytes(raw)
        made = answer(lambda: token_rows(path, _Words(), _NO_LIMIT), InvalidInput)
    if verdict.is_valid and verdict.examples:
        assert made is not None
        assert len(made.rows) == verdict.examples
    else:
        assert made is None


def check_worker_events(raw: bytes) -> None:
    """Lines of a trainer are told once, however far the file has come, in numbers that can be kept."""
    events, end = whole_lines(raw, 0)
    assert end == raw.rfind(b"\n") + 1
    middle = dice(raw).randint(0, len(raw))
    first, at = whole_lines(raw[:middle], 0)
    second, after = whole_lines(raw[at:], at)
    assert (first + second, after) == (events, end)
    for event in events:
        assert isinstance(event.level, str)
        assert abs(event.created_at) < _MOST_TIME_MS
        json.dumps(
            [event.message, dict(event.data), event.metrics], ensure_ascii=False, allow_nan=False
        ).encode()
        event.count("step")
    last_of(events, "result")
    result_csv(events)


def check_create_job(raw: bytes) -> None:
    """A job that is asked for is refused with the field's name, or has hyper-parameters that can be."""
    body = answer(lambda: parse_create_job(raw), InvalidInput)
    if body is None:
        return
    asked = body.chosen_hyperparameters
    answer(
        lambda: resolve(_EXAMPLES, asked.n_epochs, asked.batch_size, asked.learning_rate_multiplier),
        InvalidInput,
    )


_ROW = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": "Hello there", "weight": 0},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Bye bye", "weight": 1},
    ]
}
_LINE = json.dumps(_ROW).encode() + b"\n"
_PLAIN = b'{"messages":[{"role":"user","content":"\xc3\xa9"},{"role":"assistant","content":"a b"}]}\n'
_EVENT = {
    "type": "metrics",
    "level": "info",
    "created_at": 1_700_000_000,
    "message": "step 1",
    "data": {"step": 1, "train_loss": 0.5, "train_mean_token_accuracy": 0.25, "trained_tokens": 9},
}
_JOB = {
    "model": "tiny",
    "training_file": "file-1",
    "validation_file": "file-2",
    "suffix": "mine",
    "seed": 7,
    "metadata": {"team": "a"},
    "integrations": [],
    "method": {
        "type": "supervised",
        "supervised": {
            "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5}
        },
    },
    "computility": {"queue": "default", "priority": 3, "adapter_rank": 8, "devices": {"count": 1}},
}

TARGETS = (
    Target(
        "training-file",
        "training files, as checked at the door and as read by the worker",
        check_training_file,
        (_LINE * 3, _PLAIN * 2 + _LINE, b"\xef\xbb\xbf" + _LINE, _LINE.replace(b"\n", b"\r\n") * 2 + b"\n\n"),
        ("messages", "role", "content", "name", "weight", "tools", "tool_calls", "refusal", "system", "tool"),
        {"byte order marks": b"\xef\xbb\xbf" * 20_000, "an array cut off": b'{"a":[\n{"b":'},
    ),
    Target(
        "worker-events",
        "lines that trainers write about their work",
        check_worker_events,
        (
            (json.dumps(_EVENT) + "\n").encode() * 3,
            b'{"type":"error","created_at":1,"message":"no","data":{}}\n',
        ),
        (*_EVENT, *_EVENT["data"], "result", "checkpoint", "error", "valid_loss"),  # type: ignore[misc]
        {
            "a time without end": b'{"type":"message","created_at":1e999,"message":"a"}\n',
            "a time beyond all calendars": b'{"type":"message","created_at":1'
            + b"0" * 40
            + b',"message":"a"}\n',
            "a loss that is no number": b'{"type":"metrics","created_at":1,"message":"","data":{"a":NaN}}\n',
            "a loss beyond all floats": b'{"type":"metrics","created_at":1,"message":"","data":{"step":1'
            + b"0" * 320
            + b"}}\n",
            "a list": b"[]\n",
            "a carriage return": b'\r{"type":"message","created_at":1,"message":"a"}\n',
            "a level that is no word": b'{"type":"message","level":[],"created_at":1,"message":"a"}\n',
            "half a character": b'{"type":"message","created_at":1,"message":"\\ud800"}\n',
        },
    ),
    Target(
        "create-job",
        "request bodies of /v1/fine_tuning/jobs",
        check_create_job,
        (
            json.dumps(_JOB).encode(),
            b'{"model":"m","training_file":"f","hyperparameters":{"n_epochs":"auto"}}',
        ),
        (
            *_JOB,
            "supervised",
            "hyperparameters",
            "n_epochs",
            "batch_size",
            "learning_rate_multiplier",
            "auto",
        ),
    ),
)
