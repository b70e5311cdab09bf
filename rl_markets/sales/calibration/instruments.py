"""Two-stage least squares, for prices that answer demand.

They need instruments: something that moves prices and not demand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TwoStage:
    """An estimate by instruments.

    Attributes:
        slope: of x.
        standard_error: robust.
        ordinary: the slope by ordinary least squares, for comparison.
        first_stage_f: F of the instruments in the regression of x on them.
        rows: R.
    """

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
    # Deviations from the groups' means stand in for a dummy of each group.
    y_columns, x_columns, z_columns = (_within(v, group.reshape(-1)) for v in columns)
    dy = y_columns[:, 0]
    dx = x_columns[:, 0]

    predicted, f = _first_stage(x_columns, z_columns, len(np.unique(group)))
    # The second stage regresses y on the predicted x, but its residuals are those of x itself.
    slope = float(predicted @ dy / (predicted @ dx))
    moments = predicted * (dy - slope * dx)
    if clusters is not None:
        _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
        moments = np.asarray(np.bincount(cluster.reshape(-1), moments), dtype=np.float64)
    error = float(np.sqrt(moments @ moments) / abs(predicted @ dx))
    ordinary = float(dx @ dy / (dx @ dx))
    return TwoStage(slope, error, ordinary, f, len(group))


def _first_stage(x_columns: Array, z_columns: Array, groups: int) -> tuple[Array, float]:
    """[R] x as predicted by the instruments, and their F; all are deviations within groups."""
    coefficients, _, rank, _ = np.linalg.lstsq(z_columns, x_columns, rcond=1e-10)
    predicted = (z_columns @ coefficients)[:, 0]
    dx = x_columns[:, 0]
    residual = dx - predicted
    freedom = len(dx) - groups - int(rank)
    explained = float(predicted @ predicted)
    if rank == 0 or freedom < 1 or explained < 1e-12 * float(dx @ dx) or not dx.any():
        raise ValueError("the instruments do not move the price within products")
    f = explained / int(rank) / max(float(residual @ residual) / freedom, 1e-300)
    return predicted, f


def _within(values: Array, group: NDArray[np.int64]) -> Array:
    """Deviations from the groups' means, column by column."""
    count = np.bincount(group)
    means = np.stack([np.bincount(group, v) / count for v in values.T], axis=1)
    return np.asarray(values - means[group])
