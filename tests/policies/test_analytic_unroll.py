"""Unrolled horizons against plain loops: rewards, co-states, ends of episodes, deviations."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_markets.envs.deviation import DEVIATOR, DifferentiableDeviation, deviation
from rl_markets.envs.households.market import Households
from rl_markets.envs.market import Owned, State
from rl_markets.policies.analytic.unroll import Unrolled, unroll
from tests.support.horizons import DOUBLE, GAMMA, household_market, played, rule, shocks
from tests.support.orchard import Orchard, OrchardParameters

HORIZON = 3
Rewards = list[dict[str, Tensor]]


# -- unrolling -------------------------------------------------------------------------------------


def check_is_the_loop(
    unrolled: Unrolled, market: Households, states: list[State], rewards: Rewards
) -> None:
    """Rewards, observations, global states and what is owned are those of a plain loop."""
    exact: Any = {"rtol": 1e-12, "atol": 1e-12}
    for t in range(HORIZON):
        torch.testing.assert_close(
            unrolled.rewards["households"][t], rewards[t]["households"], **exact
        )
    for t, state in enumerate(states):
        obs = market.observe(state)["households"]
        torch.testing.assert_close(unrolled.observations["households"][t], obs, **exact)
        global_state = market.observe_globally(state)
        torch.testing.assert_close(unrolled.global_states[t], global_state, **exact)
        assert torch.equal(unrolled.alive["households"][t], torch.ones(state["capital"].shape))
    torch.testing.assert_close(unrolled.owned["households"], states[-1]["capital"])
    assert unrolled.everybody


@pytest.mark.parametrize(("n", "conduct"), [(3, "cooperative"), (1, "strategic")])
def test_a_horizon_is_a_plain_loop_and_its_co_states_are_finite_differences(
    n: int, conduct: str
) -> None:
    """lambda_t = gamma^-t dJ / d log k_t.

    J is the sum over households whose gradients leave nothing out.
    """
    market = household_market(n, conduct)
    generator = torch.Generator().manual_seed(4)
    state = market.initial_state(2, generator)
    noise = shocks(market, HORIZON, generator)
    unrolled = unroll(market, state, HORIZON, rule, generator, {"households": Owned("capital")})
    states, rewards = played(market, state, noise, rule)
    check_is_the_loop(unrolled, market, states, rewards)

    worth = torch.linspace(0.5, 2.0, n, **DOUBLE)

    def objective(rewards: Rewards, k: Tensor) -> Tensor:
        earned = sum(GAMMA**t * r["households"].sum() for t, r in enumerate(rewards))
        return earned + GAMMA**HORIZON * (worth * torch.log(k)).sum()

    unrolled_rewards = [{"households": r} for r in unrolled.rewards["households"]]
    total = objective(unrolled_rewards, unrolled.owned["households"])
    slopes = torch.autograd.grad(total, unrolled.nudges["households"])
    step = 1e-5
    for t, world, i in itertools.product(range(HORIZON), range(2), range(n)):
        ends = []
        for sign in (1, -1):
            k = states[t]["capital"].clone()
            k[world, i] *= torch.exp(torch.tensor(sign * step, **DOUBLE))
            after, earned = played(market, {**states[t], "capital": k}, noise[t:], rule)
            ends.append(objective([*rewards[:t], *earned], after[-1]["capital"]))
        slope = float(ends[0] - ends[1]) / (2 * step)
        assert float(slopes[t][world, i]) == pytest.approx(slope, rel=1e-6)


def test_states_that_were_given_are_left_alone() -> None:
    market = household_market(3, "strategic")
    generator = torch.Generator().manual_seed(4)
    market.reset(0)
    state = {name: value.clone() for name, value in market.state.items()}
    unroll(market, market.state, 2, rule, generator, {"households": Owned("capital")})
    assert all(torch.equal(value, market.state[name]) for name, value in state.items())
    assert not any(value.requires_grad for value in market.state.values())


def _orchard(**parameters: Any) -> tuple[Orchard, State, torch.Generator]:
    market = Orchard(OrchardParameters(**parameters), worlds=6, **DOUBLE)
    generator = torch.Generator().manual_seed(1)
    state = market.initial_state(6, generator)
    return market, state | {"age": torch.arange(6, **DOUBLE)[:, None] % 3}, generator


def orchard_rule(obs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {group: 0.5 + 0.2 * torch.tanh(x.sum(-1, keepdim=True)) for group, x in obs.items()}


def test_rewards_after_an_agents_end_do_not_count() -> None:
    """Worlds of age 0, 1, 2 end when they are 4; in each of them the second grower leaves at 3."""
    market, state, generator = _orchard(ends=4, leaves=3)
    noise = shocks(market, 4, generator)
    age = state["age"][:, 0]
    assert age.unique().tolist() == [0, 1, 2]
    unrolled = unroll(market, state, 4, orchard_rule, generator, {})
    _, rewards = played(market, state, noise, orchard_rule)
    assert not unrolled.everybody
    assert unrolled.nudges == unrolled.owned == {}
    for t in range(4):
        world = (age + t < 4).double()[:, None]  # has not ended before this period
        second = (age + t < 3).double()[:, None]
        growers = torch.cat((world, second), -1)
        assert torch.equal(unrolled.alive["growers"][t].double(), growers)
        torch.testing.assert_close(unrolled.rewards["growers"][t], growers * rewards[t]["growers"])
        merchants = world * rewards[t]["merchants"]
        torch.testing.assert_close(unrolled.rewards["merchants"][t], merchants)
    assert not unrolled.alive["merchants"][4].any(), "all four years have passed everywhere"
    assert float(unrolled.rewards["growers"][3].abs().sum()) > 0


def test_what_happens_after_the_end_has_no_gradient() -> None:
    market, state, generator = _orchard(ends=3)
    price = [torch.full((6, 1, 1), 0.4, **DOUBLE).requires_grad_() for _ in range(4)]
    calls = iter(price)

    def act(obs: dict[str, Tensor]) -> dict[str, Tensor]:
        return orchard_rule(obs) | {"merchants": next(calls)}

    unrolled = unroll(market, state, 4, act, generator, {"growers": Owned("trees")})
    left = (unrolled.alive["growers"][-1] * unrolled.owned["growers"].log()).sum()
    total = torch.stack(unrolled.rewards["growers"]).sum() + left
    gradients = torch.autograd.grad(total, price, allow_unused=True, materialize_grads=True)
    for t, gradient in enumerate(gradients):
        counts = state["age"][:, 0] + t < 3
        assert torch.equal(gradient[:, 0, 0] != 0, counts), t


# -- deviations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("conduct", "periods"), [("cooperative", 3), ("strategic", 1)])
def test_a_deviators_gradient_is_the_finite_difference_of_its_reward(
    conduct: str, periods: int
) -> None:
    """The others' answer to it in later periods is differentiated too."""
    inner = household_market(3, conduct)
    policy = {"households": lambda obs: rule({"households": obs})["households"]}
    market = deviation(inner, policy, "households")
    assert isinstance(market, DifferentiableDeviation)
    generator = torch.Generator().manual_seed(6)
    state = inner.initial_state(2, generator)
    noise = shocks(market, periods, generator)  # type: ignore[arg-type]

    def reward(first: Tensor) -> Tensor:
        actions = iter([first] + [torch.full((2, 1, 2), 0.3, **DOUBLE)] * (periods - 1))

        def follow(_: dict[str, Tensor]) -> dict[str, Tensor]:
            return {DEVIATOR: next(actions)}

        _, rewards = played(market, state, noise, follow)  # type: ignore[arg-type]
        assert rewards[0][DEVIATOR].shape == (2, 1)
        discounted = [GAMMA**t * r[DEVIATOR].sum() for t, r in enumerate(rewards)]
        return sum(discounted, torch.zeros(()))

    first = torch.full((2, 1, 2), 0.25, **DOUBLE).requires_grad_()
    (gradient,) = torch.autograd.grad(reward(first), first)
    for place in range(4):
        step = 1e-6 * (torch.arange(4) == place).double().view(2, 1, 2)
        slope = float(reward(first.detach() + step) - reward(first.detach() - step)) / 2e-6
        assert float(gradient.flatten()[place]) == pytest.approx(slope, rel=1e-6)
