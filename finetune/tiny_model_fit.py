"""Train the tiny model: a fixed number of steps per second asked for, so that a seed decides the weights."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM

from common.clock import SYSTEM_CLOCK

_STEPS_PER_SECOND = 12.0
_OVERTIME = 1.3
_PATIENCE_SECONDS = 4.0
_PEAK_LEARNING_RATE = 3e-3
_CHAT_ROWS, _PASSAGE_ROWS, _PASSAGE_TOKENS = 16, 4, 96
_PASSAGE_EVERY = 8
_IGNORED = -100

Row = list[tuple[int, int]]
"""(token, label) pairs; the label is the token itself where it is learned."""


@dataclass(frozen=True)
class FitResult:
    """What training did. ``cut_short``: a slow machine ran out of time, so the seed alone did not decide."""

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
    seconds: float,
    seed: int,
    pad_id: int,
    progress: bool,
) -> FitResult:
    """Train ``model`` on token rows. A slow machine squeezes the schedule into 1.3 x ``seconds``."""
    rng = random.Random(seed)
    total = max(1, round(seconds * _STEPS_PER_SECOND))
    started, limit = SYSTEM_CLOCK.monotonic_seconds(), seconds * _OVERTIME
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    batches = _batches(rng, chats)
    model.train()
    loss_value, step, done = math.nan, 0, 0.0
    with tqdm(total=total, desc="training the tiny model", unit="step", disable=not progress) as bar:
        while step < total and done < 1:
            rows = _chunks(rng, passages) if step % _PASSAGE_EVERY == 0 else next(batches)
            loss_value = _step(model, optimizer, rows, pad_id, _learning_rate(max(step / total, done)))
            step += 1
            spent = SYSTEM_CLOCK.monotonic_seconds() - started
            if spent > _PATIENCE_SECONDS and step < spent * _STEPS_PER_SECOND / 3:
                torch.set_num_threads(1)  # threads that wait for a busy core cost far more than they bring
            # Within the planned time only the step counts, so that timing noise does not change the weights.
            done = 0.0 if spent <= seconds else max(step / total, spent / limit)
            bar.set_postfix(loss=f"{loss_value:.2f}", refresh=False)
            bar.update()
    model.eval()
    return FitResult(steps=step, final_loss=round(loss_value, 4), cut_short=step < total)


def _learning_rate(done: float) -> float:
    """Linear warm-up over the first twentieth, then a cosine to zero; ``done`` is the share of training."""
    if done < 0.05:
        return _PEAK_LEARNING_RATE * (done + 0.005) / 0.055
    return _PEAK_LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _step(
    model: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    rows: list[Row],
    pad_id: int,
    learning_rate: float,
) -> float:
    width = max(map(len, rows))
    pairs = torch.tensor([row + [(pad_id, _IGNORED)] * (width - len(row)) for row in rows])
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    # Padding is on the right, where a causal model does not see it, so no attention mask is needed.
    loss = model(input_ids=pairs[..., 0].contiguous(), labels=pairs[..., 1].contiguous()).loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


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
