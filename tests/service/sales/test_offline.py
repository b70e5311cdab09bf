"""Offline: estimators against exact values, refusals where they would mislead, and learning from
logs alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rl_markets import exported
from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.answer.season import SeasonAnswer
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.errors import ExperimentError
from rl_markets.experiment import load
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.sales.offline.compare import (
    answer_of,
    compare,
    learn,
    logger_table,
    observations,
    transitions,
)
from rl_markets.sales.offline.cql import CQLSettings, Transitions, train
from rl_markets.sales.offline.estimators import Evaluation, Mode, mixed, target_of
from rl_markets.sales.offline.log import Decisions, read_decisions
from tests.support.running import ROOT, command
from tests.support.selling import write

Array = NDArray[np.float64]
STOCK = 10
CHOICES = 9
INCUMBENT = 4
PRICES = known.gvr().prices
BROAD = np.full(CHOICES, 0.5 / CHOICES) + 0.5 * np.eye(CHOICES)[INCUMBENT]
NARROW = np.array([0, 0, 0, 0.1, 0.8, 0.1, 0, 0, 0])
QUICK = CQLSettings(steps=2000)


def season_of(periods: int, stock: int = STOCK) -> known.Season:
    return known.Season(np.tile(6 * np.exp(-PRICES / 500), (periods, 1)), PRICES, stock=stock)


def table_of(season: known.Season, behaviour: Array) -> Array:
    return np.tile(behaviour, (*season.shape[:2], 1))


def logged(season: known.Season, seasons: int, seed: int, behaviour: Array = BROAD) -> Decisions:
    log = known.simulate(season, table_of(season, behaviour), seasons, np.random.default_rng(seed))
    stock = np.concatenate([log.stock, (log.stock[-1] - log.sales[-1])[None]])
    propensity = np.where(log.stock > 0, behaviour[log.action], 1.0)
    return Decisions(log.action, stock, log.sales, log.price * log.sales, propensity)


def answered(periods: int, stock: int = STOCK) -> SeasonAnswer:
    levels = [float(x) for x in PRICES / 1000]
    demand = {"family": "exponential", "size": [6.0], "slope": [0.002]}
    given = {
        "periods": periods,
        "list_price": [1000],
        "demand": demand,
        "stock": {"units": [stock]},
        "levels": levels,
    }
    return SeasonAnswer(PricingParameters.model_validate(given))


def errors(
    target: Array, season: known.Season, seasons: int, mode: Mode = "censored"
) -> dict[str, Array]:
    """Relative errors of every estimator over 30 logs, NaN where refused."""
    truth = known.evaluate(season, target)[0, -1]
    found = {}
    for seed in range(30):
        log = logged(season, seasons, seed)
        evaluation = Evaluation(log, season, mode=mode, refits=0, resamples=2)
        for name, estimate in evaluation.estimates(target_of(log, target)).items():
            found.setdefault(name, []).append(estimate.value / truth - 1)
    return {name: np.array(values) for name, values in found.items()}


def rmse(values: Array) -> float:
    return float(np.sqrt(np.nanmean(values**2)))


# -- estimators against exact values ---------------------------------------------------------------


def test_unconstrained_demand_is_right_and_dropping_stock_outs_is_not() -> None:
    """The optimal policy, 500 seasons of 15 periods: the negative controls are what spreadsheets
    do."""
    season = season_of(15)
    optimal = known.probabilities(season, known.solve(season).policy)
    found = {
        mode: errors(optimal, season, 500, mode)["model"]
        for mode in ("censored", "naive", "dropped")
    }
    assert rmse(found["censored"]) <= 0.015
    assert found["dropped"].mean() < -0.03
    assert found["naive"].mean() < -0.01


def test_weights_are_right_for_a_small_step_and_refused_for_a_new_policy() -> None:
    """A notch towards the optimum in 20 % of decisions; the optimum itself is carried by less than
    one season of 500."""
    season = season_of(15)
    best = known.solve(season).policy
    step = (
        0.8 * table_of(season, BROAD)
        + 0.2 * np.eye(CHOICES)[np.clip(best, INCUMBENT - 1, INCUMBENT + 1)]
    )
    found = errors(step, season, 500)
    assert np.isfinite(found["WIS"]).mean() >= 0.7
    assert rmse(found["WIS"]) <= 0.06
    assert rmse(found["doubly robust"]) <= 0.04
    assert rmse(found["per-decision IS"]) <= 0.25
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
    """40 logs of 100 seasons: an interval that holds the truth 95 times in 100 does so 33 times or
    more."""
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
    left = log.stock - log.sales
    reward = (0.9 * log.price - 150) * log.sales - 10 * left
    reward[-1] -= 0.9 * 80 * left[-1]
    propensity = np.where(log.stock > 0, BROAD[log.action], 1.0)
    decisions = Decisions(
        log.action, np.concatenate([log.stock, left[-1:]]), log.sales, reward, propensity
    )
    new = known.probabilities(season, known.solve(season).policy)
    target = mixed(decisions, table_of(season, BROAD), new, 0.1)
    truth = known.evaluate(season, target.table)[0, -1]
    for name, estimate in Evaluation(decisions, season, refits=30).estimates(target).items():
        assert estimate.value == pytest.approx(truth, rel=0.06), name
        assert estimate.low < truth < estimate.high, name


def test_answer_and_log_count_salvage_as_the_market_does(tmp_path: Path) -> None:
    """A discounted season with a waste fee at a fixed price: the market's returns are the answer's,
    its rows a log's."""
    given = {
        "gamma": 0.8,
        "stock": {"units": [6], "salvage": -300, "holding": 0.1},
        "cost": [100],
        "fee": 0.1,
    }
    answer = SeasonAnswer(
        PricingParameters.model_validate(answered(4).parameters.model_dump() | given)
    )
    market = Pricing(answer.parameters, worlds=20_000)
    worlds = 20_000
    market.reset(0)
    state = market.state
    total = np.zeros(worlds)
    rows = []
    for t in range(4):
        moved = market.transition(
            state, {"seller": torch.full((worlds, 1, 1), 2)}, market.draw_noise(market.generator)
        )
        reward = moved.rewards["seller"][:, 0].double().numpy()
        stock, left = (s["stock"][:, 0].long().numpy() for s in (state, moved.state))
        total += 0.8**t * np.where(stock > 0, reward, 0.0)
        rows += [
            {
                "season": n,
                "period": t,
                "stock": stock[n],
                "choice": 2,
                "price": 700,
                "sales": stock[n] - left[n],
                "reward": reward[n],
                "propensity": 1,
            }
            for n in range(20)
            if stock[n] > 0
        ]
        state = moved.state
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
    found = logger_table(
        Decisions(log.action, stock, log.sales, log.price * log.sales, chance), season
    )
    np.testing.assert_allclose(found.sum(-1), 1)
    assert known.evaluate(season, found)[0, -1] == pytest.approx(
        known.evaluate(season, behaviour)[0, -1], rel=0.02
    )


