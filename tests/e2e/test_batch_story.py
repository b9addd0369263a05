"""A batch on a real engine, with the official client: answered and told line by line."""

import json
import time
from typing import Any

import pytest

from tests.fixtures.platform import Running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
WAIT_SECONDS = 180
ASKED = ("What is a watt?", "What is a utility?", "Who is there?", "Which berth is free?")


def line(model: str, number: int, text: str, **more: Any) -> bytes:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 12,
        **more,
    }
    told = {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(told).encode() + b"\n"


def test_a_batch_says_what_the_engine_says_and_what_fails_is_told(running_platform: Running) -> None:
    model = running_platform.model
    lines = [line(model, number, text) for number, text in enumerate(ASKED)]
    lines.append(line("no-such-model", len(ASKED), "Hello?"))
    with running_platform.openai() as client:
        file = client.files.create(file=("lines.jsonl", b"".join(lines)), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        deadline = time.monotonic() + WAIT_SECONDS
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            assert time.monotonic() < deadline, batch
            time.sleep(0.5)
            batch = client.batches.retrieve(batch.id)
        assert batch.status == "completed", batch.errors
        counts = batch.request_counts
        assert counts is not None
        assert (counts.total, counts.completed, counts.failed) == (len(ASKED) + 1, len(ASKED), 1)
        assert batch.output_file_id is not None
        assert batch.error_file_id is not None
        answers = [json.loads(one) for one in client.files.content(batch.output_file_id).iter_lines()]
        [error] = [json.loads(one) for one in client.files.content(batch.error_file_id).iter_lines()]
    assert [one["custom_id"] for one in answers] == [f"q{number}" for number in range(len(ASKED))]
    said = [one["response"]["body"]["choices"][0]["message"]["content"] for one in answers]
    assert all(said), said
    assert error["response"]["status_code"] == 404
    assert error["response"]["body"]["error"]["code"] == "model_not_found"
    assert batch.usage is not None
    usages = [one["response"]["body"]["usage"] for one in answers]
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in usages)
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in usages)
