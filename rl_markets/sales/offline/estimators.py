"""What a policy would have earned, from seasons that another one decided.

After Precup, Sutton and Singh (2000) and Jiang and Li (2016). Importance sampling weighs each
season by how much likelier the target policy would have made its choices:

    rho_t = pi(a_t | s_t) / b(a_t | s_t),   w_t = rho_0 ... rho_t,   ESS = (sum w_T)^2 / sum w_T^2

Where fewer than 30 seasons carry the weights, an estimate says nothing, however small its interval:
all estimators that weigh are then refused, the doubly robust one included, since its correction
rests on the same weights. Refusing selects the logs without heavy weights, which makes plain IS too
low on those that are left; WIS and the doubly robust estimate, whose weights are relative or
correct a model, hardly notice. The model estimate fits censored Poisson demand to the log and
evaluates the policy exactly; it needs no propensities, and is as good as the family of demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_markets.envs.pricing import solution as known
from rl_markets.errors import ConvergenceError
from rl_markets.sales.offline.log import Array, Decisions

SMALLEST_ESS = 30.0
RESAMPLES = 1000
"""Bootstrap draws of seasons."""
REFITS = 100
"""Draws to which the model is fitted anew: fewer, since each takes a dynamic programme."""
Mode = Literal["censored", "naive", "dropped"]


@dataclass(frozen=True)
class Estimate:
    """The value of a season in money.

    Attributes:
        value: NaN where it was refused.
        low, high: its 95 % bootstrap interval, NaN where there is none.
        refused: why there is no value or no interval; empty where there are both.
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Target:
    """A policy to be judged.

    Attributes:
        table: [T, C+1, A] probabilities of the choices, by period and stock.
        ratios: [T, N] rho on the logged decisions.
    """

    table: Array
    ratios: Array


def target_of(log: Decisions, table: ArrayLike) -> Target:
    """A policy given by its probabilities [T, C+1, A].

    Raises:
        ValueError: where the table has another shape than the log's seasons, or does not hold
            probabilities.
    """
    pi = np.asarray(table, dtype=np.float64)
    T = len(log.action)
    C = int(log.stock.max())
    if pi.ndim != 3 or len(pi) != T or pi.shape[1] <= C or pi.shape[2] <= log.action.max():
        raise ValueError(
            f"the policy's table has shape {pi.shape}: expected [{T}, {C + 1}, choices]"
        )
    if (pi < 0).any() or np.abs(pi.sum(-1) - 1).max() > 1e-9:
        raise ValueError("the policy's table: the probabilities of a choice do not sum to 1")
    pi_logged = pi[np.arange(T)[:, None], log.stock[:-1], log.action]
    # Without stock the choice does not matter: such a period leaves the weights as they are.
    return Target(pi, np.where(log.deciding, pi_logged / log.propensity, 1.0))


