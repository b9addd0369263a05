"""JSON that engines of the installed vLLM write by a schema has bounded spaces, in answers and in calls of
tools; and the flags by which tools are called are vLLM's."""

import json
import subprocess
import sys
from typing import Any

import pytest

from inference.core.engine_command import EngineOptions
from tests.contract.test_engine_flags import parsed

pytestmark = pytest.mark.integration

SCRIPT = """
import json, os, sys
from types import SimpleNamespace
os.environ["COMPUTILITY_JSON_SPACES"] = sys.argv[1]
from inference.engine_plugin import prepare
prepare(); prepare()
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vllm.config.structured_outputs import StructuredOutputsConfig
from vllm.v1.structured_output.backend_types import StructuredOutputOptions as Options
from vllm.v1.structured_output.backend_guidance import GuidanceBackend
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

letters = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
letters["<end>"] = len(letters)
bare = Tokenizer(models.BPE(letters, []))
bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
bare.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>")
config = SimpleNamespace(
    structured_outputs_config=StructuredOutputsConfig(), model_config=None, speculative_config=None
)
kinds = {"xgrammar": XgrammarBackend, "guidance": GuidanceBackend}

def takes(kind, option, spec, text):
    backend = kinds[kind](vllm_config=config, tokenizer=tokenizer, vocab_size=len(letters))
    grammar = backend.compile_grammar(getattr(Options, option), spec)
    ids = tokenizer.encode(text)
    return len(grammar.validate_tokens(ids)) == len(ids)

print(json.dumps([takes(*case) for case in json.loads(sys.argv[2])]))
"""
RANKS = """
from vllm.plugins import load_general_plugins
from vllm.platforms import current_platform
load_general_plugins()
from vllm.v1.sample import sampler
print(hasattr(sampler.batched_count_greater_than, "_torchdynamo_orig_callable") != current_platform.is_cpu())
"""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
TAG = {
    "type": "structural_tag",
    "format": {
        "type": "triggered_tags",
        "triggers": ["<t>"],
        "tags": [{"begin": "<t>", "content": {"type": "json_schema", "json_schema": SCHEMA}, "end": "</t>"}],
    },
}
USUAL, WIDE = '{"a": 1, "b": 2}', '{"a":1,  "b":2}'
CASES = [
    ("xgrammar", "JSON", json.dumps(SCHEMA)),
    ("xgrammar", "JSON_OBJECT", "{}"),
    ("xgrammar", "STRUCTURAL_TAG", json.dumps(TAG)),
]


def answers(spaces: str, cases: list[tuple[str, ...]]) -> list[bool]:
    """In a process of its own, since it changes vLLM's classes."""
    command = [sys.executable, "-c", SCRIPT, spaces, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[bool] = json.loads(done.stdout.splitlines()[-1])
    return found


def written(case: tuple[str, ...], text: str) -> tuple[str, ...]:
    return (*case, f"<t>{text}</t>" if case[1] == "STRUCTURAL_TAG" else text)


@pytest.mark.timeout(300)
def test_spaces_between_words_are_bounded_and_usual_ones_allowed() -> None:
    cases = [written(case, text) for case in CASES for text in (USUAL, WIDE)]
    guided = [("guidance", "JSON", json.dumps(SCHEMA), text) for text in ('{"a":1,"b":2}', USUAL)]
    assert answers("1", [*cases, *guided]) == [True, False] * 4
    assert answers("0", cases) == [True] * 6  # as vLLM has it


def test_the_command_line_is_one_of_vllms() -> None:
    found = parsed(EngineOptions("org/m", "m", tool_parser="hermes", reasoning_parser="qwen3"))
    assert (found.enable_auto_tool_choice, found.tool_call_parser) == (True, "hermes")
    assert found.tool_strict_level == "parameter"
    assert found.reasoning_parser == "qwen3"


def test_what_an_endpoints_arguments_say_comes_last_and_counts() -> None:
    args = ("--tool-call-parser=mistral", "--no-enable-auto-tool-choice", "--tool-strict-level", "auto")
    found = parsed(EngineOptions("org/m", "m", tool_parser="hermes", args=args))
    assert (found.enable_auto_tool_choice, found.tool_call_parser) == (False, "mistral")
    assert found.tool_strict_level == "auto"


def test_nothing_is_compiled_for_the_first_who_asks_for_log_probabilities_on_cpus() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RANKS], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.splitlines()[-1] == "True"
