"""Statistics of inequality and of aggregate paths: of any simulated economy, learned or exact.

The law of motion is Krusell and Smith's (1998), log K' = intercept_z + slope_z log K. Its R2 says
little: even laws that go astray reach .999. Den Haan (2010), "Assessing the accuracy of the
aggregate law of motion in models with heterogeneous agents", iterates the law alone and compares
paths, which shows errors that add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.krusell_smith.solution.economy import IntArray
from rl_markets.envs.numerics.checks import FloatArray

LEAST_OBSERVATIONS = 3  # of each state, for a regression with a residual


@dataclass(frozen=True)
class LawOfMotion:
    """log K' = intercept[z] + slope[z] log K, with the R2 of its regression.

    Each is a tuple over states z.
    """

    intercept: tuple[float, ...]
    slope: tuple[float, ...]
    r2: tuple[float, ...]

    def __call__(self, K: ArrayLike, z: ArrayLike) -> FloatArray:
        """Next period's effective capital; shapes broadcast."""
        state = np.asarray(z)
        intercept = np.asarray(self.intercept)[state]
        slope = np.asarray(self.slope)[state]
        return np.asarray(np.exp(intercept + slope * np.log(K)))

    def distance(self, other: LawOfMotion) -> float:
        """Largest difference of a coefficient."""
        coefficients = self.intercept + self.slope
        others = other.intercept + other.slope
        return max(abs(a - b) for a, b in zip(coefficients, others, strict=True))


def law_of_motion(K: ArrayLike, z: ArrayLike) -> LawOfMotion:
    """Regression of log K_{t+1} on log K_t, one for each state z_t.

    K, z: [T] or [T, paths]; z counts the states from 0. Raises ValueError for arrays of other or
    different shapes, capital that is not positive, or a state in which capital was seen less than
    three times or never moved.
    """
    capital, states = _paths(K, z)
    x = np.log(capital[:-1])
    y = np.log(capital[1:])
    fits = []
    for state in range(int(states.max()) + 1):
        now = states[:-1] == state
        fits.append(_regress(x[now], y[now], state))
    intercept, slope, r2 = zip(*fits, strict=True)
    return LawOfMotion(intercept, slope, r2)


def den_haan(K: ArrayLike, z: ArrayLike, law: LawOfMotion) -> tuple[float, float]:
    """Den Haan's dynamic forecast error in % of capital: (largest, mean).

    The law alone is iterated along z from K_0, never corrected by the path. K, z: [T] or
    [T, paths].
    """
    capital, states = _paths(K, z)
    forecast = np.empty_like(capital)
    forecast[0] = capital[0]
    for t in range(len(capital) - 1):
        forecast[t + 1] = law(forecast[t], states[t])
    errors = 100.0 * np.abs(np.log(forecast / capital))[1:]
    return float(errors.max()), float(errors.mean())


def lorenz(x: ArrayLike, weights: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
    """Lorenz curve of `x` [N]: (share of households, share of the total they hold), both [N + 1].

    The poorest come first. weights: [N] households at each x, by default one. Raises ValueError for
    values or weights that are negative or add up to nothing, or shapes that differ.
    """
    values = np.asarray(x, dtype=np.float64)
    heads = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or heads.shape != values.shape:
        raise ValueError(
            f"x of shape {values.shape}, weights of shape {heads.shape}: expected two arrays [N]"
        )
    if not (np.all(values >= 0.0) and np.all(heads >= 0.0) and float(values @ heads) > 0.0):
        raise ValueError("x, weights: expected numbers >= 0 with a positive total")
    order = np.argsort(values, kind="stable")
    people = np.cumsum(heads[order])
    held = np.cumsum(values[order] * heads[order])
    return np.concatenate([[0.0], people / people[-1]]), np.concatenate([[0.0], held / held[-1]])


def gini(x: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Gini coefficient of `x` [N], 0 = all equal, 1 = one holds all.

    It is twice the area between the Lorenz curve and the diagonal.
    """
    people, held = lorenz(x, weights)
    return float(1.0 - np.sum((held[1:] + held[:-1]) * np.diff(people)))


def top_share(x: ArrayLike, share: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """What the richest `share` of households hold of the total; of the shape of `share`.

    share: .01 is the top 1%.
    """
    people, held = lorenz(x, weights)
    return np.asarray(1.0 - np.interp(1.0 - np.asarray(share, dtype=np.float64), people, held))


def _regress(x: FloatArray, y: FloatArray, state: int) -> tuple[float, float, float]:
    """(intercept, slope, R2) of y on x, both [N]."""
    if len(x) < LEAST_OBSERVATIONS or not np.ptp(x) > 0.0 or not np.ptp(y) > 0.0:
        moved = np.ptp(x) if len(x) else 0.0
        raise ValueError(f"z = {state}: capital was seen {len(x)} times and moved by {moved:g}")
    dx = x - x.mean()
    dy = y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    intercept = float(y.mean() - slope * x.mean())
    residual = dy - slope * dx
    return intercept, slope, float(1.0 - residual @ residual / (dy @ dy))


def _paths(K: ArrayLike, z: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Capital and state as arrays [T, paths]."""
    capital = np.asarray(K, dtype=np.float64)
    states = np.asarray(z, dtype=np.int64)
    if capital.shape != states.shape or capital.ndim not in (1, 2) or len(capital) < 2:
        raise ValueError(
            f"K of shape {capital.shape}, z of shape {states.shape}: "
            "expected [T] or [T, paths] for both"
        )
    if not np.all(capital > 0.0) or np.any(states < 0):
        raise ValueError("K, z: expected positive capital and states counted from 0")
    return capital.reshape(len(capital), -1), states.reshape(len(states), -1)
