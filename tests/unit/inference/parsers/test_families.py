"""The table of families of models: its parsers are vLLM's, and models that people serve find theirs."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest

from common.vllm_parsers import ReasoningParser, ToolParser
from inference.parsers.choose import ModelSigns, reasoning_for, tools_for
from inference.parsers.families import REASONING_FAMILIES, TOOL_FAMILIES, Family

VLLM = find_spec("vllm")
LISTS = (
    (ToolParser, TOOL_FAMILIES, "tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER"),
    (ReasoningParser, REASONING_FAMILIES, "reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER"),
)
NAMED = """
Qwen/Qwen3-0.6B                              hermes           qwen3
Qwen/Qwen3-235B-A22B-Instruct-2507           hermes           -
Qwen/Qwen3-235B-A22B-Thinking-2507           hermes           qwen3
Qwen/Qwen3-Next-80B-A3B-Instruct             hermes           -
Qwen/Qwen3-VL-8B-Instruct                    hermes           -
Qwen/Qwen3-VL-8B-Thinking                    hermes           qwen3
Qwen/Qwen3-Coder-30B-A3B-Instruct            qwen3_coder      -
Qwen/Qwen3.5-27B                             qwen3_coder      qwen3
Qwen/Qwen3-Embedding-0.6B                    -                -
Qwen/Qwen3-VL-Embedding-2B                   -                -
Qwen/Qwen2.5-7B-Instruct                     hermes           -
Qwen/Qwen2.5-Math-7B-Instruct                -                -
Qwen/QwQ-32B                                 hermes           deepseek_r1
NousResearch/Hermes-3-Llama-3.1-8B           hermes           -
meta-llama/Llama-3.1-8B-Instruct             llama3_json      -
meta-llama/Llama-3.3-70B-Instruct            llama3_json      -
meta-llama/Llama-3.1-8B                      -                -
meta-llama/Meta-Llama-3-8B-Instruct          -                -
meta-llama/Llama-4-Scout-17B-16E-Instruct    llama4_pythonic  -
mistralai/Mistral-7B-Instruct-v0.3           mistral          -
mistralai/Mistral-7B-Instruct-v0.2           -                -
mistralai/Mistral-Small-3.2-24B-Instruct-2506 mistral         -
mistralai/Magistral-Small-2509               mistral          mistral
deepseek-ai/DeepSeek-R1                      -                deepseek_r1
deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B    -                deepseek_r1
deepseek-ai/DeepSeek-V3.2                    deepseek_v32     deepseek_v3
deepseek-ai/DeepSeek-V3                      -                -
openai/gpt-oss-20b                           openai           openai_gptoss
zai-org/GLM-4.5-Air                          glm45            glm45
zai-org/GLM-4.7-Flash                        glm47            glm47
moonshotai/Kimi-K2-Instruct                  kimi_k2          -
moonshotai/Kimi-K2-Thinking                  kimi_k2          kimi_k2
MiniMaxAI/MiniMax-M2                         minimax_m2       minimax_m2
ibm-granite/granite-3.1-8b-instruct          granite          -
ibm-granite/granite-3.3-8b-instruct          granite          granite
ibm-granite/granite-4.0-h-small              granite4         -
microsoft/Phi-4-mini-instruct                phi4_mini_json   -
nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16   qwen3_coder      nemotron_v3
allenai/Olmo-3-7B-Instruct                   olmo3            -
allenai/Olmo-3-32B-Think                     olmo3            olmo3
ByteDance-Seed/Seed-OSS-36B-Instruct         seed_oss         seed_oss
gpt2                                         -                -
someone/my-own-tune                          -                -
"""


@pytest.mark.skipif(VLLM is None, reason="vLLM is not installed")
@pytest.mark.parametrize(("names", "families", "file", "table"), LISTS)
def test_the_names_are_those_of_the_vllm_that_is_installed(
    names: Any, families: tuple[Family[str], ...], file: str, table: str
) -> None:
    """Read from its source, since importing it takes seconds."""
    assert VLLM is not None
    assert VLLM.submodule_search_locations
    source = (Path(VLLM.submodule_search_locations[0]) / file).read_text()
    [registered] = [
        ast.literal_eval(one.value)
        for one in ast.parse(source).body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == table
    ]
    assert set(get_args(names)) == set(registered)
    assert {family.parser for family in families} <= set(registered)


@pytest.mark.parametrize("families", [TOOL_FAMILIES, REASONING_FAMILIES])
def test_each_row_can_fit_something(families: tuple[Family[str], ...]) -> None:
    for family in families:
        assert family.names or family.types or family.by_marks, family
        assert family.marks or not family.by_marks, family
        for pattern in family.names:
            assert pattern == pattern.lower(), family
            re.compile(pattern)


@pytest.mark.parametrize("line", [line.split() for line in NAMED.split("\n") if line])
def test_models_of_the_hub_are_known_by_name(line: list[str]) -> None:
    name, tools, reasoning = line
    signs = ModelSigns(name)
    assert tools_for(signs).parser == tools.strip("-")
    assert reasoning_for(signs).parser == reasoning.strip("-")
