"""Cubic B-splines on an interval: the local basis for a value function with kinks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline

from .economy import FloatArray


@dataclass(frozen=True)
class Splines:
    low: float
    high: float
    order: int

    @property
    def knots(self) -> FloatArray:
        inner = np.linspace(self.low, self.high, self.order - 2)
        return np.concatenate([np.full(3, self.low), inner, np.full(3, self.high)])

    def nodes(self) -> FloatArray:
        t = self.knots
        return np.array([t[j + 1 : j + 4].mean() for j in range(self.order)])

    def position(self, x):
        return 2 * (x - self.low) / (self.high - self.low) - 1

    def basis(self, x: FloatArray) -> FloatArray:
        x = np.clip(x, self.low, self.high)
        return BSpline.design_matrix(x.ravel(), self.knots, 3).toarray().reshape(*x.shape, self.order)
