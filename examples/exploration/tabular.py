"""Tabular learners, batched: the small cases that judge a selection rule before any network.

`bandit` learns the price of one product by sample averages, `q_learning` sells a stock before a
deadline. Neither is a learner of the registry: they see tables, not a market's observations.
`collusion` has two learners against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
    """Many shops, each learning its best price by sample averages.

    Every price is tried once, then the rule decides.

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
    _, prices = rates.shape
    if periods < prices:
        raise ValueError(f"periods is {periods}, expected at least the number of prices, {prices}")
    _positive(scale=scale)
    actions = _bandit_actions(rule, rates, margins, periods, parameters, seed, scale, heads)
    return BanditRun(_regret(rates.double() * margins, actions), actions)


def _bandit_actions(
    rule: str,
    rates: Tensor,
    margins: Tensor,
    periods: int,
    parameters: Parameters,
    seed: int,
    scale: float,
    heads: int,
) -> Tensor:
    """The indices of the prices that were charged, `[periods, shops]`."""
    shops, prices = rates.shape
    choices, customers = _generators(seed)
    several = RULES[rule].heads
    copies = heads if several else 1
    values = torch.zeros(copies, shops, prices, dtype=torch.float64)
    counts = torch.zeros_like(values)
    actions = torch.empty(periods, shops, dtype=torch.int64)
    for t in range(periods):
        if t < prices:
            action = torch.full((shops,), t)
        else:
            p = RULES[rule](values if several else values[0], **_at(parameters, t / periods))
            action = draw(p, choices)
        sales = torch.poisson(rates.gather(1, action[:, None]).squeeze(1), generator=customers)
        reward = (sales * margins[action] * scale).double()
        weight = torch.ones(copies, shops, dtype=torch.float64)
        if several and t >= prices:
            # the first reward of each price counts once in every head, so that none is empty
            weight = torch.poisson(weight, generator=choices)
        index = action.expand(copies, shops)[..., None]
        _average(values, counts, index, reward[:, None], weight[..., None])
        actions[t] = action
    return actions


def _generators(seed: int) -> tuple[torch.Generator, torch.Generator]:
    """Of choices and of sales, apart, so that neither's number of draws moves the other's."""
    return torch.Generator().manual_seed(2 * seed), torch.Generator().manual_seed(2 * seed + 1)


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
    """A stock to be sold before a deadline; what is not sold by then is worth nothing.

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
    """Undiscounted finite-horizon Q-learning from Q = 0 by any rule.

    The n-th visit to a state and action moves its value by a step of n^-power. As Q = 0 scales with
    rewards too, a rule that does not depend on their scale takes the same actions at every scale:
    the same bits for powers of two, and but for rounding otherwise.

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
    choices, customers = _generators(seed)
    season = Season(season.demand.double(), season.prices.double(), season.stock)
    learned = _beginners(season, learners, episodes)
    counts = torch.zeros_like(learned.values)
    for episode in range(episodes):
        probabilities = partial(RULES[rule], **_at(parameters, episode / episodes))
        _sell(season, learned, counts, episode, probabilities, choices, customers, scale, power)
    return learned


def _sell(
    season: Season,
    learned: Learned,
    counts: Tensor,
    episode: int,
    probabilities: Callable[[Tensor], Tensor],
    choices: torch.Generator,
    customers: torch.Generator,
    scale: float,
    power: float,
) -> None:
    """One season of all learners, in place; they learn from each period as it passes."""
    values = learned.values
    learners = values.shape[1]
    learner = torch.arange(learners)
    stock = torch.full((learners,), season.stock)
    for t in range(len(season.demand)):
        action = draw(probabilities(values[t][learner, stock]), choices)
        demand = torch.poisson(season.demand[t][action], generator=customers).long()
        next_stock = stock - torch.minimum(demand, stock)
        revenue = season.prices[action] * (stock - next_stock)
        # nothing is discounted, and behind the last period all values stay 0
        target = revenue * scale + values[t + 1][learner, next_stock].amax(-1)
        cell = (t, learner, stock, action)
        counts[cell] += 1
        values[cell] += counts[cell] ** -power * (target - values[cell])
        learned.revenue[episode] += revenue
        learned.actions[episode, t] = action
        stock = next_stock


def _beginners(season: Season, learners: int, episodes: int) -> Learned:
    periods, prices = season.demand.shape
    values = torch.zeros(periods + 1, learners, season.stock + 1, prices, dtype=torch.float64)
    revenue = torch.zeros(episodes, learners, dtype=torch.float64)
    return Learned(values, revenue, torch.empty(episodes, periods, learners, dtype=torch.int8))
