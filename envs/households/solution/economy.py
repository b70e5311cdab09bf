"""The household real-business-cycle economy: preferences, technology, steady state and closed form.

    max E sum_t beta^t [log c_t + b log(1 - l_t)]
    c_t + k_{t+1} = a_t = exp(z_t) k_t^alpha l_t^(1-alpha) + (1 - delta) k_t
    z_{t+1} = rho z_t + sigma epsilon_{t+1},   epsilon ~ N(0, 1)

z is the log of total factor productivity. A household acts by `chat`, the consumed share of its
wealth, c = chat * a, and `l`, the worked share of its time. Identical households that start alike
have the same equilibrium whatever their number.

Source: MARL-BC, arXiv 2510.12272, equations 1-5.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from math import inf, sqrt
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rl_markets.envs.numerics.checks import FloatArray


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    closed_low: bool = False
    closed_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.closed_low else value > self.low
        below = value <= self.high if self.closed_high else value < self.high
        return above and below

    def __str__(self) -> str:
        left = "[" if self.closed_low else "("
        right = "]" if self.closed_high else ")"
        return f"{left}{self.low:g}, {self.high:g}{right}"


_RANGES = {
    "alpha": _Range(0.0, 1.0),
    "beta": _Range(0.0, 1.0),
    "delta": _Range(0.0, 1.0, closed_high=True),
    "b": _Range(0.0, inf),
    "rho": _Range(0.0, 1.0, closed_low=True),
    "sigma": _Range(0.0, inf, closed_low=True),
}


@dataclass(frozen=True)
class Economy:
    """Parameters of the economy; one period is one step of the market.

    Raises ValueError, naming the field, its value and the expected range, for a value out of range.
    """

    alpha: float = 0.36  # capital share of output
    beta: float = 0.95  # discount factor a period
    delta: float = 0.025  # depreciation a period; 1 = full depreciation
    b: float = 5.0  # weight of log leisure in utility
    rho: float = 0.9  # persistence of log productivity
    sigma: float = 0.01  # standard deviation of its innovation

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            allowed = _RANGES[field.name]
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not number or float(value) not in allowed:
                raise ValueError(f"{field.name} = {value!r}: expected a number in {allowed}")

    @property
    def tfp_sd(self) -> float:
        """Unconditional standard deviation of z, log productivity."""
        return self.sigma / sqrt(1.0 - self.rho**2)


@dataclass(frozen=True)
class SteadyState:
    """Deterministic rest point, per household and period."""

    k: float  # capital
    l: float  # labour, share of time  # noqa: E741 (the paper's symbol)
    y: float  # output
    c: float  # consumption
    i: float  # investment
    a: float  # wealth: output plus undepreciated capital
    chat: float  # consumed share of wealth
    r: float  # rental rate of capital, before depreciation
    w: float  # wage


@dataclass(frozen=True)
class Policy:
    """What a policy does at given states; every array has the states' broadcast shape."""

    chat: FloatArray  # consumed share of wealth
    l: FloatArray  # labour  # noqa: E741
    c: FloatArray  # consumption
    y: FloatArray  # output
    a: FloatArray  # wealth
    k_next: FloatArray  # next period's capital


