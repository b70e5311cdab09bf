"""The best path of one agent against frozen others: it finds what the dynamic programme finds, and no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.answers import households as known
from rl_markets.envs.households import economics
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import Policy, State
from rl_markets.envs.paths import INSIDE, PathDeviation

N, BETA = 3, 0.95
CALM = HouseholdsParameters(households=N, sigma=0.0, conduct="cooperative", episode_length=10**6)
ECONOMY = known.Economy(sigma=0.0)
REST = known.steady_state(ECONOMY)


def constant(share: float, labour: float) -> Policy:
    return lambda seen: torch.tensor([share, labour]).expand(*seen.shape[:-1], 2)


def at(market: Households, multiple: float) -> State:
    """Everybody holds so many times the steady state's capital; no shocks."""
    market.reset(0)
    state = dict(market.state)
    state["capital"] = torch.full_like(state["capital"], multiple * REST.k)
    state["labour"], state["log_productivity"] = (
        torch.full_like(state["labour"], REST.l),
        0 * state["log_productivity"],
    )
    return state


def gains(policy: Policy, multiple: float, agents: list[int], **options: int) -> Tensor:
    """In % of consumption, `[len(agents)]`."""
    market = Households(CALM, worlds=len(agents), dtype=torch.float64)
    path = PathDeviation(market, {"households": policy}, "households", torch.tensor(agents), BETA, **options)
    found = path.gains(at(market, multiple))
    return torch.tensor([economics.consumption_equivalent(float(g), BETA) for g in found])


@pytest.mark.parametrize("multiple", [0.6, 1.5])
def test_it_gains_what_the_dynamic_programme_says(multiple: float) -> None:
    """Constant actions, away from the rest that they lead to: each of three households could gain."""
    policy = constant(0.17, 0.12)
    exact = known.best_response(ECONOMY, lambda k, K, z: (0 * k + 0.17, 0 * k + 0.12), N, price_taking=False)
    k = np.array([multiple * REST.k])
    expected = float(exact.gain_percent(k, k, 0 * k)[0])
    assert expected > 0.05
    found = gains(policy, multiple, [0, 2], periods=120, tail=60)
    assert found.numpy() == pytest.approx(expected, abs=0.01)
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-3), "they are alike"


def test_the_optimum_of_one_household_leaves_nothing() -> None:
    """A single household is the planner; its solution by collocation cannot be bettered, a constant one can."""
    alone = CALM.model_copy(update={"households": 1})
    market = Households(alone, worlds=1, dtype=torch.float64)
    solved = known.solve_collocation(known.Economy(sigma=1e-4))

    def optimal(seen: Tensor) -> Tensor:
        k = torch.exp(2 * seen[..., 1]).double().numpy()
        return torch.from_numpy(np.stack(solved.actions(k, 0 * k), -1)).float()

    found = {}
    for name, policy in (("optimal", optimal), ("constant", constant(REST.chat, REST.l))):
        path = PathDeviation(market, {"households": policy}, "households", torch.tensor([0]), BETA)
        found[name] = economics.consumption_equivalent(float(path.gains(at(market, 1.7))[0]), BETA)
    assert 0 <= found["optimal"] < 2e-4
    assert found["constant"] > 0.05


def test_more_free_periods_never_gain_less_and_staying_is_where_it_starts() -> None:
    policy = constant(0.17, 0.12)
    found = [float(gains(policy, 1.5, [1], periods=periods, tail=120 - periods)[0]) for periods in (1, 5, 40)]
    assert 0 < found[0] < found[1] < found[2]
    near = constant(1.0, 0.0)  # at the bounds of the box: the start is moved inside, and is feasible
    assert torch.isfinite(gains(near, 1.0, [0], periods=2, tail=0)).all()
    assert INSIDE < 1e-3