def mixed(log: Decisions, logger: Array, table: Array, share: float) -> Target:
    """A small step: `share` of the decisions by the table, the others as logged.

    Its ratios, 1 - share + share pi / b, need no more than the logged propensities.

    Args:
        log: the decisions.
        logger: [T, C+1, A] what the logger does; only the model looks at it.
        table: [T, C+1, A] the new policy.
        share: of the decisions, from 0 to 1.
    """
    full = target_of(log, table)
    return Target((1 - share) * logger + share * full.table, 1 - share + share * full.ratios)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All estimates on one log.

    Args:
        log: the decisions.
        season: where they were made; its demand is not looked at.
        seed: of the bootstrap.
        mode: how the model takes stock-outs; all but `censored` are there to show their error.
    """

    log: Decisions
    season: known.Season
    seed: int = 0
    mode: Mode = "censored"
    resamples: int = RESAMPLES
    refits: int = REFITS

    # -- by weights --------------------------------------------------------------------------------

    @cached_property
    def _discounts(self) -> Array:
        return np.asarray(self.season.discount ** np.arange(len(self.log.reward)))[:, None]

    @cached_property
    def returns(self) -> Array:
        """[N] discounted reward of each season."""
        return np.asarray((self._discounts * self.log.reward).sum(0))

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """[resamples, N] how often each season is in a bootstrap draw."""
        N = self.log.seasons
        return np.random.default_rng([self.seed, 1]).multinomial(
            N, np.full(N, 1 / N), size=self.resamples
        )

    @staticmethod
    def effective_seasons(target: Target) -> float:
        """ESS of the whole season's weights, which may be too large or small for a number."""
        with np.errstate(divide="ignore"):
            log_w = np.log(target.ratios).sum(0)
        if not np.isfinite(log_w.max()):
            return 0.0
        w = np.exp(log_w - log_w.max())
        return float(w.sum()) ** 2 / float((w**2).sum())

    def weighted(self, target: Target) -> dict[str, Estimate]:
        """`IS`, `WIS`, `per-decision IS` and `doubly robust`, or their refusal."""
        names = ("IS", "WIS", "per-decision IS", "doubly robust")
        ess = self.effective_seasons(target)
        why = (
            f"{ess:.1f} effective seasons of {self.log.seasons}, expected {SMALLEST_ESS:g} or more"
        )
        with np.errstate(over="ignore", invalid="ignore"):
            w = target.ratios.cumprod(0)
        if not ess >= SMALLEST_ESS or not np.isfinite(w).all():
            return {name: Estimate(refused=why) for name in names}
        last = w[-1]
        estimates = {
            "IS": self._mean(last * self.returns),
            "WIS": self._mean(last * self.returns, last),
            "per-decision IS": self._mean((self._discounts * w * self.log.reward).sum(0)),
        }
        try:
            estimates["doubly robust"] = self._mean(self._corrected(target, w))
        except (ValueError, ConvergenceError) as error:
            estimates["doubly robust"] = Estimate(refused=str(error))
        return estimates

    def _mean(self, values: Array, weight: Array | None = None) -> Estimate:
        """Sum of `values` [N] over that of `weight`; seasons are drawn anew for the interval."""
        weight = np.ones_like(values) if weight is None else weight
        resampled = (self._counts @ values) / np.maximum(self._counts @ weight, 1e-300)
        low, high = np.quantile(resampled, (0.025, 0.975))
        return Estimate(float(values.sum() / weight.sum()), float(low), float(high))

    def _corrected(self, target: Target, w: Array) -> Array:
        """[N] the model's value, corrected by what happened.

        V(s_0) + sum of gamma^t w_t (r_t + gamma V(s_t+1) - Q(s_t, a_t)).
        """
        log = self.log
        season = known.planned_season(self._fit, self.season)
        value = known.evaluate(season, target.table)
        corrected = np.full(log.seasons, value[0, -1])
        for t in range(season.periods):
            q = season.earnings(t) + season.discount * (season.transitions(t) @ value[t + 1])
            td_error = log.reward[t] - q[log.action[t], log.stock[t]]
            if t + 1 < season.periods:  # the last reward holds the salvage
                td_error = td_error + season.discount * value[t + 1, log.stock[t + 1]]
            corrected += np.where(log.deciding[t], self._discounts[t] * w[t] * td_error, 0.0)
        return corrected

    # -- by a model --------------------------------------------------------------------------------

    def _fitted(self, log: Decisions) -> known.DemandFit:
        return known.fit(self.season.prices[log.action], log.sales, log.stock[:-1], self.mode)

    @cached_property
    def _fit(self) -> known.DemandFit:
        return self._fitted(self.log)

    @cached_property
    def _refitted(self) -> list[known.Season]:
        """Seasons with the demand fitted to bootstrap draws.

        Draws that do not determine demand are left out.
        """
        rng = np.random.default_rng([self.seed, 2])
        seasons = []
        for _ in range(self.refits):
            resampled = self.log.of(rng.integers(self.log.seasons, size=self.log.seasons))
            try:
                seasons.append(known.planned_season(self._fitted(resampled), self.season))
            except (ValueError, ConvergenceError):
                continue
        return seasons

    def planned(self) -> known.Solution:
        """Fit, then plan: the optimum against the fitted demand."""
        return known.plan(self._fit, self.season)

    def model(self, target: Target) -> Estimate:
        """The policy's exact value against the fitted demand.

        Refused where the log does not determine demand.
        """
        try:
            season = known.planned_season(self._fit, self.season)
        except (ValueError, ConvergenceError) as error:
            return Estimate(refused=str(error))
        value = self._value_in(season, target)
        resampled = [self._value_in(refitted, target) for refitted in self._refitted]
        if len(resampled) < self.refits / 2:
            why = "no interval: too few seasons to fit demand to draws of them"
            return Estimate(value, refused=why)
        if not resampled:  # none was asked for
            return Estimate(value)
        low, high = np.quantile(resampled, (0.025, 0.975))
        return Estimate(value, float(low), float(high))

    @staticmethod
    def _value_in(season: known.Season, target: Target) -> float:
        """The policy's exact value in a season, from the start with all units."""
        return float(known.evaluate(season, target.table)[0, -1])

    def estimates(self, target: Target) -> dict[str, Estimate]:
        """Every estimator's, by name."""
        return self.weighted(target) | {"model": self.model(target)}
