"""Rerank, score, tokenize and detokenize through a whole gateway."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.inference.gateway.front_scene import Front, front_scene

RERANK: dict[str, Any] = {"model": "tiny", "query": "a b", "documents": ["c d", "e"]}
SCORE: dict[str, Any] = {"model": "tiny", "text_1": "a b", "text_2": ["c d", "e"]}


@pytest.mark.parametrize(("path", "body"), [("/v1/rerank", RERANK), ("/v1/score", SCORE)])
async def test_texts_are_billed_as_those_of_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    routes = {"tasks": ("embeddings",), "backend_model": "weights-7"}
    async with front_scene(tmp_path, monkeypatch, routes=routes) as front:
        answer = await front.ask(body, path)
        assert (answer.status, answer.json["model"]) == (200, "tiny")
        assert len(answer.json.get("results") or answer.json["data"]) == 2
        [event] = front.spooled()
        assert (event["quantities"], event["labels"]["task"]) == ({"prompt_tokens": 5}, "embeddings")


async def test_a_model_that_does_not_embed_says_what_it_serves(front: Front) -> None:
    answer = await front.ask(RERANK, "/v1/rerank")
    assert (answer.status, answer.error["code"]) == (404, "task_not_served")
    assert "it serves chat, completions, messages" in answer.error["message"]


async def test_tokens_are_told_and_not_billed(front: Front) -> None:
    answer = await front.ask({"model": "tiny", "prompt": "a bc"}, "/v1/tokenize")
    assert (answer.status, answer.json["tokens"]) == (200, [1, 2])
    answer = await front.ask({"model": "tiny", "tokens": [1, 2]}, "/v1/detokenize")
    assert (answer.status, answer.json) == (200, {"prompt": "x xx"})
    answer = await front.ask({"model": "tiny", "prompt": "a"}, "/v1/tokenize", secret="ck-guess")
    assert answer.status == 401
    assert front.spooled() == []
