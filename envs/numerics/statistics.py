"""Intervals over seeds, and what a value lacks of the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent samples, one from each seed."""
    half = float(
        stats.t.ppf(0.5 + level / 2, len(samples) - 1) * samples.std(ddof=1) / np.sqrt(len(samples))
    )
    return float(samples.mean()) - half, float(samples.mean()) + half


def optimality_gap(value: float, best: float) -> float:
    """What a value lacks of the best one, in % of the best's size, whatever its sign; NaN where the
    best is 0."""
    return 100 * (best - value) / abs(best) if best else float("nan")
