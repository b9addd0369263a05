"""Chat rows to token rows: the base model's own template, and a loss on the assistant's turns only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from common.errors import InvalidInput, Problem

IGNORED = -100
_GENERATION_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True)
class TokenRow:
    """One row: ``labels`` equal ``input_ids`` where the token is trained and are ``IGNORED`` elsewhere."""

    line: int
    input_ids: list[int]
    labels: list[int]
    truncated: bool = False

    @property
    def trained_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def check_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template. Raises ``InvalidInput`` where it has none or does not mark the assistant's words."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or not template:
        raise InvalidInput(
            "the base model has no chat template; add one as chat_template.jinja beside its tokenizer",
            param="model",
        )
    if not _GENERATION_MARK.search(template):
        raise InvalidInput(
            "the base model's chat template has no {% generation %} marks, so the assistant's words cannot "
            "be told from the prompt; enclose the assistant's content and its end-of-turn token in "
            "{% generation %}...{% endgeneration %} in chat_template.jinja",
            param="model",
        )
    return template


def token_rows(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[TokenRow]:
    """Every row of a JSONL chat file as tokens, cut at ``max_length`` tokens.

    Raises ``InvalidInput`` that lists each bad line: not readable, or no answer to train, also after the cut.
    """
    rows: list[TokenRow] = []
    problems: list[Problem] = []
    for number, text in _lines(path):
        try:
            row = _token_row(number, _messages(text), tokenizer, max_length)
        except ValueError as error:
            problems.append(Problem(f"line {number}", str(error)))
        else:
            rows.append(row)
    if problems:
        shown = "; ".join(f"{p.path}: {p.message}" for p in problems[:20])
        raise InvalidInput(
            f"{path.name} has {len(problems)} bad lines: {shown}", "", path.name, tuple(problems)
        )
    if not rows:
        raise InvalidInput(f"{path.name} has no row", param=path.name)
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path.name}: {error}", param=path.name) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _messages(text: str) -> list[dict[str, Any]]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        raise ValueError("`messages` must be a list with at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f"messages[{index}] must be an object with a role")
        if not isinstance(message.get("content"), str):
            raise ValueError(f"messages[{index}].content must be a text")
        if message.get("weight", 1) not in (0, 1):
            raise ValueError(f"messages[{index}].weight must be 0 or 1")
    return messages


def _token_row(
    line: int, messages: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenRow:
    plain = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
    try:
        encoded = tokenizer.apply_chat_template(
            plain, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    except Exception as error:  # templates raise whatever they like about a row
        raise ValueError(f"the chat template refuses it: {error}") from error
    ids = list(encoded["input_ids"])
    mask = _weighted(list(encoded["assistant_masks"]), messages)
    row = TokenRow(
        line=line,
        input_ids=ids[:max_length],
        labels=[token if trained else IGNORED for token, trained in zip(ids, mask, strict=True)][:max_length],
        truncated=len(ids) > max_length,
    )
    if row.trained_tokens == 0:
        raise ValueError(
            f"its answer lies beyond {max_length} tokens"
            if any(mask)
            else "it has no assistant message with weight 1 to train"
        )
    return row


def _weighted(mask: list[int], messages: Iterable[dict[str, Any]]) -> list[int]:
    """``mask`` without the spans of assistant messages of weight 0. Spans are in message order."""
    weights = [message.get("weight", 1) for message in messages if message["role"] == "assistant"]
    if all(weights):
        return mask
    spans = sum(1 for trained, _ in groupby(mask) if trained)
    if spans != len(weights):
        raise ValueError("`weight` cannot be honoured: the chat template joins or drops assistant messages")
    remaining = iter(weights)
    result: list[int] = []
    for trained, group in groupby(mask):
        keep = trained and next(remaining)
        result += [1 if keep else 0] * len(list(group))
    return result


def ends_of_turn_trained(rows: Iterable[TokenRow], end_ids: set[int]) -> bool:
    """Whether each whole row trains an end-of-turn token, without which the model would not learn to stop."""
    return all(row.truncated or end_ids.intersection(row.labels) for row in rows)
