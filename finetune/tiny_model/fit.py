"""Train the tiny model for a number of steps, so that a seed decides the weights, and no longer than a limit.

Each batch is split over a fixed number of shards and their gradients are added in a fixed order, so that
neither the number of threads nor a busy machine changes what is learned, only how long it takes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaForCausalLM

from common.clock import SYSTEM_CLOCK
from finetune.tiny_model.optimizer import TinyModelOptimizer

_SHARDS = 2
_CHAT_ROWS, _PASSAGE_ROWS, _PASSAGE_TOKENS = 32, 8, 96
_PASSAGE_EVERY = 16
_WARM_UP, _COOL_DOWN, _HURRY = 0.05, 0.6, 0.25
_IGNORED = -100

Row = list[tuple[int, int]]
"""(token, label) pairs; the label is the token itself where it is learned."""


@dataclass(frozen=True)
class FitResult:
    """What training did. ``cut_short``: the time limit, and not the steps alone, decided the weights."""

    steps: int
    final_loss: float
    cut_short: bool


def plain_row(ids: list[int]) -> Row:
    """A row of which every token is learned."""
    return [(token, token) for token in ids]


def answer_row(ids: list[int], mask: list[int]) -> Row:
    """A row of which the tokens with a 1 in ``mask`` are learned."""
    return [(token, token if learned else _IGNORED) for token, learned in zip(ids, mask, strict=True)]


def fit(
    model: LlamaForCausalLM,
    chats: list[Row],
    passages: list[Row],
    steps: int,
    limit_seconds: float,
    seed: int,
    threads: int,
    progress: bool,
) -> FitResult:
    """Train ``model`` on token rows. When time runs short the learning rate falls to zero at the limit."""
    rng = random.Random(seed)
    started = SYSTEM_CLOCK.monotonic_seconds()
    optimizer, batches = TinyModelOptimizer(model), _batches(rng, chats)
    loss, step, cut_short = math.nan, 0, False
    torch.set_num_threads(1)  # each shard is one thread's work: threads inside of it would only wait
    model.train()
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="shard") as pool,
        tqdm(total=steps, desc="training the tiny model", unit="step", disable=not progress) as bar,
    ):
        while step < steps:
            planned = _rate(step / steps)
            hurried = _hurried_rate((SYSTEM_CLOCK.monotonic_seconds() - started) / limit_seconds)
            cut_short |= hurried < planned
            if hurried <= 0:
                break
            rows = _chunks(rng, passages) if step % _PASSAGE_EVERY == 0 else next(batches)
            loss = _set_gradients(model, rows, pool)
            optimizer.step(min(planned, hurried), pool.map)
            step += 1
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
            bar.update()
    model.eval()
    return FitResult(steps=step, final_loss=round(loss, 4), cut_short=cut_short)


def _rate(done: float) -> float:
    """Share of the peak learning rate when ``done`` of the steps are done: up, flat, then down to zero."""
    return min(1.0, (done + 0.005) / _WARM_UP, (1 - done) / _COOL_DOWN)


def _hurried_rate(spent: float) -> float:
    """The most that the learning rate may be when ``spent`` of the time is spent."""
    return min(1.0, (1 - spent) / _HURRY)


def _set_gradients(model: LlamaForCausalLM, rows: list[Row], pool: ThreadPoolExecutor) -> float:
    """Set every weight's gradient of the mean loss over the learned tokens of ``rows``; returns that loss."""
    weights = list(model.parameters())
    learned = sum(label != _IGNORED for row in rows for _, label in row[1:])
    shards = [rows[start::_SHARDS] for start in range(_SHARDS)]
    parts = list(pool.map(lambda shard: _shard_gradients(model, weights, shard, learned), shards))
    for weight, *gradients in zip(weights, *(gradients for _, gradients in parts), strict=True):
        weight.grad = torch.stack(gradients).sum(dim=0)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    return sum(loss for loss, _ in parts)


def _shard_gradients(
    model: LlamaForCausalLM, weights: Sequence[Tensor], rows: list[Row], learned: int
) -> tuple[float, Sequence[Tensor]]:
    """Loss and gradients of some rows of a batch of ``learned`` learned tokens."""
    width = max(map(len, rows))
    pairs = torch.tensor([row + [(0, _IGNORED)] * (width - len(row)) for row in rows])
    # Padding is on the right, where a causal model does not see it, so no attention mask is needed.
    hidden = model.model(input_ids=pairs[..., 0].contiguous(), use_cache=False).last_hidden_state
    labels = pairs[:, 1:, 1]
    wanted = labels != _IGNORED
    logits = model.lm_head(hidden[:, :-1][wanted])
    loss = cross_entropy(logits, labels[wanted], reduction="sum") / learned
    return float(loss.detach()), torch.autograd.grad(loss, weights)


def _batches(rng: random.Random, chats: list[Row]) -> Iterator[list[Row]]:
    """Every chat once per round, in batches of similar length so that little is padding."""
    while True:
        shuffled = sorted(rng.sample(chats, len(chats)), key=len)
        groups = [shuffled[start : start + _CHAT_ROWS] for start in range(0, len(shuffled), _CHAT_ROWS)]
        rng.shuffle(groups)
        yield from groups


def _chunks(rng: random.Random, passages: list[Row]) -> list[Row]:
    rows = []
    for passage in rng.choices(passages, k=_PASSAGE_ROWS):
        start = rng.randrange(max(1, len(passage) - _PASSAGE_TOKENS + 1))
        rows.append(passage[start : start + _PASSAGE_TOKENS])
    return rows
