"""Intervals over seeds, and what a value lacks of the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent samples, one from each seed."""
    n = len(samples)
    quantile = stats.t.ppf(0.5 + level / 2, n - 1)
    half_width = float(quantile * samples.std(ddof=1) / np.sqrt(n))
    mean = float(samples.mean())
    return mean - half_width, mean + half_width


def share_of_stakes(value: float, best: float, simple: float) -> float:
    """What a value lacks of the best one, in % of what deciding well is worth.

    So much the best earns above `simple`, which earns 100 by itself. NaN where that is no more than
    a thousandth of the best: then there is nothing to decide.
    """
    stakes = best - simple
    return 100 * (best - value) / stakes if stakes > 1e-3 * abs(best) else float("nan")


def optimality_gap(value: float, best: float) -> float:
    """What a value lacks of the best one, in % of the best's size, whatever its sign.

    NaN where the best is 0.
    """
    return 100 * (best - value) / abs(best) if best else float("nan")