def test_a_table_that_does_not_fit_is_refused() -> None:
    season = season_of(5)
    log = logged(season, 3, 0)
    with pytest.raises(ValueError, match=r"shape \(4, 11, 9\): expected \[5, 11, choices\]"):
        target_of(log, table_of(season, BROAD)[:4])
    with pytest.raises(ValueError, match="do not sum to 1"):
        target_of(log, 2 * table_of(season, BROAD))


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [BROAD, NARROW], ids=["broad", "narrow"])
def test_the_learner_is_no_worse_than_the_logger(behaviour: Array) -> None:
    """By at most a point of the optimum, judged exactly; from 30 seasons and from 300."""
    answer = answered(15)
    best = answer.optimum.total
    for seasons in (30, 300):
        log = logged(answer.season, seasons, 1, behaviour)
        _, learned = learn(log, answer, QUICK, 0)
        logger = known.evaluate(answer.season, table_of(answer.season, behaviour))[0, -1]
        assert answer.worth(learned) / best >= logger / best - 0.01


def test_the_same_seed_learns_the_same_and_the_network_can_be_exported(tmp_path: Path) -> None:
    answer = answered(5)
    log = logged(answer.season, 20, 0)
    brief = CQLSettings(steps=30, hidden=(8,))
    (one, table), (same, _), (other, _) = (learn(log, answer, brief, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )
    exported.export(
        tmp_path / "policy", {"seller": one}, {"policies": {"seller": {"groups": ["seller"]}}}
    )
    seen = observations(answer)
    choices = exported.load(tmp_path / "policy").act(seen[:-1].numpy())
    np.testing.assert_array_equal(choices[..., 0], table)


def test_conservative_values_stay_below_those_of_plain_q_learning() -> None:
    """What alpha is for: choices that were never logged are not believed to be better."""
    rng = np.random.default_rng(0)
    seen = torch.ones(500, 1)
    choices = torch.from_numpy(rng.integers(0, 2, 500))
    rewards = torch.from_numpy(100.0 + 50 * choices.numpy()).float()
    rows = Transitions(seen, choices, rewards, seen, torch.ones(500, dtype=torch.bool))
    values = train(rows, 4, CQLSettings(steps=800, hidden=(16,)))(seen[:1])[0]
    assert int(values.argmax()) == 1
    assert values[2:].max() < values[:2].min() - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [("choice", "outside 0..1"), ("reward", "rewards hold"), ("none", "no tr")],
)
def test_bad_transitions_are_refused(change: str, message: str) -> None:
    size = 0 if change == "none" else 3
    choices = torch.full((size,), 5 if change == "choice" else 0)
    rewards = torch.full((size,), torch.inf if change == "reward" else 1.0)
    seen = torch.zeros(size, 1)
    with pytest.raises(ValueError, match=message):
        train(Transitions(seen, choices, rewards, seen, torch.ones(size, dtype=torch.bool)), 2)


