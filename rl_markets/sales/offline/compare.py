"""The logger, conservative Q-learning and fit-then-plan, each judged from the log alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.pricing import features
from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.answer.kinds import has_season
from rl_markets.envs.pricing.answer.season import SeasonAnswer
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.errors import ConvergenceError, ExperimentError
from rl_markets.experiment import Experiment
from rl_markets.policies.actors import NetworkActor
from rl_markets.sales.offline.cql import CQLSettings, Transitions, train
from rl_markets.sales.offline.estimators import Estimate, Evaluation, Target, mixed, target_of
from rl_markets.sales.offline.log import Array, Decisions, Index

STEP = 0.2
"""Share of decisions that a small step leaves to the new policy."""


@dataclass(frozen=True)
class Judged:
    """A policy and what is said of it.

    Attributes:
        name: of the policy.
        estimates: estimator -> the value of a season, in money.
        effective: effective seasons, of those logged.
        exact: the value of a season in the experiment's market.
    """

    name: str
    estimates: dict[str, Estimate]
    effective: float
    exact: float


def answer_of(experiment: Experiment, source: str) -> SeasonAnswer:
    """The known answer of an experiment whose decisions can be judged offline.

    Raises:
        ExperimentError: one line that says what is needed instead.
    """
    p = experiment.market_parameters
    if not isinstance(p, PricingParameters) or not has_season(p):
        raise ExperimentError(
            f"{source}: expected market pricing with one product, stock and a deadline"
        )
    if features.restricted(p) or p.season.profile or p.season.ageing:
        raise ExperimentError(
            f"{source}: expected a season without guard-rails, markdown_only, profile or ageing; "
            "one demand is fitted to all periods, and all levels are compared"
        )
    return SeasonAnswer(p)


def logger_table(log: Decisions, season: known.Season) -> Array:
    """What the logger does, as probabilities [T, C+1, A].

    Its propensities where these depend on the choice alone, else smoothed counts.
    """
    T, stocks, A = season.shape
    deciding = log.deciding
    action = log.action[deciding]
    propensity = log.propensity[deciding]
    tried = np.isin(np.arange(A), action)
    low = np.full(A, np.inf)
    high = np.zeros(A)
    np.minimum.at(low, action, propensity)
    np.maximum.at(high, action, propensity)
    rest = 1 - high.sum()  # what is left for the choices that were never made
    constant = np.abs(high - low)[tried].max() < 1e-6
    if constant and rest > -1e-6 and (abs(rest) < 1e-6 or not tried.all()):
        probability = high
        if not tried.all():
            probability = np.where(tried, high, max(rest, 0.0) / max(1, (~tried).sum()))
        return np.tile(probability / probability.sum(), (T, stocks, 1))
    return _smoothed(log, season.shape)


def _smoothed(log: Decisions, shape: tuple[int, int, int]) -> Array:
    """Frequencies by period and stock, [T, C+1, A].

    They are drawn towards those by period, and these towards the overall ones.
    """
    counts = np.zeros(shape)
    period = np.broadcast_to(np.arange(shape[0])[:, None], log.action.shape)
    deciding = log.deciding
    states = (period[deciding], log.stock[:-1][deciding], log.action[deciding])
    np.add.at(counts, states, 1.0)
    overall = counts.sum((0, 1)) / counts.sum()
    by_period = counts.sum(1) + 5 * overall
    by_period /= by_period.sum(-1, keepdims=True)
    smoothed = counts + 5 * by_period[:, None]
    return np.asarray(smoothed / smoothed.sum(-1, keepdims=True))


def observations(answer: SeasonAnswer) -> Tensor:
    """What the seller observes at every stock in every period, [T+1, C+1, observation].

    Period T is the end of the season.
    """
    season = answer.season
    market = answer.everywhere(season.periods + 1)
    (of_seller,) = market.observe(market.state).values()
    return of_seller.view(season.periods + 1, season.stock + 1, -1)


def transitions(log: Decisions, observations: Tensor) -> Transitions:
    """The log's decisions with stock, as rows to learn from.

    Args:
        log: the decisions.
        observations: [T+1, C+1, observation] of every period and stock.
    """
    period, season = np.nonzero(log.deciding)
    stock = log.stock[period, season]
    next_stock = log.stock[period + 1, season]
    ended = (next_stock == 0) | (period + 1 == len(log.action))
    return Transitions(
        observations=observations[period, stock],
        choices=torch.from_numpy(log.action[period, season]),
        rewards=torch.from_numpy(log.reward[period, season]).float(),
        following=observations[period + 1, next_stock],
        ended=torch.from_numpy(ended),
    )


def learn(
    log: Decisions,
    answer: SeasonAnswer,
    settings: CQLSettings,
    seed: int,
    done: Callable[[int], None] = lambda steps: None,
) -> tuple[NetworkActor, Index]:
    """Conservative Q-learning's network, and what it posts in every state, [T, C+1].

    `done` is told the number of gradient steps after each of them.
    """
    logged = transitions(log, observations(answer))
    actor = train(logged, len(answer.season.prices), settings, seed, done)
    return actor, answer.table(actor.act)


def compare(log: Decisions, answer: SeasonAnswer, learned: Index, seed: int = 0) -> list[Judged]:
    """The logger, then each new policy, as it is and as a small step from the logger.

    Args:
        log: the decisions.
        answer: of the experiment.
        learned: the network's choices [T, C+1].
        seed: of the bootstrap.
    """
    season = answer.season
    evaluation = Evaluation(log, season, seed)
    logger = logger_table(log, season)
    targets = {"logger": Target(logger, np.ones(log.action.shape))}
    new_policies = {"CQL": learned}
    with suppress(ValueError, ConvergenceError):  # the model's column then says why
        new_policies["fit-then-plan"] = evaluation.planned().policy
    for name, policy in new_policies.items():
        table = known.probabilities(season, policy)
        targets[name] = target_of(log, table)
        targets[f"{name}, {100 * STEP:.0f} % of decisions"] = mixed(log, logger, table, STEP)
    return [
        Judged(
            name,
            evaluation.estimates(target),
            evaluation.effective_seasons(target),
            float(known.evaluate(season, target.table)[0, -1]),
        )
        for name, target in targets.items()
    ]
