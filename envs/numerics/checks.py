"""Checks of what a caller gives: one clear line for what is wrong."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


def finite(name: str, values: ArrayLike, ndim: int | None = None) -> FloatArray:
    """`values` as a new array of float64.

    Raises ValueError if one is not finite, there is none, or the dimensions are not `ndim`.
    """
    array = np.array(values, dtype=np.float64)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{name} has shape {array.shape}: expected {ndim} dimension{'s' * (ndim != 1)}"
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds a number that is not finite")
    return array


def positive(name: str, values: ArrayLike, ndim: int | None = None) -> FloatArray:
    """`values` as by `finite`, or ValueError if one is not above 0."""
    array = finite(name, values, ndim)
    if array.min() <= 0.0:
        raise ValueError(f"{name} holds {array.min():g}: expected numbers above 0")
    return array


def not_negative(name: str, values: ArrayLike, ndim: int | None = None) -> FloatArray:
    """`values` as by `finite`, or ValueError if one is below 0."""
    array = finite(name, values, ndim)
    if array.min() < 0.0:
        raise ValueError(f"{name} holds {array.min():g}: expected no negative number")
    return array


def within(
    name: str,
    value: float,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """ValueError unless `value` lies between `low` and `high`; an open end is itself excluded."""
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if not (above and below):
        left = "(" if open_low else "["
        right = ")" if open_high else "]"
        raise ValueError(f"{name} = {value!r}: expected a number in {left}{low:g}, {high:g}{right}")


def whole(name: str, value: int, least: int) -> int:
    """`value`, or ValueError unless it is a whole number of `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} = {value!r}: expected a whole number of {least} or more")
    return int(value)


def distributions(name: str, values: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """`values` of the given shape, its last axis probabilities.

    Raises ValueError for another shape, a negative entry, or probabilities that do not sum to 1.
    """
    array = not_negative(name, values)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: expected {shape}")
    if np.abs(array.sum(axis=-1) - 1.0).max() > 1e-9:
        raise ValueError(f"{name}: the probabilities of a choice do not sum to 1")
    return array


def choices(name: str, values: ArrayLike, shape: tuple[int, ...], count: int) -> IntArray:
    """`values` of the given shape, or ValueError unless they are indices in 0..count-1."""
    array = np.asarray(values)
    if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name} is {array.dtype} of shape {array.shape}: expected integers of shape {shape}"
        )
    if array.size and (array.min() < 0 or array.max() >= count):
        raise ValueError(f"{name} holds an index outside 0..{count - 1}")
    return np.asarray(array, dtype=np.int64)
