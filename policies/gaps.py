"""Gaps of action values over the allowed actions: what the rules of `exploration` are made of.

Q is `[..., A]`; `allowed` is bool, of the same shape, and False where an action is forbidden. What
Q holds there, an infinity or a NaN, enters no result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def allowed_actions(Q: Tensor, mask: Tensor | None) -> Tensor:
    """The mask at Q's shape, bool; all True without a mask.

    Raises:
        ValueError: if Q is not floating, the mask is not bool, or a row allows no action.
    """
    if not Q.is_floating_point():
        raise ValueError(f"Q is {Q.dtype}, expected a floating dtype")
    if mask is None:
        return torch.ones_like(Q, dtype=torch.bool)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}, expected torch.bool")
    mask = mask.expand_as(Q)
    if not bool(mask.any(-1).all()):
        raise ValueError("mask: a row allows no action")
    return mask


def gaps_to_best(Q: Tensor, allowed: Tensor) -> Tensor:
    """max Q - Q over the allowed actions, 0 elsewhere, `[..., A]`."""
    best = Q.masked_fill(~allowed, -math.inf).amax(-1, keepdim=True)
    return (best - Q).masked_fill(~allowed, 0.0)


def ratio(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale, and 0 where the scale is 0: there all values are equal."""
    return torch.where(scale > 0, x / scale, torch.zeros_like(x))


def mean_over(allowed: Tensor, x: Tensor) -> Tensor:
    """Mean over the allowed actions of an x that is 0 elsewhere, `[..., 1]`."""
    return x.sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True)


def greedy(gaps: Tensor, allowed: Tensor) -> Tensor:
    """Equal probabilities of all actions without a gap, `[..., A]`."""
    # forbidden actions have gap 0, too
    best = ((gaps == 0) & allowed).to(gaps.dtype)
    return best / best.sum(-1, keepdim=True)


def softmax_over(allowed: Tensor, x: Tensor) -> Tensor:
    """The softmax of x over the allowed actions, 0 elsewhere, `[..., A]`."""
    return torch.softmax(x.masked_fill(~allowed, -math.inf), -1)


def uniform_over(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Equal probabilities of all allowed actions, `[..., A]`."""
    weights = allowed.to(dtype)
    return weights / weights.sum(-1, keepdim=True)
