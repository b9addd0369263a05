"""The tiny model's optimizer: orthogonal momentum steps (Muon) for weight matrices, AdamW for the rest.

On a few hundred short dialogues it needs several times fewer steps than AdamW alone. It works in float32,
since many CPUs have no bfloat16 arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

_MATRIX_LEARNING_RATE, _MOMENTUM = 0.02, 0.95
_OTHER_LEARNING_RATE, _OTHER_BETAS = 3e-3, (0.9, 0.95)
_WEIGHT_DECAY = 0.05
_NEWTON_SCHULZ_STEPS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the odd quintic that drives singular values between 0 and 1 towards 1."""

Map = Callable[[Callable[[Tensor], Any], Iterable[Tensor]], Iterable[Any]]


class TinyModelOptimizer:
    """Steps of all of a model's weights. Which gradient belongs to which weight is a matter of ``.grad``."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        named = list(model.named_parameters())
        self._matrices = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name]
        self._momenta = {weight: torch.zeros_like(weight) for weight in self._matrices}
        others = [weight for _, weight in named if weight not in self._momenta]
        self._adamw = torch.optim.AdamW(
            others, lr=_OTHER_LEARNING_RATE, betas=_OTHER_BETAS, weight_decay=0.0, fused=True
        )

    @torch.no_grad()
    def step(self, rate: float, each: Map = map) -> None:
        """One step with ``rate`` (0 to 1) times the peak learning rates; ``each`` maps over the matrices."""
        list(each(partial(self._step_matrix, learning_rate=rate * _MATRIX_LEARNING_RATE), self._matrices))
        for group in self._adamw.param_groups:
            group["lr"] = rate * _OTHER_LEARNING_RATE
        self._adamw.step()

    @torch.no_grad()
    def _step_matrix(self, weight: Tensor, learning_rate: float) -> None:
        assert weight.grad is not None
        momentum = self._momenta[weight].lerp_(weight.grad, 1 - _MOMENTUM)
        update = orthogonal(weight.grad.lerp(momentum, _MOMENTUM))
        tallness = max(1.0, weight.size(0) / weight.size(1))
        weight.mul_(1 - learning_rate * _WEIGHT_DECAY).sub_(update, alpha=learning_rate * tallness**0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with all its singular values brought near 1 (Newton-Schulz iteration)."""
    linear, cubic, quintic = _QUINTIC
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=cubic, alpha=quintic), x, beta=linear)
    return x.mT if tall else x
