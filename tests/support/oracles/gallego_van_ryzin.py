"""Optimal price of a stock that must go by a deadline: a closed form.

Time is continuous, demand exponential: customers buy one by one at the rate lambda(p) =
a exp(-alpha p). With n units and the time t left,

    dJ(n, t) / dt = max over p of lambda(p) [p - (J(n, t) - J(n-1, t))],   J(0, t) = J(n, 0) = 0
    J(n, t)  = 1/alpha log sum over i = 0..n of (a t / e)^i / i!
    p(n, t)  = J(n, t) - J(n-1, t) + 1/alpha

Known demand, the fluid, is worth more than J; one price for all the time is worth no less than the
share 1 - 1 / (2 sqrt(min(n, lambda* t))) of it, lambda* = a/e being the rate with the highest
revenue.
Source: Gallego and van Ryzin (1994), Management Science 40(8).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e, exp, log, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import gammainc, gammaln, xlogy

from rl_markets.envs.numerics.checks import FloatArray, finite, whole


def expected_sales(mean: ArrayLike, stock: int) -> FloatArray:
    """E min(D, stock) for Poisson demand D with these means: of their shape, in units."""
    units = np.arange(1, whole("stock", stock, 0) + 1)
    # E min(D, n) is the sum over k = 1..n of P(D >= k), the regularised gamma function at k.
    return np.asarray(gammainc(units, np.asarray(mean, dtype=np.float64)[..., None]).sum(axis=-1))


@dataclass(frozen=True)
class ExponentialSeason:
    """A season: `stock` units, the time left, and demand a exp(-alpha p).

    a: customers per unit of time at the price 0. alpha: per money.
    Raises ValueError unless a and alpha are positive, stock is a whole number and time is not
    negative.
    """

    a: float
    alpha: float
    stock: int
    time: float

    def __post_init__(self) -> None:
        finite("a, alpha, time", [self.a, self.alpha, self.time])
        whole("stock", self.stock, 0)
        if self.a <= 0.0 or self.alpha <= 0.0 or self.time < 0.0:
            raise ValueError(
                f"a = {self.a!r}, alpha = {self.alpha!r}, time = {self.time!r}: "
                "expected a, alpha > 0 <= time"
            )

    def rate(self, price: ArrayLike) -> FloatArray:
        """lambda(p), units per time, of an array of prices."""
        return np.asarray(self.a * np.exp(-self.alpha * np.asarray(price, dtype=np.float64)))

    def value(self) -> FloatArray:
        """J(n, time) for n = 0..stock: [stock + 1], in money."""
        i = np.arange(self.stock + 1)
        terms = xlogy(i, self.a * self.time / e) - gammaln(i + 1)
        return np.asarray(np.logaddexp.accumulate(terms) / self.alpha)

    def price(self) -> FloatArray:
        """p(n, time) for n = 0..stock: [stock + 1]; infinite without stock."""
        return np.concatenate([[np.inf], np.diff(self.value()) + 1.0 / self.alpha])

    def value_by_ode(self, steps: int = 4000) -> FloatArray:
        """J(n, time) by the equation itself, with Runge and Kutta's fourth-order method.

        It knows only that the best price is 1/alpha above the value of a unit. [stock + 1], as
        `value`; the error falls as steps^-4.
        """
        h = self.time / whole("steps", steps, 1)

        def slope(j: FloatArray) -> FloatArray:
            unit = np.diff(j)
            price = unit + 1.0 / self.alpha
            return np.concatenate([[0.0], self.rate(price) * (price - unit)])

        j = np.zeros(self.stock + 1)
        for _ in range(steps):
            k1 = slope(j)
            k2 = slope(j + 0.5 * h * k1)
            k3 = slope(j + 0.5 * h * k2)
            k4 = slope(j + h * k3)
            j = j + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        return j

    def fluid(self) -> tuple[float, float]:
        """(price, revenue) of selling to known demand: max of p min(lambda(p) time, stock).

        The revenue is an upper bound of J.
        """
        most = self.a * self.time
        if most == 0.0 or self.stock == 0:
            return 1.0 / self.alpha, 0.0
        run_out = log(most / self.stock) / self.alpha  # the price at which demand is just the stock
        price = max(run_out, 1.0 / self.alpha)
        return price, price * min(most * exp(-self.alpha * price), float(self.stock))

    def fixed_value(self, price: ArrayLike) -> FloatArray:
        """Revenue of one price for all the time, of an array of prices: p E min(D, stock)."""
        p = np.asarray(price, dtype=np.float64)
        return np.asarray(p * expected_sales(self.rate(p) * self.time, self.stock))

    def best_fixed(self) -> tuple[float, float]:
        """(price, revenue) of the best single price, any positive number.

        Exact to 1e-9 of the price.
        """
        # Beyond it, so few buy that uncertainty hardly matters.
        high = self.fluid()[0] + 3.0 / self.alpha
        grid = np.linspace(0.0, high, 1001)[1:]
        best = int(np.argmax(self.fixed_value(grid)))
        around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        optimum = minimize_scalar(
            lambda p: -float(self.fixed_value(p)),
            bounds=around,
            method="bounded",
            options={"xatol": 1e-9 * high},
        )
        return float(optimum.x), -float(optimum.fun)

    def fixed_price_bound(self) -> float:
        """The share of J that a single price, the fluid's, is known to reach: in [0, 1).

        It is even a share of the fluid's revenue. min(stock, lambda* time) below 1/4 gives no
        bound, 0.
        """
        sold = min(float(self.stock), self.a * self.time / e)
        return max(0.0, 1.0 - 0.5 / sqrt(sold)) if sold > 0.0 else 0.0
