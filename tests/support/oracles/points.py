"""Loyalty points as a price: the best rate for one purchase, and across customers.

A buyer of one unit at the price p gets x yen of points. With logit demand and an outside option of
utility a0,

    s(p, x) = 1 / (1 + exp(-(a - p + kappa x - a0) / mu))
    profit per visitor = (p - c - phi x) s(p, x)

kappa is what a yen of points is worth to the customer, phi what it costs the firm: the probability
that it is redeemed times its share of the cost. In the price that the customer feels,
P = p - kappa x, this is the usual logit problem with the cost C = p - (kappa / phi) (p - c), so
that

    P* = C + mu (1 + W(exp((a - a0 - C) / mu - 1)))
    x* = (p - P*) / kappa, cut off at 0 and the most allowed

If the price is free too, a rate r = x / p makes the profit k (P - c / k) s(P), with
k = (1 - phi r) / (1 - kappa r), which rises in k, and k rises in r just if kappa > phi. Hence a
rule without exceptions: where kappa <= phi the best rate is 0, otherwise the highest allowed. Rates
in between come only from fixed prices or from customers who differ. W is Lambert's function; its
use here is that of the logit mark-up, as in `mnl`. All money is in yen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rl_markets.envs.numerics.checks import FloatArray, finite, not_negative, positive, within
from tests.support.oracles.single_price import logit_markup


def points_profit(
    points: ArrayLike,
    a: ArrayLike,
    price: ArrayLike,
    cost: ArrayLike,
    mu: ArrayLike,
    kappa: ArrayLike,
    phi: ArrayLike,
    outside: ArrayLike = 0.0,
) -> FloatArray:
    """Profit per visitor of giving `points` yen per unit; the arguments broadcast."""
    x, a, p, c, k, f, a0, mu = (
        np.asarray(v, dtype=np.float64) for v in (points, a, price, cost, kappa, phi, outside, mu)
    )
    return np.asarray((p - c - f * x) * expit((a - p + k * x - a0) / mu))


def best_points(
    a: ArrayLike,
    price: ArrayLike,
    cost: ArrayLike,
    mu: ArrayLike,
    kappa: ArrayLike,
    phi: ArrayLike,
    outside: ArrayLike = 0.0,
    most: ArrayLike = np.inf,
) -> FloatArray:
    """The best yen of points per unit at a given price, between 0 and `most`.

    The arguments broadcast. Raises ValueError unless mu, kappa and phi are positive.
    """
    mu = positive("mu", mu)
    kappa = positive("kappa", kappa)
    phi = positive("phi", phi)
    a = finite("a", a)
    p = finite("price", price)
    c = finite("cost", cost)
    a0 = finite("outside", outside)
    felt_cost = p - kappa / phi * (p - c)
    felt_price = felt_cost + logit_markup(a - felt_cost - a0, mu)
    return np.asarray(np.clip((p - felt_price) / kappa, 0.0, np.asarray(most, dtype=np.float64)))


@dataclass(frozen=True)
class PriceAndPoints:
    """The best price, rate of points (share of the price) and profit per visitor."""

    price: float
    rate: float
    profit: float


def best_price_and_points(
    a: float,
    cost: float,
    mu: float,
    kappa: float,
    phi: float,
    most_rate: float,
    outside: float = 0.0,
) -> PriceAndPoints:
    """The best price and rate together: the rate is 0 if kappa <= phi, otherwise `most_rate`.

    Raises ValueError unless mu is positive, kappa and phi are not negative, the rate below 1 and
    kappa times it too.
    """
    finite("a, cost, outside", [a, cost, outside])
    positive("mu", mu)
    not_negative("kappa, phi", [kappa, phi])
    within("most_rate", most_rate, 0.0, 1.0, open_high=True)
    within("kappa most_rate", kappa * most_rate, 0.0, 1.0, open_high=True)
    within("phi most_rate", phi * most_rate, 0.0, 1.0, open_high=True)
    rate = most_rate if kappa > phi else 0.0
    # In the price that is felt, P = (1 - kappa r) p, this is the logit problem with cost c / k.
    k = (1.0 - phi * rate) / (1.0 - kappa * rate)
    markup = float(logit_markup(a - cost / k - outside, mu))
    return PriceAndPoints((cost / k + markup) / (1.0 - kappa * rate), rate, k * (markup - mu))


@dataclass(frozen=True)
class Segment:
    """A kind of customer.

    weight: its share of visitors. a, mu: its tastes, in yen. kappa, phi: what a yen of points is
    worth to it, and costs the firm.
    """

    weight: float
    a: float
    mu: float
    kappa: float
    phi: float


TWO_SEGMENTS = (Segment(0.5, 980.0, 110.0, 1.0, 1.0), Segment(0.5, 1080.0, 110.0, 0.2, 0.25))


def segment_profits(
    rates: ArrayLike, price: float, cost: float, segments: tuple[Segment, ...] = TWO_SEGMENTS
) -> FloatArray:
    """Profit per visitor of each rate of points at a given price, over kinds of customers: [rates].

    Points sell to those who value them without a discount to the others: the best rate may lie
    between 0 and the cap. By default two kinds: who collects and redeems, and who pays more and
    mostly forgets.
    """
    x = not_negative("rates", rates, ndim=1) * price
    if not segments or abs(sum(s.weight for s in segments) - 1.0) > 1e-9:
        raise ValueError("segments: expected weights that sum to 1")
    profits = [
        s.weight * points_profit(x, s.a, price, cost, s.mu, s.kappa, s.phi) for s in segments
    ]
    return np.asarray(np.sum(profits, axis=0))
