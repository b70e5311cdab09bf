"""What a policy would have earned, from seasons that another one decided (Precup, Sutton and Singh
2000; Jiang and Li 2016).

Importance sampling weighs each season by how much likelier the target policy would have made its
choices:

    rho_t = pi(a_t | s_t) / b(a_t | s_t),   w_t = rho_0 ... rho_t,   ESS = (sum w_T)^2 / sum w_T^2

Where fewer than 30 seasons carry the weights, an estimate says nothing, however small its interval:
    all estimators that
weigh are then refused, the doubly robust one included, since its correction rests on the same
weights. Refusing selects the logs without heavy weights, which makes plain IS too low on those that
are left; WIS and the doubly robust estimate, whose weights are relative or correct a model, hardly
notice. The model estimate fits censored Poisson demand to the log and evaluates the policy exactly;
it needs no propensities, and is as good as the family of demand.
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
REFITS = 100
"""Bootstrap draws of seasons; the model is fitted anew to fewer, since each takes a dynamic
programme."""
Mode = Literal["censored", "naive", "dropped"]


@dataclass(frozen=True)
class Estimate:
    """The value of a season in money with a 95 % bootstrap interval, or NaN and why there is
    none."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Target:
    """A policy to be judged: probabilities `table` [T, C+1, A], and `ratios` [T, N], rho on the
    logged decisions."""

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
    most = int(log.stock.max())
    if pi.ndim != 3 or len(pi) != T or pi.shape[1] <= most or pi.shape[2] <= log.action.max():
        raise ValueError(
            f"the policy's table has shape {pi.shape}: expected [{T}, {most + 1}, choices]"
        )
    if (pi < 0).any() or np.abs(pi.sum(-1) - 1).max() > 1e-9:
        raise ValueError("the policy's table: the probabilities of a choice do not sum to 1")
    chosen = pi[np.arange(T)[:, None], log.stock[:-1], log.action]
    return Target(pi, np.where(log.deciding, chosen / log.propensity, 1.0))


def mixed(log: Decisions, logger: Array, table: Array, share: float) -> Target:
    """A small step: `share` of the decisions by the table, the others as logged.

    Its ratios, 1 - share + share pi / b, need no more than the logged propensities; `logger` [T,
    C+1, A] serves the model.
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
        """ESS of the whole season's weights."""
        w = target.ratios.prod(0)
        square = float((w**2).sum())
        return float(w.sum()) ** 2 / square if square > 0 else 0.0

    def weighted(self, target: Target) -> dict[str, Estimate]:
        """`IS`, `WIS`, `per-decision IS` and `doubly robust`, or their refusal."""
        names = ("IS", "WIS", "per-decision IS", "doubly robust")
        ess = self.effective_seasons(target)
        if ess < SMALLEST_ESS:
            why = (
                f"{ess:.1f} effective seasons of {self.log.seasons}, expected {SMALLEST_ESS:g} "
                "or more"
            )
            return {name: Estimate(refused=why) for name in names}
        w = target.ratios.cumprod(0)
        last = w[-1]
        found = {
            "IS": self._mean(last * self.returns),
            "WIS": self._mean(last * self.returns, last),
            "per-decision IS": self._mean((self._discounts * w * self.log.reward).sum(0)),
        }
        try:
            found["doubly robust"] = self._mean(self._corrected(target, w))
        except (ValueError, ConvergenceError) as error:
            found["doubly robust"] = Estimate(refused=str(error))
        return found

    def _mean(self, each: Array, weight: Array | None = None) -> Estimate:
        """Sum of `each` [N] over that of `weight`; seasons are drawn anew for the interval."""
        weight = np.ones_like(each) if weight is None else weight
        drawn = (self._counts @ each) / np.maximum(self._counts @ weight, 1e-300)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return Estimate(float(each.sum() / weight.sum()), float(low), float(high))

    def _corrected(self, target: Target, w: Array) -> Array:
        """[N] the model's value, corrected by what happened: V + sum of gamma^t w_t (r_t + gamma
        V(s') - Q(s, a))."""
        log = self.log
        season = known.planned_season(self._fit, self.season)
        value = known.evaluate(season, target.table)
        found = np.full(log.seasons, value[0, -1])
        for t in range(season.periods):
            ahead = season.earnings(t) + season.discount * (season.transitions(t) @ value[t + 1])
            error = log.reward[t] - ahead[log.action[t], log.stock[t]]
            if t + 1 < season.periods:  # the last reward holds the salvage
                error = error + season.discount * value[t + 1, log.stock[t + 1]]
            found += np.where(log.deciding[t], self._discounts[t] * w[t] * error, 0.0)
        return found

    # -- by a model --------------------------------------------------------------------------------

    def _fitted(self, log: Decisions) -> known.DemandFit:
        return known.fit(self.season.prices[log.action], log.sales, log.stock[:-1], self.mode)

    @cached_property
    def _fit(self) -> known.DemandFit:
        return self._fitted(self.log)

    @cached_property
    def _refitted(self) -> list[known.Season]:
        """Seasons with the demand fitted to bootstrap draws; draws that do not determine it are
        left out."""
        rng = np.random.default_rng([self.seed, 2])
        found = []
        for _ in range(self.refits):
            drawn = self.log.of(rng.integers(self.log.seasons, size=self.log.seasons))
            try:
                found.append(known.planned_season(self._fitted(drawn), self.season))
            except (ValueError, ConvergenceError):
                continue
        return found

    def planned(self) -> known.Solution:
        """Fit, then plan: the optimum against the fitted demand."""
        return known.plan(self._fit, self.season)

    def model(self, target: Target) -> Estimate:
        """The policy's exact value against the fitted demand; refused where the log does not
        determine it."""
        try:
            season = known.planned_season(self._fit, self.season)
        except (ValueError, ConvergenceError) as error:
            return Estimate(refused=str(error))
        value = float(known.evaluate(season, target.table)[0, -1])
        drawn = [float(known.evaluate(again, target.table)[0, -1]) for again in self._refitted]
        if len(drawn) < self.refits / 2:
            return Estimate(
                value, refused="no interval: too few seasons to fit demand to draws of them"
            )
        low, high = np.quantile(drawn, (0.025, 0.975)) if drawn else (np.nan, np.nan)
        return Estimate(value, float(low), float(high))

    def estimates(self, target: Target) -> dict[str, Estimate]:
        """Every estimator's, by name."""
        return self.weighted(target) | {"model": self.model(target)}
