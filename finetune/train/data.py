"""Chat rows to token rows: the base model's own template, and a loss on the assistant's turns only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from common.errors import InvalidInput, Problem
from finetune.core.chat_line import Message
from finetune.core.chat_rows import NotLines, Row, chat_rows
from finetune.core.validate import MAX_PROBLEMS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Param = Literal["training_file", "validation_file"]

IGNORED = -100
_CHUNK_BYTES = 1024**2
_SHOWN_LINES = 20
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


@dataclass(frozen=True)
class TokenRows:
    """What a file gives to train, and the lines whose answer lies beyond the context."""

    rows: tuple[TokenRow, ...]
    left_out: tuple[int, ...]


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


def token_rows(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    param: Param = "training_file",
    name: str = "",
) -> TokenRows:
    """The rows of a JSONL chat file as tokens, cut at ``max_length`` tokens.

    A row whose answer lies beyond the cut is left out. Raises ``InvalidInput`` with ``param``, naming the
    file as ``name``, where a line cannot be read or nothing is left to train.
    """
    rows: list[TokenRow] = []
    left_out: list[int] = []
    problems: list[Problem] = []
    file = f"{param} {name}".rstrip()
    for row in _rows(path, file, param):
        try:
            made = _token_row(row, tokenizer, max_length)
        except ValueError as error:
            problems.append(Problem(f"line {row.number}", str(error)))
            continue
        if made.trained_tokens:
            rows.append(made)
        else:
            left_out.append(row.number)
    if problems:
        shown = "; ".join(f"{p.path}: {p.message}" for p in problems[:_SHOWN_LINES])
        text = f"{file} has {len(problems)} bad lines: {shown}"
        raise InvalidInput(text, f"invalid_{param}", param, tuple(problems[:MAX_PROBLEMS]))
    if not rows:
        why = f"all answers lie beyond {max_length} tokens" if left_out else "there is no row"
        raise InvalidInput(f"{file} leaves nothing to train: {why}", f"invalid_{param}", param)
    return TokenRows(tuple(rows), tuple(left_out))


def _rows(path: Path, file: str, param: Param) -> Iterator[Row]:
    try:
        with path.open("rb") as stream:
            yield from chat_rows(iter(lambda: stream.read(_CHUNK_BYTES), b""))
    except NotLines as cause:
        raise InvalidInput(f"{file} {cause.message}", f"invalid_{param}", param) from cause
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", f"invalid_{param}", param) from error


def _token_row(row: Row, tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenRow:
    """The row's tokens; none is trained where the answer lies beyond the cut. Raises ``ValueError``."""
    if row.findings:
        raise ValueError("; ".join(message for _, message in row.findings))
    plain = [{key: value for key, value in message.items() if key != "weight"} for message in row.messages]
    try:
        encoded = tokenizer.apply_chat_template(
            plain, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    except Exception as error:  # templates raise whatever they like about a row
        raise ValueError(f"the chat template refuses it: {error}") from error
    ids = list(encoded["input_ids"])
    mask = _weighted(list(encoded["assistant_masks"]), row.messages)
    if not any(mask):
        raise ValueError("the chat template marks none of its assistant messages to be trained")
    labels = [token if trained else IGNORED for token, trained in zip(ids, mask, strict=True)]
    return TokenRow(row.number, ids[:max_length], labels[:max_length], truncated=len(ids) > max_length)


def _weighted(mask: list[int], messages: Iterable[Message]) -> list[int]:
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
