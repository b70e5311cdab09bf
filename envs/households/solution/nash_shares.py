"""Open-loop Nash equilibrium of different households who know that they move prices.

n households with capital productivities kappa_i and labour productivities lambda_i, no shocks, at
rest. With s_i = kappa_i k_i / sum_j kappa_j k_j and m_i = lambda_i l_i / sum_j lambda_j l_j, the
shares of effective capital and labour, a household earns Y [alpha s_i + (1-alpha) m_i]. Each
chooses its paths of capital and labour, taking those of the others as given (open loop):

    saving   1 / beta - 1 + delta = kappa_i (alpha Y / K) [1 + (1-alpha) (m_i - s_i)]
    labour   b c_i / (1 - l_i) = lambda_i ((1-alpha) Y / L) [1 + alpha (s_i - m_i)]
    at rest  c_i = w_i l_i + (r_i - delta) k_i

Without the terms in brackets, those of price takers, all capital would end with the highest kappa.
With them, saving gives s_i = m_i + (1 - c / kappa_i) / (1-alpha), where sum_i s_i = 1 fixes
c = (1 / beta - 1 + delta) K / (alpha Y): c is the harmonic mean of kappa whatever the labour. As
s_i - m_i is then known, labour's conditions are linear in m_i.

Source of the economy: MARL-BC, arXiv 2510.12272, equations 1-5, K and L being means of effective
amounts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.households.solution.economy import Economy
from rl_markets.envs.numerics.checks import FloatArray


@dataclass(frozen=True)
class NashEquilibrium:
    """The rest point, one entry per household: all arrays are [n]."""

    capital_shares: FloatArray  # s, of effective capital
    labour_shares: FloatArray  # m, of effective labour
    k: FloatArray  # own capital
    l: FloatArray  # labour, share of time  # noqa: E741 (the paper's symbol)
    c: FloatArray  # consumption
    a: FloatArray  # wealth: w l + (1 - delta + r) k

    @property
    def chat(self) -> FloatArray:
        """Consumed share of wealth: [n]."""
        return np.asarray(self.c / self.a)


def nash_shares(
    kappa: ArrayLike, labour_shares: ArrayLike | None = None, alpha: float = 0.36
) -> FloatArray:
    """Shares of effective capital [n], given kappa [n] and shares of effective labour [n].

    labour_shares: by default equal ones. Raises ValueError, naming the household, if a share would
    be negative: the equilibrium then has households without capital, and the formula does not hold.
    Many households with different kappa always come to that.
    """
    returns = _positive("kappa", kappa)
    if labour_shares is None:
        labour = np.full_like(returns, 1.0 / len(returns))
    else:
        labour = np.asarray(labour_shares, float)
    if labour.shape != returns.shape or abs(float(labour.sum()) - 1.0) > 1e-6:
        raise ValueError(
            f"labour_shares = {labour_shares!r}: expected one share for each kappa, 1 in all"
        )
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha = {alpha!r}: expected a number in (0, 1)")
    return _checked("capital", labour + _excess(returns, alpha), returns)


def nash_equilibrium(economy: Economy, kappa: ArrayLike, lambda_: ArrayLike) -> NashEquilibrium:
    """The equilibrium with labour chosen too.

    economy: preferences and technology; its shocks are ignored.
    kappa, lambda_: [n] productivities of capital and labour.
    Raises ValueError, naming the household, if it would hold negative capital or work a negative
    time.
    """
    returns, skill = np.broadcast_arrays(_positive("kappa", kappa), _positive("lambda_", lambda_))
    alpha = economy.alpha
    b = economy.b
    excess = _excess(returns, alpha)
    # Prices follow from saving alone, whoever holds the capital.
    output_capital = (1.0 / economy.beta - 1.0 + economy.delta) / (alpha * _harmonic_mean(returns))
    capital_labour = output_capital ** (-1.0 / (1.0 - alpha))
    output_labour = output_capital * capital_labour
    # Labour's condition: gain (lambda - m nL) = b nL [m (Y/L - worn) + excess (alpha Y/L - worn)].
    # It gives m = gain lambda / (slope nL) - fixed, and nL by sum m = 1.
    gain = (1.0 - alpha) * output_labour * (1.0 + alpha * excess)
    worn = economy.delta * capital_labour / returns
    slope = gain + b * (output_labour - worn)
    fixed = b * excess * (alpha * output_labour - worn) / slope
    total_labour = float(np.sum(gain * skill / slope) / (1.0 + fixed.sum()))  # nL
    labour_shares = _checked("labour", gain * skill / (slope * total_labour) - fixed, returns)
    shares = _checked("capital", labour_shares + excess, returns)
    k = shares * capital_labour * total_labour / returns
    income = output_labour * total_labour * (alpha * shares + (1.0 - alpha) * labour_shares)
    return NashEquilibrium(
        capital_shares=shares,
        labour_shares=labour_shares,
        k=k,
        l=labour_shares * total_labour / skill,
        c=income - economy.delta * k,
        a=income + (1.0 - economy.delta) * k,
    )


def _excess(kappa: FloatArray, alpha: float) -> FloatArray:
    """Share of capital beyond that of labour, s - m: [n]; its sum is 0."""
    return np.asarray((1.0 - _harmonic_mean(kappa) / kappa) / (1.0 - alpha))


def _harmonic_mean(kappa: FloatArray) -> float:
    return float(1.0 / np.mean(1.0 / kappa))


def _positive(name: str, values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.all(array > 0.0):
        raise ValueError(f"{name} = {values!r}: expected positive numbers, one for each household")
    return array


def _checked(what: str, shares: FloatArray, kappa: FloatArray) -> FloatArray:
    """`shares`, or ValueError if one is negative."""
    worst = int(np.argmin(shares))
    if shares[worst] < 0.0:
        raise ValueError(
            f"household {worst} with kappa = {kappa[worst]:g} would have "
            f"the share {shares[worst]:.4g} of all {what}: the formula does not hold"
        )
    return shares
