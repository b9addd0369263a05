"""What a name, a number or a text may be: refused where it enters, with its path."""

import json
from copy import deepcopy
from typing import Any

import pytest

from common import vocabulary
from common.errors import InvalidInput
from common.resources import parse_resource
from common.resources.meta import API_VERSION
from finetune.api.requests import parse_create_job

ENDPOINT: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "Endpoint",
    "metadata": {"name": "chat", "project": "web"},
    "spec": {"model": "tiny"},
}


def endpoint(path: str, value: object) -> dict[str, Any]:
    """The Endpoint with a value at a path like ``spec.devices.tflops``."""
    document = deepcopy(ENDPOINT)
    *parents, last = path.split(".")
    place = document
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return document


def refusal(document: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        parse_resource(document)
    return refused.value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "chat\n"),
        ("metadata.name", "c" * 64),
        ("metadata.name", ""),
        ("metadata.project", "web\n"),
        ("metadata.project", "w" * 64),
        ("metadata.labels", {"team": "a\tb"}),
        ("metadata.labels", {"team\n": "a"}),
        ("metadata.labels", {f"l{n}": "" for n in range(65)}),
        ("metadata.annotations", {"note": "x" * 65_537}),
        ("metadata.annotations", {"one": "x" * 40_000, "two": "x" * 40_000}),
        ("metadata.createdMs", 10**400),
        ("spec.model", "tiny\n"),
        ("spec.servedName", "ti\tny"),
        ("spec.servedName", "tiny\n"),
        ("spec.servedName", " tiny"),
        ("spec.servedName", "ti\u200bny"),
        ("spec.servedName", "\u202etiny"),
        ("spec.servedName", "tiny\ufe0f"),
        ("spec.servedName", "ti\u3164ny"),
        ("spec.servedName", "ti\u200dny"),
        ("spec.servedName", "tiny\U000e0041"),
        ("spec.servedName", "t" * 129),
        ("spec.servedName", "\ud800"),
        ("spec.priority", 10**9),
        ("spec.devices.memoryBytes", 10**400),
        ("spec.devices.memoryBytes", 10**30),
        ("spec.devices.hostMemoryBytes", 10**16),
        pytest.param("spec.devices.cpuMillis", 10**5000, id="too many digits for Python"),
        ("spec.devices.tflops", float("inf")),
        ("spec.devices.tflops", float("nan")),
        ("spec.devices.tflops", 1e16),
        ("spec.devices.models", ["H100"] * 65),
        ("spec.devices.models", ["x" * 129]),
        ("spec.devices.nodeLabels", {"": "x"}),
        ("spec.devices.dtype", "bf16\n"),
        ("spec.engine.args", ["x" * 16_385]),
        ("spec.engine.args", ["x" * 10_000, "y" * 10_000]),
        ("spec.engine.args", ["--a\x1b[31m"]),
        ("spec.engine.env", {"A=B": "c"}),
        ("spec.engine.env", {"A": "\0"}),
        ("spec.engine.maxContextTokens", 10**12),
        ("spec.nothing", {"x": [[[]]]}),
    ],
)
def test_what_would_break_something_later_is_refused_where_it_enters(path: str, value: object) -> None:
    error = refusal(endpoint(path, value))
    assert path in f"{error.param} {error.message}"
    assert len(error.message) < 4096
    error.message.encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "c" * 63),
        ("metadata.name", "llama-3.1-8b"),
        ("metadata.labels", {"computility.io/model": "Qwen/Qwen3 0.6B", "Team_A": ""}),
        ("metadata.annotations", {"note": "several\nlines\tand ütf"}),
        ("spec.servedName", "Qwen/Qwen3:0.6B größer 中文"),
        ("spec.servedName", "t" * 128),
        ("spec.priority", -1_000_000),
        ("spec.devices.memoryBytes", 10**15),
        ("spec.devices.models", ["NVIDIA H100 80GB HBM3"]),
        ("spec.engine.args", ["--chat-template", "{% for m in messages %}\n\t{{ m }}\n{% endfor %}"]),
        ("spec.engine.env", {"HF_HUB_OFFLINE": "1", "_X": ""}),
    ],
)
def test_what_is_odd_but_right_passes(path: str, value: object) -> None:
    assert parse_resource(endpoint(path, value))


def test_a_document_has_a_size_and_a_depth() -> None:
    assert "at most 262144" in refusal(endpoint("spec.devices", {"x" * 300_000: 1})).message
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    assert "nested more than 32 deep" in refusal(endpoint("spec.devices", deep)).message


def test_a_mistake_in_a_very_long_key_is_told_briefly() -> None:
    error = refusal(endpoint("spec.devices", {"x" * 100_000: 1, "y" * 100_000: 1}))
    assert len(error.message) < 400


def test_as_many_as_a_hundred_mistakes_are_named() -> None:
    error = refusal(endpoint("spec.devices", {f"x{n}": n for n in range(5000)}))
    assert len(error.problems) == 100


@pytest.mark.parametrize("suffix", ["zoo\n", "zoo\t", "-zoo", "z" * 65, "zoo\u200b"])
def test_a_suffix_is_checked_whole(suffix: str) -> None:
    body = json.dumps({"model": "tiny", "training_file": "file-1", "suffix": suffix}).encode()
    with pytest.raises(InvalidInput, match="suffix"):
        parse_create_job(body)


def test_one_vocabulary_says_the_same_in_text_and_in_patterns() -> None:
    for code in range(0xFFFF):
        character = chr(code)
        odd = vocabulary.odd_character(character) is not None
        assert odd == (not vocabulary.matches(vocabulary.TEXT_PATTERN, character)) or 0xD800 <= code <= 0xDFFF


def test_harmless_text_holds_no_odd_character_but_tabs_and_line_feeds() -> None:
    text = "".join(map(chr, range(0x3000))) + "\ud800\u202e\ufeff"
    harmless = vocabulary.harmless(text)
    assert "\\x1b" in harmless
    assert vocabulary.odd_character(harmless.replace("\t", "").replace("\n", "")) is None
    assert vocabulary.harmless(harmless) == harmless
    assert len(vocabulary.shortened("\x1b" * 10_000)) == vocabulary.MESSAGE_CHARACTERS
