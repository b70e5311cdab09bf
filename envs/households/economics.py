"""The equations of the economy (MARL-BC, arXiv 2510.12272, Eqs. 1-5), as pure functions on `[worlds, households]`.

Timing: the state (k, A) is observed, households act, the firm produces with today's labour, k' and A' follow.
"""

from __future__ import annotations

import torch
from torch import Tensor


def effective(productivity: Tensor, quantity: Tensor) -> Tensor:
    """Effective aggregate per household, `[worlds, 1]`: K = mean_i(kappa_i k_i), L = mean_i(lambda_i l_i) (Eq. 1)."""
    return (productivity * quantity).mean(-1, keepdim=True)


def production(A: Tensor, K: Tensor, L: Tensor, alpha: float) -> Tensor:
    """Cobb-Douglas output per household, Y = A K^alpha L^(1-alpha) (Eq. 2)."""
    return A * K**alpha * L ** (1 - alpha)


def interest(Y: Tensor, K: Tensor, kappa: Tensor, alpha: float) -> Tensor:
    """Rental rate of household i's capital, r_i = alpha (Y/K) kappa_i (Eq. 3)."""
    return alpha * (Y / K) * kappa


def wage(Y: Tensor, L: Tensor, lambda_: Tensor, alpha: float) -> Tensor:
    """Wage of household i, w_i = (1-alpha) (Y/L) lambda_i (Eq. 3)."""
    return (1 - alpha) * (Y / L) * lambda_


def wealth(w: Tensor, labour: Tensor, r: Tensor, k: Tensor, delta: float) -> Tensor:
    """Wealth before consumption, a_i = w_i l_i + r_i k_i + (1-delta) k_i (Eq. 4)."""
    return w * labour + r * k + (1 - delta) * k


def utility(c: Tensor, labour: Tensor, b: float) -> Tensor:
    """Reward of household i, log c_i + b log(1 - l_i) (Eq. 5)."""
    return torch.log(c) + b * torch.log1p(-labour)
