"""Estimators from logs: against exact values, and refused where they would mislead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.answer.season import SeasonAnswer
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.sales.offline.compare import logger_table
from rl_markets.sales.offline.estimators import Evaluation, Mode, mixed, target_of
from rl_markets.sales.offline.log import Decisions, read_decisions
from tests.support.seasons import (
    BROAD,
    CHOICES,
    INCUMBENT,
    PRICES,
    STOCK,
    Array,
    answered,
    logged,
    season_of,
    table_of,
)
from tests.support.selling import write


def errors(
    target: Array, season: known.Season, seasons: int, mode: Mode = "censored"
) -> dict[str, Array]:
    """Relative errors of every estimator over 30 logs, NaN where refused."""
    truth = known.evaluate(season, target)[0, -1]
    ratios = {}
    for seed in range(30):
        log = logged(season, seasons, seed)
        evaluation = Evaluation(log, season, mode=mode, refits=0, resamples=2)
        for name, estimate in evaluation.estimates(target_of(log, target)).items():
            ratios.setdefault(name, []).append(estimate.value / truth - 1)
    return {name: np.array(values) for name, values in ratios.items()}


def rmse(values: Array) -> float:
    return float(np.sqrt(np.nanmean(values**2)))


# -- estimators against exact values ---------------------------------------------------------------


def test_unconstrained_demand_is_right_and_dropping_stock_outs_is_not() -> None:
    """The optimal policy, 500 seasons of 15 periods.

    The negative controls are what spreadsheets do.
    """
    season = season_of(15)
    optimal = known.probabilities(season, known.solve(season).policy)
    modes: tuple[Mode, ...] = ("censored", "naive", "dropped")
    error = {mode: errors(optimal, season, 500, mode)["model"] for mode in modes}
    assert rmse(error["censored"]) <= 0.015
    assert error["dropped"].mean() < -0.03
    assert error["naive"].mean() < -0.01


def test_weights_are_right_for_a_small_step_and_refused_for_a_new_policy() -> None:
    """A notch towards the optimum in 20 % of decisions.

    The optimum itself is carried by less than one season of 500.
    """
    season = season_of(15)
    best = known.solve(season).policy
    step = (
        0.8 * table_of(season, BROAD)
        + 0.2 * np.eye(CHOICES)[np.clip(best, INCUMBENT - 1, INCUMBENT + 1)]
    )
    error = errors(step, season, 500)
    assert np.isfinite(error["WIS"]).mean() >= 0.7
    assert rmse(error["WIS"]) <= 0.06
    assert rmse(error["doubly robust"]) <= 0.04
    assert rmse(error["per-decision IS"]) <= 0.25
    log = logged(season, 500, 0)
    evaluation = Evaluation(log, season, refits=50)
    target = target_of(log, known.probabilities(season, best))
    assert evaluation.effective_seasons(target) < 1
    estimates = evaluation.estimates(target)
    for name in ("IS", "WIS", "per-decision IS", "doubly robust"):
        assert np.isnan(estimates[name].value)
        assert "effective seasons of 500, expected 30 or more" in estimates[name].refused
    assert estimates["model"].low < known.solve(season).total < estimates["model"].high


def test_all_estimators_agree_on_the_logger_and_their_intervals_hold_it() -> None:
    """40 logs of 100 seasons.

    An interval that holds the truth 95 times in 100 does so 33 times or more.
    """
    season = season_of(6)
    held = {}
    truth = known.evaluate(season, table_of(season, BROAD))[0, -1]
    for seed in range(40):
        log = logged(season, 100, seed)
        target = target_of(log, table_of(season, BROAD))
        np.testing.assert_allclose(target.ratios, 1)
        for name, e in (
            Evaluation(log, season, seed, refits=40, resamples=400).estimates(target).items()
        ):
            held.setdefault(name, []).append(e.low < truth < e.high)
    assert {name: sum(hits) >= 33 for name, hits in held.items()} == dict.fromkeys(held, True), held


def test_discount_costs_and_salvage_count() -> None:
    """All estimators, on 4000 seasons whose money is more than price times sales."""
    plain = season_of(8)
    season = known.Season(
        plain.demand, PRICES, STOCK, cost=150, salvage=-80, holding=10, fee=0.1, discount=0.9
    )
    log = known.simulate(season, table_of(season, BROAD), 4000, np.random.default_rng(0))
    leftover = log.stock - log.sales
    reward = (0.9 * log.price - 150) * log.sales - 10 * leftover
    reward[-1] -= 0.9 * 80 * leftover[-1]
    propensity = np.where(log.stock > 0, BROAD[log.action], 1.0)
    decisions = Decisions(
        log.action, np.concatenate([log.stock, leftover[-1:]]), log.sales, reward, propensity
    )
    new = known.probabilities(season, known.solve(season).policy)
    target = mixed(decisions, table_of(season, BROAD), new, 0.1)
    truth = known.evaluate(season, target.table)[0, -1]
    for name, estimate in Evaluation(decisions, season, refits=30).estimates(target).items():
        assert estimate.value == pytest.approx(truth, rel=0.06), name
        assert estimate.low < truth < estimate.high, name


def test_answer_and_log_count_salvage_as_the_market_does(tmp_path: Path) -> None:
    """A discounted season with a waste fee at a fixed price.

    The market's returns are the answer's, its rows a log's.
    """
    changes = {"gamma": 0.8, "cost": [100], "fee": 0.1}
    changes |= {"stock": {"units": [6], "salvage": -300, "holding": 0.1}}
    parameters = answered(4).parameters.model_dump() | changes
    answer = SeasonAnswer(PricingParameters.model_validate(parameters))
    worlds = 20_000
    market = Pricing(answer.parameters, worlds=worlds)
    actions = {"seller": torch.full((worlds, 1, 1), 2)}
    market.reset(0)
    state = market.state
    total = np.zeros(worlds)
    rows = []
    for t in range(4):
        transition = market.transition(state, actions, market.draw_noise(market.generator))
        reward = transition.rewards["seller"][:, 0].double().numpy()
        stock, left = (s["stock"][:, 0].long().numpy() for s in (state, transition.state))
        total += 0.8**t * np.where(stock > 0, reward, 0.0)
        for n in np.flatnonzero(stock[:20] > 0).tolist():
            row = {"season": n, "period": t, "stock": stock[n], "choice": 2, "price": 700}
            row |= {"sales": stock[n] - left[n], "reward": reward[n], "propensity": 1}
            rows.append(row)
        state = transition.state
    error = 4 * total.std() / worlds**0.5
    assert answer.worth(np.full((4, 7), 2)) == pytest.approx(total.mean(), abs=error)
    assert read_decisions(write(tmp_path / "log.csv", rows), answer.season).seasons == 20


def test_weights_by_hand() -> None:
    sure = known.Season(np.full((3, 2), 1e3), np.array([5.0, 8.0]), stock=4, cost=2.0, discount=0.5)
    log = Decisions(
        np.array([[0, 1]] * 3),
        np.array([[4, 4], [0, 0], [0, 0], [0, 0]]),
        np.array([[4, 4], [0, 0], [0, 0]]),
        np.array([[12.0, 24.0], [0, 0], [0, 0]]),
        np.array([[0.5, 0.5], [1, 1], [1, 1]]),
    )
    evaluation = Evaluation(log, sure)
    target = target_of(log, np.tile([0.25, 0.75], (3, 5, 1)))
    np.testing.assert_allclose(target.ratios, [[0.5, 1.5], [1, 1], [1, 1]])
    assert evaluation.effective_seasons(target) == pytest.approx(1.6)
    np.testing.assert_allclose(evaluation.returns, [12, 24])
    assert float((target.ratios.prod(0) * evaluation.returns).mean()) == pytest.approx(
        0.25 * 12 + 0.75 * 24
    )


def test_a_small_step_needs_only_logged_propensities() -> None:
    season = season_of(5)
    log = logged(season, 50, 0)
    table = known.probabilities(season, known.solve(season).policy)
    logger = logger_table(log, season)
    np.testing.assert_allclose(logger, table_of(season, BROAD))
    np.testing.assert_allclose(
        mixed(log, logger, table, 0.2).ratios,
        target_of(log, 0.8 * logger + 0.2 * table).ratios,
        atol=1e-12,
    )


def test_a_logger_that_looks_at_the_stock_is_smoothed() -> None:
    season = season_of(5)
    behaviour = table_of(season, BROAD)
    behaviour[:, : STOCK // 2] = np.full(CHOICES, 1 / CHOICES)
    log = known.simulate(season, behaviour, 3000, np.random.default_rng(0))
    stock = np.concatenate([log.stock, (log.stock[-1] - log.sales[-1])[None]])
    chance = behaviour[np.arange(5)[:, None], log.stock, log.action]
    table = logger_table(
        Decisions(log.action, stock, log.sales, log.price * log.sales, chance), season
    )
    np.testing.assert_allclose(table.sum(-1), 1)
    assert known.evaluate(season, table)[0, -1] == pytest.approx(
        known.evaluate(season, behaviour)[0, -1], rel=0.02
    )


def test_a_table_that_does_not_fit_is_refused() -> None:
    season = season_of(5)
    log = logged(season, 3, 0)
    with pytest.raises(ValueError, match=r"shape \(4, 11, 9\): expected \[5, 11, choices\]"):
        target_of(log, table_of(season, BROAD)[:4])
    with pytest.raises(ValueError, match="do not sum to 1"):
        target_of(log, 2 * table_of(season, BROAD))
