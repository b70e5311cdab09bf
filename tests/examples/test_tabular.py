"""Tabular learners, and what their rules cost.

In a bandit at five units of money; in Q-learning, the same actions at every unit.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from examples.exploration.tabular import Season, bandit, q_learning
from rl_markets.policies.exploration import RULES

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
TUNED = {
    "eps_greedy": {"eps": 0.02},
    "eps_softmax": {"eps": 0.05, "beta": 4.0},
    "entropy_budget": {"h": 0.1},
    "boltzmann": {"tau": 100.0},
}
"""Parameters from a coarse search at scale 1, on other shops of the same kind."""

PRICES = torch.tensor([400.0, 550, 700, 850, 1000, 1150, 1300, 1500, 1800], dtype=torch.float64)
SEASON = Season(demand=(6 * torch.exp(-PRICES / 500)).expand(15, 9), prices=PRICES, stock=10)


def logit_shops(shops: int, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Mean sales and margins at nine prices around 1000, of which two are below the cost of 700."""
    generator = torch.Generator().manual_seed(seed)
    taste, mu = (torch.rand(shops, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    multiples = [0.6, 0.68, 0.76, 0.84, 0.92, 1, 1.1, 1.2, 1.35]
    prices = 1000 * torch.tensor(multiples, dtype=torch.float64)
    return 20 * torch.sigmoid((950 + 300 * taste - prices) / (60 + 120 * mu)), prices - 700


def regrets(rule: str, scales: tuple[float, ...] = SCALES) -> list[float]:
    """Mean regret of 200 shops over 2000 periods, in % of the best profit, at each scale."""
    rates, margins = logit_shops(200)
    runs = (
        bandit(rule, rates, margins, periods=2000, parameters=TUNED[rule], seed=1, scale=scale)
        for scale in scales
    )
    means = [float(run.regret.mean()) for run in runs]
    at_scales = [f"x{s:g}: {r:.2f}" for s, r in zip(scales, means, strict=True)]
    print(f"{rule:15s} regret % at {', '.join(at_scales)}")
    return means


# -- bandit ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def greedy_regret() -> float:
    return min(regrets("eps_greedy"))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["eps_softmax", "entropy_budget"])
def test_invariant_rules_lose_little_at_every_scale(rule: str, greedy_regret: float) -> None:
    regret = regrets(rule)
    assert max(regret) <= 2.2
    assert max(regret) - min(regret) <= 0.3
    assert max(regret) <= 0.75 * greedy_regret


def test_boltzmann_tuned_in_yen_loses_a_third_at_a_hundredth() -> None:
    """The negative control."""
    small, tuned = regrets("boltzmann", (0.01, 1.0))
    assert small >= 30
    assert tuned <= 2.5


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.invariant])
def test_a_bandit_chooses_the_same_at_powers_of_two(rule: str) -> None:
    rates, margins = logit_shops(30)
    options: Any = {"periods": 120, "parameters": {}, "seed": 2}
    runs = [bandit(rule, rates, margins, scale=s, **options) for s in (1.0, 4.0, 2.0**-20)]
    for run in runs[1:]:
        assert torch.equal(run.actions, runs[0].actions)
    assert torch.equal(runs[0].actions[:9, 0], torch.arange(9)), "every price once"


def test_boltzmann_does_not() -> None:
    rates, margins = logit_shops(30)
    options: Any = {"periods": 120, "parameters": {"tau": 100}, "seed": 2}
    one, four = (bandit("boltzmann", rates, margins, scale=s, **options) for s in (1, 4))
    assert not torch.equal(one.actions, four.actions)


def test_regret_is_zero_where_all_prices_are_alike_and_half_where_one_of_two_earns_nothing() -> (
    None
):
    alike = bandit("eps_greedy", torch.ones(3, 4), torch.ones(4), periods=20, parameters={}, seed=0)
    torch.testing.assert_close(alike.regret, torch.zeros(3, dtype=torch.float64), atol=1e-5, rtol=0)
    rates = torch.ones(400, 2)
    margins = torch.tensor([1.0, 0.0])
    half = bandit("eps_greedy", rates, margins, periods=50, parameters={"eps": 1.0}, seed=0)
    assert float(half.regret.mean()) == pytest.approx(50, abs=1.5)


