"""Which answers another engine could go on with, if the one that writes them breaks.

The other engine is given the tokens of the prompt and those that were delivered, as its prompt. So an answer
can be continued where what was asked says the same of the rest of it: what depends on the tokens made so far
(penalties, grammars, tools) or tells of each of them (log probabilities) does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.core.fields import is_whole

_CARRIED = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "allowed_token_ids",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "ec_transfer_params",
        "ignore_eos",
        "include_reasoning",
        "include_stop_str_in_output",
        "kv_transfer_params",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "min_p",
        "min_tokens",
        "model",
        "parallel_tool_calls",
        "priority",
        "prompt",
        "prompt_cache_key",
        "reasoning_effort",
        "repetition_penalty",
        "request_id",
        "safety_identifier",
        "seed",
        "service_tier",
        "session_id",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "store",
        "stream",
        "stream_interval",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
        "user",
    }
)
"""What says the same of the rest of an answer, or does not reach an engine. A repetition penalty looks at
prompt and answer alike."""

MOST_STOP_CHARACTERS = 1024
"""Of the longest stop string: all places that may lie behind the beginning of one are kept."""

_WHOLE = frozenset({"min_tokens", "seed"})
"""Of these, what has to be a number: they are reckoned with."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "length_penalty": (1,),
    "logprobs": (False,),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "tool_choice": ("none",),
    "top_logprobs": (0,),
    "use_beam_search": (False,),
}
"""Of other fields, the values that change nothing. Any that is not known may change anything."""


@dataclass(frozen=True)
class Continuable:
    """An answer that another engine can go on with.

    ``stop_characters``: of the longest stop string, less one: so much of a text may be the beginning of one.
    ``held_characters``: so many the engine does not send yet for that reason. ``greedy``: what is made again
    comes out the same.
    """

    stop_characters: int = 0
    held_characters: int = 0
    greedy: bool = False


_GREEDY, _DRAWN = Continuable(greedy=True), Continuable()


def continuable(task: str, content: Mapping[str, Any], prompts: int, media: bool) -> Continuable | None:
    """How the answer to a checked request can be continued; None where it cannot.

    A stop string may begin before the break, so what could be one's beginning is made again: where tokens are
    drawn by chance, others would come. A tool is called by nothing but text where ``tool_choice`` is none.
    """
    if task == "embeddings" or prompts > 1 or media:
        return None
    for name in _WHOLE & content.keys():
        if content[name] is not None and not is_whole(content[name]):
            return None
    for name in content.keys() - _CARRIED:
        value = content[name]
        if value is None or (name == "tools" and content.get("tool_choice") == "none"):
            continue
        if not any(_same(value, neutral) for neutral in _NEUTRAL.get(name, ())):
            return None
    stop, greedy = content.get("stop"), content.get("temperature") == 0
    if not stop:
        return _GREEDY if greedy else _DRAWN
    longest = max(len(one) for one in ((stop,) if isinstance(stop, str) else stop))
    if not greedy or longest > MOST_STOP_CHARACTERS:
        return None
    held = 0 if content.get("include_stop_str_in_output") else longest - 1
    return Continuable(longest - 1, held, greedy)


def _same(value: Any, neutral: Any) -> bool:
    """Equal, and no number where a truth is meant: ``logprobs: 0`` of a completion asks for some."""
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)
