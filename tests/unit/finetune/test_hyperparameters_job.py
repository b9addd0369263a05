from __future__ import annotations

from typing import Any

import pytest

from common.errors import InvalidInput
from finetune.core.job import Lora, TrainJob, parse_job


def _data(**changes: Any) -> dict[str, Any]:
    job = TrainJob(
        job_id="ftjob-1",
        base_model="models/tiny",
        training_file="train.jsonl",
        adapter_dir="adapter",
        n_epochs=3,
        batch_size=4,
        learning_rate=1e-3,
        lora=Lora(rank=16, alpha=32, target_modules=("q_proj",)),
    )
    return job.to_dict() | changes


def test_a_job_survives_writing_and_reading() -> None:
    assert parse_job(_data()).to_dict() == _data()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"method": "dpo"}, "method"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"n_epochs": "3"}, "n_epochs"),
        ({"batch_size": True}, "batch_size"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"colour": "red"}, "colour"),
        ({"lora": {"rank": 12}}, "lora.rank"),
        ({"lora": {"rank": 8, "dora": True}}, "lora.dora"),
        ({"lora": {"target_modules": "q_proj"}}, "lora.target_modules"),
        ({"lora": 8}, "lora"),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_job(_data(**changes))
    assert path in [problem.path for problem in caught.value.problems] or caught.value.param == path


def test_a_missing_field_is_named() -> None:
    data = _data()
    del data["base_model"]
    with pytest.raises(InvalidInput, match="base_model: is missing"):
        parse_job(data)