def test_knobs_may_be_annealed() -> None:
    rates, margins = logit_shops(50)
    annealed = lambda x: {"eps": 1 - min(1, 2 * x)}  # noqa: E731
    run = bandit("eps_greedy", rates, margins, periods=400, parameters=annealed, seed=0)
    switches = (run.actions.diff(dim=0) != 0).double().mean(1)
    assert float(switches[:50].mean()) > 0.7
    assert float(switches[-150:].mean()) < 0.1


def test_bandit_errors() -> None:
    rates, margins = logit_shops(2)
    with pytest.raises(ValueError, match="periods is 8, expected at least the number of prices, 9"):
        bandit("rank", rates, margins, periods=8, parameters={}, seed=0)
    with pytest.raises(ValueError, match="scale is 0, expected a positive number"):
        bandit("rank", rates, margins, periods=9, parameters={}, seed=0, scale=0)
    with pytest.raises(ValueError, match="rank has no parameter tau"):
        bandit("rank", rates, margins, periods=10, parameters={"tau": 1}, seed=0)


# -- Q-learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [name for name, rule in RULES.items() if rule.invariant and not rule.heads]
)
def test_the_same_actions_at_1024_times_the_reward(rule: str) -> None:
    """Proposition 4: selection, targets, steps and the first values all scale.

    A power of two rounds nothing.
    """
    options: Any = {"learners": 16, "episodes": 50, "parameters": {}, "seed": 5}
    one, many = (q_learning(rule, SEASON, scale=s, **options) for s in (1.0, 1024.0))
    assert torch.equal(one.actions, many.actions)
    assert torch.equal(1024 * one.values, many.values)
    assert torch.equal(one.revenue, many.revenue)


def test_decimal_scales_differ_only_where_rounding_breaks_a_tie() -> None:
    options: Any = {"learners": 16, "episodes": 50, "seed": 5}
    options["parameters"] = {"eps": 0.5, "beta": 2.0}
    runs = [q_learning("eps_softmax", SEASON, scale=s, **options) for s in (1, 0.01)]
    assert float((runs[0].actions == runs[1].actions).double().mean()) > 0.95


def test_boltzmann_acts_otherwise_at_1024_times_the_reward() -> None:
    """The negative control."""
    options: Any = {"learners": 16, "episodes": 50, "seed": 5, "parameters": {"tau": 500.0}}
    runs = [q_learning("boltzmann", SEASON, scale=s, **options) for s in (1, 1024)]
    assert not torch.equal(runs[0].actions, runs[1].actions)


def test_values_are_those_of_the_dynamic_program() -> None:
    """Two periods, one unit: V1(a) = p (1 - e^-l), V0(a) = p (1 - e^-l) + e^-l max V1."""
    demand = torch.tensor([[1.5, 0.4], [1.0, 0.5]])
    prices = torch.tensor([2.0, 5.0])
    season = Season(demand, prices, stock=1)
    learned = q_learning(
        "eps_greedy", season, learners=200, episodes=600, parameters={"eps": 1.0}, seed=0, power=0.8
    )
    last = prices * (1 - torch.exp(-demand[1]))
    first = prices * (1 - torch.exp(-demand[0])) + torch.exp(-demand[0]) * last.amax()
    torch.testing.assert_close(learned.values[1, :, 1].mean(0).float(), last, rtol=0.03, atol=0)
    torch.testing.assert_close(learned.values[0, :, 1].mean(0).float(), first, rtol=0.03, atol=0)
    assert not learned.values[:, :, 0].any(), "nothing to sell, nothing to earn"
    assert learned.greedy().shape == (200, 2, 2)
    assert int(learned.greedy()[:, 1, 1].double().mean().round()) == int(last.argmax())


def test_revenue_is_within_what_stock_and_prices_allow() -> None:
    learned = q_learning(
        "eps_softmax", SEASON, learners=8, episodes=300, parameters={"eps": 0.3}, seed=0
    )
    assert float(learned.revenue.min()) >= 0
    assert float(learned.revenue.max()) <= 10 * 1800
    assert float(learned.revenue[-100:].mean()) > float(learned.revenue[:100].mean()), "it learns"


def test_q_learning_errors() -> None:
    with pytest.raises(ValueError, match="bootstrapped chooses by several heads"):
        q_learning("bootstrapped", SEASON, learners=1, episodes=1, parameters={}, seed=0)
    with pytest.raises(ValueError, match="scale is inf"):
        q_learning("rank", SEASON, learners=1, episodes=1, parameters={}, seed=0, scale=math.inf)
