"""The equations of the economy, as pure functions on `[worlds, households]`.

Source: MARL-BC, arXiv 2510.12272, equations 1-5.

Timing: the state (k, A) is observed, households act, the firm produces with today's labour, k' and
A' follow.

Constants are tensors: torch converts a Python number anew at every use, which costs as much as a
small operation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ONE = torch.ones(())
"""1 on any device and in any precision, as a tensor without dimensions follows the others."""


def total(productivity: Tensor | None, quantity: Tensor) -> Tensor:
    """Effective quantity of all households, sum_i kappa_i k_i or sum_i lambda_i l_i: `[..., 1]`.

    It is n times Eq. 1. A `productivity` of None is one.
    """
    return (quantity if productivity is None else productivity * quantity).sum(-1, keepdim=True)


def effective(productivity: Tensor | None, quantity: Tensor) -> Tensor:
    """Each household's own effective quantity, kappa_i k_i or lambda_i l_i."""
    return quantity if productivity is None else productivity * quantity


def relative(types: Tensor) -> Tensor:
    """Types as networks like them: the deviation from their mean over the largest deviation.

    It is 0 where all are alike.
    """
    deviation = types - types.mean()
    return deviation / deviation.abs().max().clamp_min(1e-6)


def output(A: Tensor, intensity: Tensor, alpha: Tensor) -> Tensor:
    """Cobb-Douglas output per effective hour, Y/L = A (K/L)^alpha (Eq. 2 over L)."""
    return A * intensity**alpha


def gross_return(y: Tensor, intensity: Tensor, alpha_kappa: Tensor, kept: Tensor) -> Tensor:
    """What a unit of household i's capital becomes, 1-delta + r_i, r_i = alpha kappa_i Y/K (Eq. 3).

    Y/K is y = Y/L over the intensity K/L; `kept` is 1-delta.
    """
    return torch.addcdiv(kept, alpha_kappa * y, intensity)


def wage(y: Tensor, alpha_lambda: Tensor) -> Tensor:
    """Wage of household i, w_i = (1-alpha) lambda_i Y/L (Eq. 3)."""
    return alpha_lambda * y


def wealth(w: Tensor, hours: Tensor, R: Tensor, k: Tensor) -> Tensor:
    """Wealth before consumption, a_i = w_i l_i + R_i k_i with R_i = r_i + 1-delta (Eq. 4)."""
    return torch.addcmul(w * hours, R, k)


def consumption_equivalent(gain: float, beta: float) -> float:
    """The permanent rise of consumption worth `gain` of discounted log utility, in %."""
    return 100 * math.expm1((1 - beta) * gain)


def utility_of(rise: float, beta: float) -> float:
    """Discounted log utility of a permanent rise of consumption by `rise` %: the reverse."""
    return math.log1p(rise / 100) / (1 - beta)


def utility(c: Tensor, labour: Tensor, b: float) -> Tensor:
    """Reward of household i, log c_i + b log(1 - l_i) (Eq. 5)."""
    # Torch's `alpha` is a factor of the second term: a sum and a product in one operation.
    return torch.add(torch.log(c), torch.log(ONE - labour), alpha=b)
