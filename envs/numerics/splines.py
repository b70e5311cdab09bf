"""Cubic B-splines on an interval: the local basis for a value function with kinks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline

from rl_markets.envs.numerics.checks import FloatArray

DEGREE = 3


@dataclass(frozen=True)
class Splines:
    """The `order` cubic B-splines with equally spaced knots on [low, high]; beyond, straight lines.

    Where constraints start to bind, a value function has kinks. Polynomials carry a kink's error
    everywhere, splines keep it near. Raises ValueError for an empty interval or an order below 4.
    """

    low: float
    high: float
    order: int

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"interval = [{self.low!r}, {self.high!r}]: expected low < high")
        if self.order <= DEGREE:
            raise ValueError(f"order = {self.order!r}: expected at least {DEGREE + 1}")

    @property
    def knots(self) -> FloatArray:
        """[order + 4], with the ends repeated."""
        inner = np.linspace(self.low, self.high, self.order - DEGREE + 1)
        return np.concatenate([np.full(DEGREE, self.low), inner, np.full(DEGREE, self.high)])

    def nodes(self) -> FloatArray:
        """[order] ascending: Greville's points, one a spline, the ends included."""
        windows = np.lib.stride_tricks.sliding_window_view(self.knots[1:-1], DEGREE)
        return np.asarray(windows.mean(axis=1))

    def position(self, x: FloatArray) -> FloatArray:
        """`x` mapped linearly, [low, high] to [-1, 1]."""
        return np.asarray(2.0 * (x - self.low) / (self.high - self.low) - 1.0)

    def basis(self, x: FloatArray) -> FloatArray:
        """The splines at `x` [N]: [N, order]."""
        inside = np.clip(x, self.low, self.high)
        basis = BSpline.design_matrix(inside, self.knots, DEGREE).toarray()
        # At an end of the interval only the last two splines have a slope, and theirs are opposite.
        slope = DEGREE * (self.order - DEGREE) / (self.high - self.low)
        below = slope * np.minimum(x - self.low, 0.0)
        above = slope * np.maximum(x - self.high, 0.0)
        basis[:, :2] += np.stack([-below, below], axis=-1)
        basis[:, -2:] += np.stack([-above, above], axis=-1)
        return np.asarray(basis)
