"""Families of models and the parser of vLLM that reads their answers, a row each; the first that fits counts.

A parser that does not suit a model keeps its engines from starting, so a row is here for models whose own
chat template takes tools, and not for those that vLLM's documentation gives another template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from common.vllm_parsers import ReasoningParser, ToolParser

Parser_co = TypeVar("Parser_co", bound=str, covariant=True)


@dataclass(frozen=True)
class Family(Generic[Parser_co]):
    """``names`` are patterns that are looked for in the lower-case name; ``types`` what ``model_type`` of the
    config says; ``marks`` stand in the chat template, all of them. A model is of the family by name or type,
    and by the marks where its template is known; ``by_marks``: by these alone."""

    parser: Parser_co
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    by_marks: bool = False


TOOL_FAMILIES: tuple[Family[ToolParser], ...] = (
    Family("step3p5", (r"step-?3\.[5-9]",), ("step3p5", "step3p7"), ("<function=",)),
    Family("mimo", (r"mimo-v2",), ("mimo_v2", "mimo_v2_flash"), ("<function=",)),
    Family(
        "qwen3_coder",
        (r"qwen3-coder", r"qwen3\.[5-9]", r"nemotron-3"),
        ("qwen3_5", "qwen3_5_moe"),
        ("<tool_call>", "<function="),
        by_marks=True,
    ),
    Family("granite4", (r"granite-4",), ("granitemoehybrid",), ("<tool_call>",)),
    Family("glm47", (r"glm-4\.7", r"glm-[5-9]"), ("glm4_moe_lite", "glm_moe_dsa"), ("<arg_key>",)),
    Family("glm45", (r"glm-4\.[56]",), ("glm4_moe", "glm4v_moe"), ("<arg_key>",)),
    Family("hy_v3", types=("hy_v3",), marks=("<tool_call",)),
    Family("hy_v4", types=("hy_v4",), marks=("<tool_call",)),
    Family("hunyuan_a13b", (r"hunyuan-a13b",), ("hunyuan_v1_moe",), ("<tool_calls>",)),
    Family("longcat", (r"longcat-flash-chat",), ("longcat_flash",), ("<longcat_tool_call>",)),
    Family(
        "hermes",
        (
            r"hermes-2-(?:pro|theta)",
            r"hermes-[34]",
            r"qwen2\.5-(?!math|omni|vl).*instruct",
            r"qwq-32b",
            r"qwen3(?!\.|-(?:vl-)?(?:embedding|reranker)|-omni|-asr)",
        ),
        marks=("<tool_call>", "arguments"),
        by_marks=True,
    ),
    Family("kimi_k3", (r"kimi-k3",), ("kimi_k3",)),
    Family("kimi_k2", (r"kimi-k2",), ("kimi_k2", "kimi_k25"), ("<|tool_calls_section_begin|>",)),
    Family("minimax_m3", (r"minimax-m3",), ("minimax_m3_vl",)),
    Family("minimax_m2", (r"minimax-m2",), ("minimax_m2",), ("<minimax:tool_call>",)),
    Family("openai", (r"gpt-oss",), ("gpt_oss",)),
    Family("seed_oss", (r"seed-oss",), ("seed_oss",), ("<seed:tool_call>",)),
    Family("step3", (r"step3(?![.-]?\d)",), ("step3_vl", "step3_text"), ("<｜tool_calls_begin｜>",)),
    Family("deepseek_v41", (r"deepseek-v4\.1",), ("deepseek_v41",)),
    Family("deepseek_v4", (r"deepseek-v4(?!\.)",), ("deepseek_v4",)),
    Family("deepseek_v32", (r"deepseek-v3\.2",), ("deepseek_v32",)),
    Family("ernie45", (r"ernie-4\.5-21b-a3b-thinking",), marks=("<tool_call>",)),
    Family("jamba", (r"jamba",), ("jamba",), ("<tool_calls>",)),
    Family("lfm2", (r"lfm2",), ("lfm2", "lfm2_moe"), ("<|tool_call_start|>",)),
    Family("llama4_pythonic", (r"llama-4-",), ("llama4",)),
    Family("llama3_json", (r"llama-3\.[1-3]-.*instruct",), ("llama", "mllama"), ("ipython",)),
    Family(
        "mistral",
        (
            r"mistral-7b-instruct-v0\.3",
            r"mistral-(?:nemo|large|medium)-instruct",
            r"mistral-small-.*instruct",
            r"ministral-.*instruct",
            r"devstral",
            r"magistral",
        ),
        ("mistral", "mistral3", "ministral3", "pixtral", "mixtral"),
        ("[AVAILABLE_TOOLS]",),
    ),
    Family("granite", (r"granite-3\.[1-3].*instruct",), ("granite", "granitemoe"), ("<|tool_call|>",)),
    Family("phi4_mini_json", (r"phi-4-mini-instruct",), ("phi3",), ("<|tool|>",)),
    Family("functiongemma", (r"functiongemma",), marks=("<start_function_call>",), by_marks=True),
    Family("gemma4", (r"gemma-4",), ("gemma4",)),
    Family("olmo3", (r"olmo-3",), ("olmo3",), ("<function_calls>",)),
    Family("gigachat3", (r"gigachat3",)),
    Family("plamo3", types=("plamo3",)),
    Family("poolside_v1", (r"poolside.*laguna",), ("laguna",)),
    Family("k2_horizon", types=("k2_horizon",)),
    Family("inkling", types=("inkling_mm_model",)),
    Family("muse_glimmer", types=("muse_glimmer",)),
)

_THINK = ("<think>",)
REASONING_FAMILIES: tuple[Family[ReasoningParser], ...] = (
    Family("holo2", (r"holo2",), marks=_THINK),
    Family("nemotron_v3", (r"nemotron-3",), ("nemotron_h",), _THINK),
    Family("step3p5", (r"step-?3\.[5-9]",), ("step3p5", "step3p7"), _THINK),
    Family("mimo", (r"mimo-v2",), ("mimo_v2", "mimo_v2_flash"), _THINK),
    Family("deepseek_r1", (r"deepseek-r1", r"qwq-32b"), marks=_THINK),
    Family(
        "qwen3",
        (
            r"qwen3(?:\.\d)?-(?!.*(?:instruct|coder|embedding|reranker|base|omni|asr|next))",
            r"qwen3-.*thinking",
        ),
        ("qwen3", "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"),
        _THINK,
    ),
    Family("glm47", (r"glm-4\.7", r"glm-[5-9]"), ("glm4_moe_lite", "glm_moe_dsa"), _THINK),
    Family("glm45", (r"glm-4\.[56]",), ("glm4_moe", "glm4v_moe"), _THINK),
    Family("hy_v3", types=("hy_v3",), marks=("<think",)),
    Family("hy_v4", types=("hy_v4",), marks=("<think",)),
    Family("hunyuan_a13b", (r"hunyuan-a13b",), ("hunyuan_v1_moe",), _THINK),
    Family("kimi_k3", (r"kimi-k3",), ("kimi_k3",)),
    Family("kimi_k2", (r"kimi-k2(?:\.\d)?-thinking",), ("kimi_k2",), _THINK),
    Family("minimax_m3", (r"minimax-m3",), ("minimax_m3_vl",)),
    Family("minimax_m2", (r"minimax-m2",), ("minimax_m2",), _THINK),
    Family("openai_gptoss", (r"gpt-oss",), ("gpt_oss",)),
    Family("seed_oss", (r"seed-oss",), ("seed_oss",), ("<seed:think>",)),
    Family("step3", (r"step3(?![.-]?\d)",), ("step3_vl", "step3_text"), _THINK),
    Family("deepseek_v41", (r"deepseek-v4\.1",), ("deepseek_v41",)),
    Family("deepseek_v4", (r"deepseek-v4(?!\.)",), ("deepseek_v4",)),
    Family("deepseek_v3", (r"deepseek-v3\.[12]",), ("deepseek_v32",)),
    Family("ernie45", (r"ernie-4\.5.*(?:thinking|-vl-)",), marks=_THINK),
    Family("mistral", (r"magistral",)),
    Family("granite", (r"granite-3\.[23].*instruct",), ("granite",), ("thinking",)),
    Family("gemma4", (r"gemma-4",), ("gemma4",)),
    Family("olmo3", (r"olmo-3.*think",), ("olmo3",), _THINK),
    Family("plamo3", types=("plamo3",)),
    Family("poolside_v1", (r"poolside.*laguna",), ("laguna",), _THINK),
    Family("k2_horizon", types=("k2_horizon",)),
    Family("inkling", types=("inkling_mm_model",)),
    Family("muse_glimmer", types=("muse_glimmer",)),
)