def test_transitions_end_with_stock_or_season() -> None:
    answer = answered(5)
    log = logged(answer.season, 40, 0)
    rows = transitions(log, observations(answer))
    assert len(rows.choices) == int(log.deciding.sum())
    assert int(rows.ended.sum()) == 40
    assert float(rows.rewards.sum()) == pytest.approx(float(log.reward.sum()))


# -- files -----------------------------------------------------------------------------------------


def rows_of(log: Decisions) -> list[dict[str, Any]]:
    """As a shop writes them: nothing after the last unit is sold."""
    return [
        {
            "season": f"s{n}",
            "period": t,
            "stock": log.stock[t, n],
            "choice": log.action[t, n],
            "price": PRICES[log.action[t, n]],
            "sales": log.sales[t, n],
            "reward": log.reward[t, n],
            "propensity": log.propensity[t, n],
        }
        for n in range(log.seasons)
        for t in range(len(log.action))
        if log.stock[t, n] > 0
    ]


def test_a_written_log_reads_as_it_was(tmp_path: Path) -> None:
    season = season_of(15)
    log = logged(season, 12, 0)
    rows = rows_of(log)
    np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
    found = read_decisions(write(tmp_path / "log.csv", rows), season)
    order = [int(name[1:]) for name in sorted(f"s{n}" for n in range(12))]
    np.testing.assert_array_equal(found.stock, log.stock[:, order])
    np.testing.assert_allclose(found.reward, log.reward[:, order])
    np.testing.assert_allclose(found.propensity, log.propensity[:, order])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "propensity": (
        {"propensity": 0},
        "log.csv line 4, column propensity: found 0, expected a number above 0 to 1",
    ),
    "blank": (
        {"propensity": ""},
        "line 4, column propensity: found nothing, expected a number above 0 to 1",
    ),
    "choice": (
        {"choice": 9},
        "line 4, column choice: found 9, expected a whole number from 0 to 8",
    ),
    "price": ({"price": 123}, "line 4, column price: found 123.0, expected"),
    "sales": ({"sales": 11}, "line 4, column sales: found 11, expected at most the stock"),
    "reward": ({"reward": -5}, "line 4, column reward: found -5.0, expected"),
    "period": (
        {"period": 15},
        "line 4, column period: found 15, expected a whole number from 0 to 14",
    ),
    "gap": ({"period": 9}, "expected each period of a season once, from 0 on"),
    "stock": (
        {"stock": 0, "sales": 0, "reward": 0},
        "line 4, column stock: found 0, expected what the period before left",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named(case: str, tmp_path: Path) -> None:
    season = season_of(15)
    rows = rows_of(logged(season, 3, 0))
    rows[2] |= BAD[case][0]
    with pytest.raises(ExperimentError) as refusal:
        read_decisions(write(tmp_path / "log.csv", rows), season)
    assert BAD[case][1] in str(refusal.value)


def test_a_season_that_starts_or_stops_in_the_middle_is_named(tmp_path: Path) -> None:
    season = season_of(15)
    rows = rows_of(logged(season, 1, 0))
    with pytest.raises(
        ExperimentError, match="expected the season to go on to period 14 while there is stock"
    ):
        read_decisions(write(tmp_path / "log.csv", rows[:2]), season)
    with pytest.raises(
        ExperimentError, match="found 10, expected 12, with which the experiment starts"
    ):
        read_decisions(write(tmp_path / "log.csv", rows), season_of(15, stock=12))


def experiment_file(folder: Path) -> Path:
    """The season of Gallego and van Ryzin, cut to 15 days and 10 units."""
    data = copy.deepcopy(load(ROOT / "tune_configs" / "pricing-gvr.yaml").model_dump(mode="json"))
    data["market"]["parameters"] |= {"periods": 15, "stock": {"units": [STOCK]}}
    path = folder / "experiment.yaml"
    path.write_text(dump_yaml(data))
    return path


def test_the_command_compares_and_exports_and_refuses_a_log_without_propensities(
    tmp_path: Path,
) -> None:
    experiment = experiment_file(tmp_path)
    rows = rows_of(logged(season_of(15), 200, 0))
    log = write(tmp_path / "log.csv", rows)
    done = command("offline", log, experiment, "--steps", "100", "--export", tmp_path / "policy")
    assert done.returncode == 0, done.stderr
    for expected in (
        "refused for CQL: IS, WIS, per-decision IS, doubly robust",
        "whose optimum is",
        "logger",
    ):
        assert expected in done.stdout
    assert list(exported.load(tmp_path / "policy").groups) == ["seller"]
    write(log, [{k: v for k, v in r.items() if k != "propensity"} for r in rows])
    done = command("offline", log, experiment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no column propensity, the probability with which each choice was made" in done.stderr


def test_markets_without_a_plain_season_are_refused() -> None:
    for name in ("pricing-profit", "households-rbc"):
        with pytest.raises(ExperimentError, match="one product, stock and a deadline"):
            answer_of(load(ROOT / "tune_configs" / f"{name}.yaml"), "x.yaml")
    with pytest.raises(ExperimentError, match="without guard-rails"):
        answer_of(load(ROOT / "tune_configs" / "pricing-clearance.yaml"), "x.yaml")


def test_the_comparison_names_each_policy_and_tells_exact_values() -> None:
    """Fit-then-plan beats both where demand is of its family; no figure is a network's own."""
    answer = answered(15)
    log = logged(answer.season, 300, 2)
    judged = {j.name: j for j in compare(log, answer, np.full((15, STOCK + 1), INCUMBENT))}
    assert list(judged) == [
        "logger",
        "CQL",
        "CQL, 20 % of decisions",
        "fit-then-plan",
        "fit-then-plan, 20 % of decisions",
    ]
    assert judged["logger"].effective == pytest.approx(300)
    assert judged["fit-then-plan"].exact > 0.99 * answer.optimum.total
    model = judged["CQL"].estimates["model"]
    assert model.low < judged["CQL"].exact < model.high
