"""Chebyshev polynomials on an interval: the basis shared by the collocation solvers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev

from rl_markets.envs.numerics.checks import FloatArray


@dataclass(frozen=True)
class Interval:
    """A state variable's range, with the Chebyshev basis of its first `order` polynomials.

    Beyond [low, high] the polynomials go on for `margin` half-widths, then as straight lines: a
    state far outside is answered by linear extrapolation instead of an exploding polynomial. Raises
    ValueError for an empty interval or an order below 1.
    """

    low: float
    high: float
    order: int
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"interval = [{self.low!r}, {self.high!r}]: expected low < high")
        if self.order < 1:
            raise ValueError(f"order = {self.order!r}: expected at least 1")

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return 0.5 * (self.high - self.low)

    def nodes(self) -> FloatArray:
        """[order] ascending: the zeros of the first omitted polynomial."""
        unit = -np.cos(np.pi * (np.arange(self.order) + 0.5) / self.order)
        return np.asarray(self.low + (unit + 1.0) * self.half_width)

    def position(self, x: FloatArray) -> FloatArray:
        """`x` mapped linearly, [low, high] to [-1, 1]."""
        return np.asarray((x - self.low) / self.half_width - 1.0)

    def basis(self, x: FloatArray) -> FloatArray:
        """The polynomials at `x`: [..., order]."""
        position = self.position(x)
        curved = self._clip(position)
        basis = chebyshev.chebvander(curved, self.order - 1)
        beyond = position - curved
        if np.any(beyond):
            basis = basis + beyond[..., None] * self._slopes(curved)
        return np.asarray(basis)

    def slopes(self, x: FloatArray) -> FloatArray:
        """Their derivatives at `x`: [..., order]."""
        return self._slopes(self._clip(self.position(x))) / self.half_width

    def _clip(self, position: FloatArray) -> FloatArray:
        edge = 1.0 + self.margin
        return np.asarray(np.clip(position, -edge, edge))

    def _slopes(self, position: FloatArray) -> FloatArray:
        derivative = chebyshev.chebder(np.eye(self.order))
        return np.asarray(chebyshev.chebvander(position, len(derivative) - 1) @ derivative)


def product_nodes(first: Interval, second: Interval) -> tuple[FloatArray, FloatArray]:
    """Every pair of both intervals' nodes, two times [N], N = first.order * second.order."""
    pairs = np.meshgrid(first.nodes(), second.nodes(), indexing="ij")
    return pairs[0].ravel(), pairs[1].ravel()


def outer(left: FloatArray, right: FloatArray) -> FloatArray:
    """Row-wise outer product: [N, a] and [N, b] give [N, a * b]."""
    return np.asarray((left[:, :, None] * right[:, None, :]).reshape(len(left), -1))
