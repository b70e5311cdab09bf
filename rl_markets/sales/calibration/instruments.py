"""Two-stage least squares: prices that answer demand need something that moves them and not
demand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TwoStage:
    """The slope by instruments, its robust standard error, ordinary least squares beside it, and
    the first stage's F."""

    slope: float
    standard_error: float
    ordinary: float
    first_stage_f: float
    rows: int


def two_stage(
    y: ArrayLike, x: ArrayLike, z: ArrayLike, effects: ArrayLike, clusters: ArrayLike | None = None
) -> TwoStage:
    """y = effect + slope x + u, with instruments z for x.

    Args:
        y, x: [R].
        z: [R, Z] instruments.
        effects: [R] groups, each with a constant of its own.
        clusters: [R] groups whose errors may be correlated; left out, errors are only
            heteroskedastic.

    Raises:
        ValueError: where the instruments do not move x within the groups.
    """
    _, group = np.unique(np.asarray(effects), return_inverse=True)
    columns = [np.asarray(v, dtype=np.float64).reshape(len(group), -1) for v in (y, x, z)]
    y_, x_, z_ = (_within(v, group.reshape(-1)) for v in columns)
    coefficients, _, rank, _ = np.linalg.lstsq(z_, x_, rcond=1e-10)
    predicted = (z_ @ coefficients)[:, 0]
    left = x_[:, 0] - predicted
    freedom = len(group) - len(np.unique(group)) - int(rank)
    explained = float(predicted @ predicted)
    if rank == 0 or freedom < 1 or explained < 1e-12 * float(x_[:, 0] @ x_[:, 0]) or not x_.any():
        raise ValueError("the instruments do not move the price within products")
    f = explained / int(rank) / max(float(left @ left) / freedom, 1e-300)
    slope = float(predicted @ y_[:, 0] / (predicted @ x_[:, 0]))
    moments = predicted * (y_[:, 0] - slope * x_[:, 0])
    if clusters is not None:
        _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
        moments = np.asarray(np.bincount(cluster.reshape(-1), moments), dtype=np.float64)
    error = float(np.sqrt(moments @ moments) / abs(predicted @ x_[:, 0]))
    return TwoStage(slope, error, float(x_[:, 0] @ y_[:, 0] / (x_[:, 0] @ x_[:, 0])), f, len(group))


def _within(values: Array, group: NDArray[np.int64]) -> Array:
    """Deviations from the groups' means, column by column."""
    count = np.bincount(group)
    means = np.stack([np.bincount(group, v) / count for v in values.T], axis=1)
    return np.asarray(values - means[group])
