"""Intervals over seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent samples, one from each seed."""
    half = float(stats.t.ppf(0.5 + level / 2, len(samples) - 1) * samples.std(ddof=1) / np.sqrt(len(samples)))
    return float(samples.mean()) - half, float(samples.mean()) + half
