"""Maximisation of many independent functions of two variables in a box at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit

from rl_markets.envs.numerics.checks import FloatArray

Objective = Callable[[FloatArray, FloatArray], FloatArray]

GRID = expit(np.linspace(-4.0, 4.0, 11))  # shares of the box at which the search starts
EDGE = 12.0  # log-odds that count as the edge of the box
STEP = 1e-4  # of differences in log-odds: gradient and Hessian err by about 1e-8 of the objective
TOLERANCE = 1e-6  # of a step in log-odds; an error d of the maximiser costs only d squared


def maximise(
    objective: Objective,
    size: int,
    bounds: tuple[float, float],
    start: tuple[FloatArray, FloatArray] | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Maximise objective(x, y) -> [size], entry by entry: (x, y, maximum), all [size].

    x and y are in `bounds`. A grid finds each entry's hill, or `start`, an (x, y) pair, where that
    is higher. Newton's method in log-odds climbs it, or the gradient where the function is not
    concave, halving a step that does not climb.
    """
    low = bounds[0]
    width = bounds[1] - bounds[0]

    def at(log_odds: FloatArray) -> FloatArray:
        x, y = low + width * expit(log_odds)
        return objective(x, y)

    position = _best_of_grid(at, size)
    best = at(position)
    if start is not None:
        shares = np.clip((np.stack(start) - low) / width, expit(-EDGE), expit(EDGE))
        value = objective(*(low + width * shares))
        position = np.where(value > best, logit(shares), position)
        best = np.fmax(value, best)  # a NaN of either gives way to the other
    for _ in range(100):
        position, best, largest_move = _climb(at, position, best)
        if largest_move < TOLERANCE:
            break
    x, y = low + width * expit(position)
    return x, y, best


def _best_of_grid(at: Callable[[FloatArray], FloatArray], size: int) -> FloatArray:
    """[2, size]: each entry's highest point of the grid, in log-odds."""
    points = np.stack(np.meshgrid(logit(GRID), logit(GRID)), axis=-1).reshape(-1, 2)
    values = np.stack([at(np.broadcast_to(point[:, None], (2, size))) for point in points])
    highest = np.argmax(np.where(np.isnan(values), -np.inf, values), axis=0)
    return np.asarray(points[highest].T)


def _climb(
    at: Callable[[FloatArray], FloatArray], position: FloatArray, best: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """One step of every entry: (position [2, size], value [size], largest move)."""
    direction = _direction(at, position, best)
    move = np.zeros_like(best)
    pending = np.max(np.abs(direction), axis=0) > TOLERANCE
    for halving in range(12):
        trial = np.clip(position + np.where(pending, direction * 0.5**halving, 0.0), -EDGE, EDGE)
        value = at(trial)
        better = pending & (value > best)
        move = np.where(better, np.max(np.abs(trial - position), axis=0), move)
        position = np.where(better, trial, position)
        best = np.where(better, value, best)
        pending &= ~better
        if not pending.any():
            break
    return position, best, float(move.max())


def _direction(
    at: Callable[[FloatArray], FloatArray], position: FloatArray, best: FloatArray
) -> FloatArray:
    """[2, size]: Newton's step where the function is concave, else along the gradient.

    A step is 2 at most, in log-odds.
    """
    # Central differences.
    dx = np.array([[STEP], [0.0]])
    dy = np.array([[0.0], [STEP]])
    right = at(position + dx)
    left = at(position - dx)
    up = at(position + dy)
    down = at(position - dy)
    corners = at(position + dx + dy) + at(position - dx - dy)
    gx = (right - left) / (2.0 * STEP)
    gy = (up - down) / (2.0 * STEP)
    hxx = (right - 2.0 * best + left) / STEP**2
    hyy = (up - 2.0 * best + down) / STEP**2
    hxy = (corners - right - left - up - down + 2.0 * best) / (2.0 * STEP**2)
    determinant = hxx * hyy - hxy**2
    concave = (hxx < 0.0) & (determinant > 0.0)
    # Newton's step solves the 2 x 2 system by Cramer's rule.
    safe = np.where(concave, determinant, 1.0)
    newton = np.stack([hxy * gy - hyy * gx, hxy * gx - hxx * gy]) / safe
    gradient = np.stack([gx, gy])
    uphill = gradient / np.maximum(np.abs(gradient).max(axis=0), 1e-300)
    step = np.where(concave, newton, 2.0 * uphill)
    return np.asarray(step / np.maximum(1.0, 0.5 * np.abs(step).max(axis=0)))
