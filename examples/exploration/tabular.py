"""Tabular learners, batched: the small cases in which a selection rule is judged before any
network.

`bandit` learns the price of one product by sample averages, `q_learning` sells a stock before a
deadline. Neither is a
learner of the registry: they see tables, not a market's observations. `collusion` has two learners
    against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_markets.policies.exploration import RULES, draw

Parameters = Mapping[str, Any] | Callable[[float], Mapping[str, Any]]
"""Parameters of a rule, or a function from progress in [0, 1] to parameters."""


def _at(parameters: Parameters, progress: float) -> Mapping[str, Any]:
    return parameters(progress) if callable(parameters) else parameters


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} is {number}, expected a positive number")


# -- bandit ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BanditRun:
    """What a bandit did.

    Attributes:
        regret: expected profit lost, in % of the best price's, `[shops]`.
        actions: `[periods, shops]`.
    """

    regret: Tensor
    actions: Tensor


def bandit(
    rule: str,
    rates: Tensor,
    margins: Tensor,
    *,
    periods: int,
    parameters: Parameters,
    seed: int,
    scale: float = 1.0,
    heads: int = 10,
) -> BanditRun:
    """Many shops, each learning its best price by sample averages; every price is tried once, then
    the rule decides.

    Args:
        rule: a key of `RULES`. A rule over heads gets so many averages, each over a Poisson(1)
            resample of the rewards.
        rates: mean sales of a period, Poisson, `[shops, prices]`.
        margins: profit of a sale, `[prices]`.
        periods: of every shop, at least the number of prices.
        parameters: of the rule.
        seed: of sales and choices; the same at every scale.
        scale: the unit of money; a rule that does not depend on it chooses the same prices at every
            power of two.
        heads: of a rule over heads.

    Raises:
        ValueError: for fewer periods than prices, or a parameter out of range.
    """
    shops, prices = rates.shape
    if periods < prices:
        raise ValueError(f"periods is {periods}, expected at least the number of prices, {prices}")
    _positive(scale=scale)
    chooses, sells = (torch.Generator().manual_seed(2 * seed + i) for i in (0, 1))
    several = RULES[rule].heads
    copies = heads if RULES[rule].heads else 1
    values = torch.zeros(copies, shops, prices, dtype=torch.float64)
    counts = torch.zeros_like(values)
    actions = torch.empty(periods, shops, dtype=torch.int64)
    for t in range(periods):
        if t < prices:
            action = torch.full((shops,), t)
        else:
            p = RULES[rule](values if several else values[0], **_at(parameters, t / periods))
            action = draw(p, chooses)
        sales = torch.poisson(rates.gather(1, action[:, None]).squeeze(1), generator=sells)
        reward = (sales * margins[action] * scale).double()
        weight = torch.ones(copies, shops, dtype=torch.float64)
        weight = torch.poisson(weight, generator=chooses) if several and t >= prices else weight
        _average(
            values,
            counts,
            action.expand(copies, shops)[..., None],
            reward[:, None],
            weight[..., None],
        )
        actions[t] = action
    return BanditRun(_regret(rates.double() * margins, actions), actions)


def _regret(expected: Tensor, actions: Tensor) -> Tensor:
    """Of the profits `[shops, prices]` and the choices `[periods, shops]`, in %."""
    earned = expected.gather(1, actions.T).sum(1)
    return 100 * (1 - earned / (len(actions) * expected.amax(1)))


def _average(
    values: Tensor, counts: Tensor, action: Tensor, reward: Tensor, weight: Tensor
) -> None:
    """Weighted running means, in place."""
    counts.scatter_add_(-1, action, weight)
    old = values.gather(-1, action)
    share = weight / counts.gather(-1, action).clamp_min(1.0)
    values.scatter_(-1, action, old + share * (reward - old))


# -- Q-learning over a season ----------------------------------------------------------------------


@dataclass(frozen=True)
class Season:
    """A stock to be sold before a deadline; what is left is worth nothing.

    Attributes:
        demand: mean demand of a period under a price, Poisson, `[periods, prices]`.
        prices: `[prices]`.
        stock: units at the start.
    """

    demand: Tensor
    prices: Tensor
    stock: int


@dataclass(frozen=True)
class Learned:
    """Tabular Q-learners after their seasons.

    Attributes:
        values: `[periods + 1, learners, stock + 1, prices]`, in scaled money.
        revenue: of each season, in unscaled money, `[episodes, learners]`.
        actions: `[episodes, periods, learners]`, int8.
    """

    values: Tensor
    revenue: Tensor
    actions: Tensor

    def greedy(self) -> Tensor:
        """Indices of prices, `[learners, periods, stock + 1]`."""
        return self.values[:-1].argmax(-1).transpose(0, 1)


def q_learning(
    rule: str,
    season: Season,
    *,
    learners: int,
    episodes: int,
    parameters: Parameters,
    seed: int,
    scale: float = 1.0,
    power: float = 0.7,
) -> Learned:
    """Undiscounted finite-horizon Q-learning from Q = 0 by any rule, with steps n^-power of each
    state and action.

    As Q = 0 scales with rewards too, a rule that does not depend on their scale takes the same
    actions at every scale: the same bits for powers of two, and but for rounding otherwise.

    Args:
        rule: a key of `RULES`, not one over heads.
        season: what is sold.
        learners, episodes: how many, side by side, and the seasons of each.
        parameters: of the rule, or a function of progress that anneals them.
        seed: of demand and choices.
        scale, power: the unit of money; that of the step size, in (.5, 1] for convergence.

    Raises:
        ValueError: for a rule over heads, or a parameter out of range.
    """
    if RULES[rule].heads:
        raise ValueError(f"{rule} chooses by several heads, q_learning has one table")
    _positive(scale=scale, power=power)
    chooses, sells = (torch.Generator().manual_seed(2 * seed + i) for i in (0, 1))
    demand = season.demand.double()
    prices = season.prices.double()
    each = torch.arange(learners)
    learned = _beginners(season, learners, episodes)
    values = learned.values
    counts = torch.zeros_like(learned.values)
    for e in range(episodes):
        now = _at(parameters, e / episodes)
        stock = torch.full((learners,), season.stock)
        for t in range(len(demand)):
            action = draw(RULES[rule](values[t][each, stock], **now), chooses)
            wanted = torch.poisson(demand[t][action], generator=sells).long()
            left = stock - torch.minimum(wanted, stock)
            earned = prices[action] * (stock - left)
            target = earned * scale + values[t + 1][each, left].amax(-1)
            at = (t, each, stock, action)
            counts[at] += 1
            values[at] += counts[at] ** -power * (target - values[at])
            learned.revenue[e] += earned
            learned.actions[e, t] = action
            stock = left
    return learned


def _beginners(season: Season, learners: int, episodes: int) -> Learned:
    periods, choices = season.demand.shape
    values = torch.zeros(periods + 1, learners, season.stock + 1, choices, dtype=torch.float64)
    revenue = torch.zeros(episodes, learners, dtype=torch.float64)
    return Learned(values, revenue, torch.empty(episodes, periods, learners, dtype=torch.int8))