class Solution(ABC):
    """A solved policy of the representative household."""

    @abstractmethod
    def policy(self, k: ArrayLike, z: ArrayLike) -> Policy:
        """The policy at capital `k` and log productivity `z`, of broadcastable shapes."""

    def actions(self, k: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """The household's actions (chat, l): the form which the diagnostics take."""
        policy = self.policy(k, z)
        return policy.chat, policy.l


def steady_state(economy: Economy) -> SteadyState:
    """Rest point without shocks, in closed form, from first-order conditions and resources."""
    alpha = economy.alpha
    delta = economy.delta
    # Constant consumption needs beta (1 - delta + r) = 1; the rental rate fixes capital per hour.
    r = 1.0 / economy.beta - 1.0 + delta
    capital_labour = (alpha / r) ** (1.0 / (1.0 - alpha))
    output_labour = capital_labour**alpha
    consumption_labour = output_labour - delta * capital_labour
    wage = (1.0 - alpha) * output_labour
    # Labour-leisure choice, b c / (1 - l) = w, with c in proportion to l.
    work_leisure = wage / (economy.b * consumption_labour)
    labour = work_leisure / (1.0 + work_leisure)
    k = capital_labour * labour
    y = output_labour * labour
    c = consumption_labour * labour
    a = y + (1.0 - delta) * k
    return SteadyState(k=k, l=labour, y=y, c=c, i=y - c, a=a, chat=c / a, r=r, w=wage)


def closed_form(economy: Economy) -> tuple[float, float]:
    """The constant optimal actions (chat, l) under full depreciation.

    chat = 1 - alpha beta,  l = (1 - alpha) / ((1 - alpha) + b (1 - alpha beta)).

    The paper's Eq. 13 for labour, as quoted by jax-marl-bc, has alpha and 1 - alpha swapped and is
    wrong. Raises ValueError unless delta = 1.
    """
    if economy.delta != 1.0:
        raise ValueError(
            f"delta = {economy.delta!r}: the closed form needs full depreciation, delta = 1"
        )
    chat = 1.0 - economy.alpha * economy.beta
    labour_share = 1.0 - economy.alpha
    return chat, labour_share / (labour_share + economy.b * chat)


def output(economy: Economy, k: FloatArray, labour: FloatArray, z: FloatArray) -> FloatArray:
    """Cobb-Douglas output exp(z) k^alpha l^(1-alpha)."""
    return np.asarray(np.exp(z) * k**economy.alpha * labour ** (1.0 - economy.alpha))


def utility(economy: Economy, c: FloatArray, labour: FloatArray) -> FloatArray:
    """Utility of one period, log c + b log(1 - l)."""
    return np.asarray(np.log(c) + economy.b * np.log1p(-labour))


def labour_supply(economy: Economy, c: FloatArray, k: FloatArray, z: FloatArray) -> FloatArray:
    """Labour that makes the marginal disutility b / (1 - l) equal to the wage times 1 / c.

    In x = log(l / (1 - l)) the condition alpha log l - log(1 - l) = log m is increasing and convex,
    so Newton's method falls monotonically onto the root from any point to its right; the start
    below is one. Shapes broadcast; c and k must be positive.
    """
    alpha = economy.alpha
    log_m = np.log((1.0 - alpha) / economy.b) + z + alpha * np.log(k) - np.log(c)
    # The left side is above x and above alpha x: the root is left of log m and of log m / alpha.
    log_odds = np.where(log_m > 0.0, log_m, log_m / alpha)
    for _ in range(60):
        excess = np.logaddexp(0.0, log_odds) - alpha * np.logaddexp(0.0, -log_odds) - log_m
        step = excess / (alpha + (1.0 - alpha) * expit(log_odds))
        log_odds = log_odds - step
        if np.all(np.abs(step) <= 1e-12 * (1.0 + np.abs(log_odds))):
            break
    return np.asarray(expit(log_odds))


def allocation(
    economy: Economy, k: FloatArray, z: FloatArray, c: FloatArray, labour: FloatArray
) -> Policy:
    """Output, wealth and next capital that follow from `c` and `labour` in the state (k, z)."""
    k, z, c, labour = np.broadcast_arrays(k, z, c, labour)
    y = output(economy, k, labour, z)
    a = y + (1.0 - economy.delta) * k
    return Policy(chat=c / a, l=labour, c=c, y=y, a=a, k_next=a - c)


def innovations(economy: Economy, order: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Hermite nodes [order] and weights [order] of the innovation sigma * epsilon."""
    nodes, weights = np.polynomial.hermite.hermgauss(order)
    return sqrt(2.0) * economy.sigma * nodes, weights / weights.sum()
