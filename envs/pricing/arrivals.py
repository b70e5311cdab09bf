"""How many customers come: Poisson counts by inversion of uniform numbers.

A sampler by rejection takes a number of draws that depends on the mean, so that one world's prices
would shift the draws of all later ones. A count here is a function of its own uniform number and
its own mean alone, the same on every device, and rises with either: worlds that differ in a price
only have the same customers otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGE = 16.0
"""Means above it are inverted approximately.

The counts' distribution is then off by less than 3e-4 in total variation.
"""
MOST = 48
"""Counts that the exact inversion reaches; of mean `LARGE`, they are higher once in 1e10."""
TAIL = 4e-6
"""What is cut off the upper tail: about what the sums of float32 probabilities may lack of 1."""
LOOK = 4
"""Terms of the sum between two looks at whether all is summed."""


def poisson(uniform: Tensor, mean: Tensor) -> Tensor:
    """Counts with these means, of their dtype; `uniform` in [0, 1), of the same shape."""
    # Only on the CPU: elsewhere reading the largest mean would wait for the device.
    if mean.device.type == "cpu" and float(mean.amax()) <= LARGE:
        return _small(uniform, mean)
    large = mean > LARGE
    small_counts = _small(uniform.masked_fill(large, 0), mean.clamp_max(LARGE))
    return torch.where(large, _large(uniform, mean), small_counts)


def _small(uniform: Tensor, mean: Tensor) -> Tensor:
    """How many partial sums of the probabilities lie below the uniform number."""
    term = torch.exp(-mean)
    rest = (uniform * (1 - TAIL)).sub_(term)
    count = torch.zeros_like(mean)
    for k in range(1, MOST + 1):
        if k % LOOK == 1 and mean.device.type == "cpu" and float(rest.amax()) <= 0:
            break
        # 1 where something is left of it, without a mask: five times as fast.
        count.add_(rest.clamp_min(0).ceil_())
        # P(D = k) = P(D = k - 1) mean / k.
        rest.sub_(term.mul_(mean).mul_(1 / k))
    return count


def _large(uniform: Tensor, mean: Tensor) -> Tensor:
    """The first terms of the Cornish-Fisher expansion, enough for large means (Giles 2016)."""
    z = torch.special.ndtri(uniform.double().clamp(1e-8, 1 - 1e-8))
    root = mean.double().clamp_min(LARGE).sqrt()
    x = root * root + root * z + (z * z + 2) / 6 - (2 * z + z**3) / (72 * root)
    return torch.floor(x).clamp_min(0).to(mean.dtype)
