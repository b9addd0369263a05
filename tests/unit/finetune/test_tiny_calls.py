"""The dialogues from which the tiny model learns to call tools and to answer in JSON."""

import json
import random
from pathlib import Path

import pytest

from finetune.tiny_model.calls import call_dialogues, object_dialogues, read_calls, text_of
from finetune.tiny_model.text import CORPUS, read_corpus


def test_what_is_called_is_offered_and_every_brace_is_filled() -> None:
    calls, plain = read_calls(CORPUS), list(read_corpus().exchanges)
    made = list(call_dialogues(calls, plain, random.Random(0), 120))
    assert made == list(call_dialogues(calls, plain, random.Random(0), 120))
    called = 0
    for chat, tools in made:
        offered = {tool["function"]["name"]: tool["function"]["parameters"]["properties"] for tool in tools}
        for message in chat:
            for call in message.get("tool_calls", ()):
                called += 1
                assert set(call["function"]["arguments"]) == set(offered[call["function"]["name"]])
        assert "{city}" not in " ".join(text_of(chat))
        assert chat[-1]["role"] == "assistant"
    assert called > len(made) // 2


def test_every_object_is_json() -> None:
    for _, answer in object_dialogues(read_calls(CORPUS), random.Random(0), 60):
        assert isinstance(json.loads(answer["content"]), dict)


def test_a_line_out_of_place_is_told(tmp_path: Path) -> None:
    for name in ("values.txt", "objects.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "tools.txt").write_text("T: add (a)\nR: one\nQ: two\nA: three\n")
    with pytest.raises(ValueError, match=r"tools.txt: expected T, Q, R, A in turns, at: T: add"):
        read_calls(tmp_path)
