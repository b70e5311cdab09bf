"""The best path of one agent against frozen others.

It finds what the dynamic programme finds, and no more.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.households import economics
from rl_markets.envs.households import solution as known
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import PolicyFunction, State
from rl_markets.envs.paths import PathDeviation

N = 3
BETA = 0.95
CALM = HouseholdsParameters(households=N, sigma=0.0, conduct="cooperative", episode_length=10**6)
ECONOMY = known.Economy(sigma=0.0)
REST = known.steady_state(ECONOMY)


def constant(share: float, labour: float) -> PolicyFunction:
    return lambda obs: torch.tensor([share, labour]).expand(*obs.shape[:-1], 2)


def at(market: Households, multiple: float) -> State:
    """Everybody holds so many times the steady state's capital; no shocks."""
    market.reset(0)
    state = dict(market.state)
    state["capital"] = torch.full_like(state["capital"], multiple * REST.k)
    state["labour"] = torch.full_like(state["labour"], REST.l)
    state["log_productivity"] = 0 * state["log_productivity"]
    return state


def gains(policy: PolicyFunction, multiple: float, agents: list[int], **options: int) -> Tensor:
    """In % of consumption, `[len(agents)]`."""
    market = Households(CALM, worlds=len(agents), dtype=torch.float64)
    path = PathDeviation(
        market, {"households": policy}, "households", torch.tensor(agents), BETA, **options
    )
    gain = path.gains(at(market, multiple))
    return torch.tensor([economics.consumption_equivalent(float(g), BETA) for g in gain])


@pytest.mark.parametrize("multiple", [0.6, 1.5])
def test_it_gains_what_the_dynamic_programme_says(multiple: float) -> None:
    """Constant actions, away from the rest that they lead to.

    Each of three households could gain.
    """
    policy = constant(0.17, 0.12)
    exact = known.best_response(
        ECONOMY, lambda k, K, z: (0 * k + 0.17, 0 * k + 0.12), N, price_taking=False
    )
    k = np.array([multiple * REST.k])
    expected = float(exact.gain_percent(k, k, 0 * k)[0])
    assert expected > 0.05
    gain = gains(policy, multiple, [0, 2], periods=120, tail=60)
    assert gain.numpy() == pytest.approx(expected, abs=0.01)
    assert float(gain[0]) == pytest.approx(float(gain[1]), rel=1e-3), "they are alike"


def test_the_optimum_of_one_household_leaves_nothing() -> None:
    """A single household is the planner.

    Its solution by collocation cannot be bettered, a constant one can.
    """
    alone = CALM.model_copy(update={"households": 1})
    market = Households(alone, worlds=1, dtype=torch.float64)
    solved = known.solve_collocation(known.Economy(sigma=1e-4))

    def optimal(obs: Tensor) -> Tensor:
        k = torch.exp(2 * obs[..., 1]).double().numpy()
        return torch.from_numpy(np.stack(solved.actions(k, 0 * k), -1)).float()

    gain = {}
    for name, policy in (("optimal", optimal), ("constant", constant(REST.chat, REST.l))):
        path = PathDeviation(market, {"households": policy}, "households", torch.tensor([0]), BETA)
        gain[name] = economics.consumption_equivalent(float(path.gains(at(market, 1.7))[0]), BETA)
    assert 0 <= gain["optimal"] < 2e-4
    assert gain["constant"] > 0.05


def test_more_free_periods_never_gain_less_and_staying_is_where_it_starts() -> None:
    policy = constant(0.17, 0.12)
    gain = [
        float(gains(policy, 1.5, [1], periods=periods, tail=120 - periods)[0])
        for periods in (1, 5, 40)
    ]
    assert 0 < gain[0] < gain[1] < gain[2]


def test_staying_is_where_the_search_starts() -> None:
    """The policy's own actions, as free ones, bring what the policy brings."""
    market = Households(CALM, worlds=2, dtype=torch.float64)
    path = PathDeviation(
        market, {"households": constant(0.17, 0.12)}, "households", torch.tensor([0, 2]), BETA
    )
    state = at(market, 1.5)
    noise = [market.draw_noise(torch.Generator())]
    squash = path.squash
    raw: list[Tensor] = []

    def note(t: int, seen: Tensor, action: Tensor) -> Tensor:
        raw.append(squash.to_raw(action))
        return action

    stay = path.follow(state, noise, note)
    assert [tuple(row.shape) for row in raw] == 80 * [(2, 2)]
    same = path.follow(state, noise, lambda t, seen, action: squash.to_action(raw[t]))
    torch.testing.assert_close(same, stay, rtol=1e-6, atol=1e-6)
    other = path.follow(state, noise, lambda t, seen, action: squash.to_action(raw[t] + 0.1))
    assert not torch.allclose(other, stay, rtol=1e-6, atol=1e-6)


def test_a_profile_without_a_value_has_no_gain_and_spoils_no_other_worlds() -> None:
    broken = torch.tensor([[0.17, 0.12], [torch.nan, 0.12]])[:, None]

    def policy(obs: Tensor) -> Tensor:
        return broken.expand(*obs.shape[:-1], 2)

    market = Households(CALM, worlds=2, dtype=torch.float64)
    path = PathDeviation(market, {"households": policy}, "households", torch.tensor([0, 0]), BETA)
    gain = path.gains(at(market, 1.5))
    assert torch.isnan(gain[1])
    alone = gains(constant(0.17, 0.12), 1.5, [0])
    assert economics.consumption_equivalent(float(gain[0]), BETA) == pytest.approx(
        float(alone[0]), rel=0.02
    )


def test_a_rule_that_leaves_torch_reacts_and_other_errors_are_its_own() -> None:
    def numpy_rule(obs: Tensor) -> Tensor:
        return torch.from_numpy(
            np.full((*obs.shape[:-1], 2), [0.17, 0.12]) + 0 * obs[..., :1].numpy()
        )

    gain, expected = (
        gains(policy, 1.5, [0], periods=20, tail=20)
        for policy in (numpy_rule, constant(0.17, 0.12))
    )
    assert float(gain[0]) == pytest.approx(float(expected[0]), rel=1e-3)

    def broken(obs: Tensor) -> Tensor:
        raise RuntimeError("a rule of the user's is broken")

    with pytest.raises(RuntimeError, match="is broken"):
        gains(broken, 1.5, [0])
