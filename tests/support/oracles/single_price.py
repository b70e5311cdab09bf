"""The best price of one product, if it stays and nothing else moves: textbook closed forms.

    linear       d = b0 - b1 p                              p* = (b0 / b1 + c) / 2
    exponential  d = a exp(-alpha p)                        p* = c + 1 / alpha
    isoelastic   d = A p^-e, e > 1                          p* = c e / (e - 1)
    logit        d = Lam / (1 + exp(-(a - p - a0) / mu))    p* = c + mu (1 + W(x))

with x = exp((a - c - a0) / mu - 1) and Lambert's W. A platform that takes the share f of the price
leaves (1-f) p - c = (1-f) (p - c / (1-f)): give c / (1-f) as the cost. All arguments may be arrays;
they broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import wrightomega

from rl_markets.envs.numerics.checks import FloatArray, finite, positive


def linear_price(b0: ArrayLike, b1: ArrayLike, cost: ArrayLike) -> FloatArray:
    """Of demand b0 - b1 p, with b1 > 0; no less than the cost.

    At the cost nothing can be sold, if b0 / b1 is below it.
    """
    c = finite("cost", cost)
    return np.asarray(np.maximum(0.5 * (finite("b0", b0) / positive("b1", b1) + c), c))


def exponential_price(alpha: ArrayLike, cost: ArrayLike) -> FloatArray:
    """Of demand a exp(-alpha p), with alpha > 0."""
    return np.asarray(finite("cost", cost) + 1.0 / positive("alpha", alpha))


def isoelastic_price(elasticity: ArrayLike, cost: ArrayLike) -> FloatArray:
    """Of demand A p^-e.

    Raises ValueError unless e > 1 and the cost is positive: otherwise no price is best.
    """
    e = finite("elasticity", elasticity)
    if e.min() <= 1.0:
        raise ValueError(
            f"elasticity = {e.min():g}: expected more than 1, "
            "or profit rises with the price for ever"
        )
    return np.asarray(positive("cost", cost) * e / (e - 1.0))


def logit_price(
    a: ArrayLike, cost: ArrayLike, mu: ArrayLike, outside: ArrayLike = 0.0
) -> FloatArray:
    """Of logit demand with utilities (a - p) / mu against outside / mu.

    The profit per visitor is p* - c - mu.
    """
    c = finite("cost", cost)
    surplus = finite("a", a) - c - finite("outside", outside)
    return np.asarray(c + logit_markup(surplus, positive("mu", mu)))


def logit_markup(surplus: ArrayLike, mu: ArrayLike) -> FloatArray:
    """mu (1 + W(exp(surplus / mu - 1))): what to add to the cost, with `surplus` = a - c - a0."""
    mu = np.asarray(mu, dtype=np.float64)
    # wrightomega(x) = W(exp(x)), without the overflow of exp.
    return np.asarray(mu * (1.0 + wrightomega(np.asarray(surplus, dtype=np.float64) / mu - 1.0)))
