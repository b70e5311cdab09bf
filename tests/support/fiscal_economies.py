"""Calibrations of the fiscal economy, and its game once more in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_markets.envs.fiscal.solution import FiscalEconomy, FiscalSolution, TaxPolicy
from rl_markets.envs.households.solution import Economy, PolicyFunction

FloatArray = NDArray[np.float64]
DEFAULT = FiscalEconomy()
FULL = FiscalEconomy(Economy(delta=1.0), theta=0.3, progressivity=0.2)
# The equilibrium is interior on all of [.3, 3] times rest.
MILD = FiscalEconomy(theta=0.1, progressivity=0.2)
STILL = FiscalEconomy(Economy(delta=0.1, sigma=0.0), theta=0.2, progressivity=0.2)


def states(solution: FiscalSolution, n: int = 2000) -> tuple[FloatArray, FloatArray]:
    """Random states off every grid.

    Of the solution's domain of capital, and z within 4 standard deviations.
    """
    rng = np.random.default_rng(0)
    reach = 4.0 * solution.economy.economy.tfp_sd
    low, high = solution.capital_range
    return low * (high / low) ** rng.uniform(size=n), rng.uniform(-reach, reach, n)


def constant(*actions: float) -> tuple[PolicyFunction, TaxPolicy]:
    """Constant policies of the households and the government."""
    chat, labour, tau = actions

    def household(k: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.full_like(k, chat), np.full_like(k, labour)

    def government(k: FloatArray, z: FloatArray) -> FloatArray:
        return np.full_like(k, tau)

    return household, government


@dataclass(frozen=True)
class Market:
    """n households who may differ: the game's definition in plain numpy.

    It shares nothing with the code under test. In a price taker's eyes, `weight` = 0, nothing that
    it does changes prices or the schedule; `weight` = 1 / n.
    """

    economy: FiscalEconomy
    n: int
    price_taking: bool

    def net_income(
        self,
        K: FloatArray,
        L: FloatArray,
        z: FloatArray,
        tau: FloatArray,
        k: FloatArray,
        labour: FloatArray,
    ) -> FloatArray:
        """d_i of the household that has k and works labour, where each other has K and L.

        Arrays of one shape.
        """
        alpha = self.economy.economy.alpha
        p = self.economy.progressivity
        w = 0.0 if self.price_taking else 1.0 / self.n
        mean_k = K + w * (k - K)
        mean_l = L + w * (labour - L)
        Y = np.exp(z) * mean_k**alpha * mean_l ** (1.0 - alpha)
        wage = (1.0 - alpha) * Y / mean_l
        rent = alpha * Y / mean_k
        own = wage * labour + rent * k
        other = wage * L + rent * K
        mean = (1.0 - w) * other ** (1.0 - p) + w * own ** (1.0 - p)
        return np.asarray((1.0 - tau) * Y * own ** (1.0 - p) / mean)
