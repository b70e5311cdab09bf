"""The economy with a government: its accounts, its revenue, and whose rewards are whose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.fiscal.market import Fiscal
from rl_markets.envs.fiscal.parameters import FiscalParameters

DOUBLE = torch.float64


def built(worlds: int = 4, **parameters: object) -> Fiscal:
    settings = {"households": 5, "initial_dispersion": 0.5, "progressivity": 0.2} | parameters
    valid = FiscalParameters.model_validate(settings)
    market = Fiscal(valid, worlds=worlds, dtype=DOUBLE)
    market.reset(1)
    return market


def drawn(market: Fiscal, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n = market.parameters.households
    return {
        "households": 0.1
        + 0.8 * torch.rand((market.worlds, n, 2), generator=generator, dtype=DOUBLE),
        "government": 0.1
        + 0.8 * torch.rand((market.worlds, 1, 1), generator=generator, dtype=DOUBLE),
    }


@pytest.mark.parametrize("progressivity", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("n", [1, 5, 529])
def test_resources_add_up(n: int, progressivity: float) -> None:
    """C + K' + G = Y + (1-delta) K, incomes sum to output, and the revenue is tau Y.

    The last whatever the schedule's shape.
    """
    market = built(households=n, progressivity=progressivity)
    actions = drawn(market)
    state = market.state
    share, labour = actions["households"].unbind(-1)
    tau = actions["government"][..., 0]
    K = state["capital"].mean(-1, keepdim=True)
    y = market.incomes(state, labour)
    Y = torch.exp(state["log_productivity"]) * K**0.36 * labour.mean(-1, keepdim=True) ** 0.64
    torch.testing.assert_close(y.mean(-1, keepdim=True), Y, rtol=1e-13, atol=0)
    d = market.disposable(y, tau)
    torch.testing.assert_close((y - d).mean(-1, keepdim=True), tau * Y, rtol=1e-12, atol=1e-13)
    transition = market.transition(
        state, actions, market.draw_noise(torch.Generator().manual_seed(0))
    )
    spent = share * (d + 0.975 * state["capital"])
    total = (spent + transition.state["capital"]).mean(-1, keepdim=True) + tau * Y
    torch.testing.assert_close(total, Y + 0.975 * K, rtol=1e-12, atol=0)


def test_a_progressive_schedule_takes_more_from_the_rich_and_a_flat_one_the_same_share() -> None:
    y = torch.tensor([[1.0, 2.0, 4.0]], dtype=DOUBLE)
    tau = torch.tensor([[0.3]], dtype=DOUBLE)
    flat, steep = (built(progressivity=p).disposable(y, tau) / y for p in (0.0, 0.5))
    torch.testing.assert_close(flat, torch.full_like(y, 0.7))
    assert steep[0, 0] > steep[0, 1] > steep[0, 2]
    torch.testing.assert_close(steep[0, 0] / steep[0, 2], torch.tensor(2.0, dtype=DOUBLE))


def test_rewards_are_each_groups_own() -> None:
    """Households take the public good as given.

    The government's reward is their mean utility and the good's worth.
    """
    market = built()
    actions = drawn(market)
    state = market.state
    transition = market.transition(
        state, actions, market.draw_noise(torch.Generator().manual_seed(0))
    )
    share, labour = actions["households"].unbind(-1)
    y = market.incomes(state, labour)
    c = share * (market.disposable(y, actions["government"][..., 0]) + 0.975 * state["capital"])
    utility = torch.log(c) + 5 * torch.log(1 - labour)
    torch.testing.assert_close(transition.rewards["households"], utility, rtol=1e-12, atol=1e-12)
    G = actions["government"][:, 0] * y.mean(-1, keepdim=True)
    expected = utility.mean(-1, keepdim=True) + 0.1 * torch.log(G)
    torch.testing.assert_close(transition.rewards["government"], expected, rtol=1e-12, atol=1e-12)
    assert transition.rewards["government"].shape == (4, 1)


def test_at_equal_capital_a_households_income_is_not_moved_by_its_effect_on_prices() -> None:
    """Euler's theorem: w_L l + r_L k = 0.

    A flat tax so keeps the planner's logic of identical households.
    """
    market = built(worlds=1, progressivity=0.0)
    state = market.state | {"capital": torch.full((1, 5), 1.3, dtype=DOUBLE)}
    labour = torch.full((1, 5), 0.2, dtype=DOUBLE, requires_grad=True)
    y = market.incomes(state, labour)
    (slope,) = torch.autograd.grad(y[0, 0], labour)
    assert slope[0, 1:].abs().max() < 1e-12
    wage = 0.64 * float(y.detach().mean()) / 0.2
    assert float(slope[0, 0]) == pytest.approx(wage, rel=1e-12)


def test_observations_hold_the_state_and_nothing_else() -> None:
    market = built(worlds=3)
    obs = market.observe(market.state)
    assert {g: x.shape for g, x in obs.items()} == {
        "households": (3, 5, 5),
        "government": (3, 1, 3),
    }
    k = market.state["capital"]
    np.testing.assert_allclose(
        obs["households"][..., 0].exp() * obs["households"][..., 1].mul(2).exp(), k
    )
    np.testing.assert_allclose(obs["government"][:, 0, 0], 0.5 * k.mean(-1).log())
    np.testing.assert_allclose(
        obs["government"][:, 0, 1], 10 * market.state["log_productivity"][:, 0]
    )
    np.testing.assert_allclose(obs["government"][:, 0, 2], k.log().std(-1, correction=0))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"theta": 0.0}, "greater than 0"),
        ({"progressivity": 1.0}, "less than 1"),
        ({"initial_capital": (2.0, 1.0)}, "initial_capital: expected low <= high"),
        ({"tax": 0.3}, "Extra inputs are not permitted"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FiscalParameters(**parameters)  # type: ignore[arg-type]
