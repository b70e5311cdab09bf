"""Households who know that they move prices.

What their gradients see, and the rest point that certifies them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.households import SPEC as HOUSEHOLDS
from rl_markets.envs.households.answer import nash
from rl_markets.envs.households.answer.identical import HouseholdsAnswer
from rl_markets.envs.households.answer.nash import ACTION_LIMIT, NashAnswer
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import PolicyFunction

Array = NDArray[np.float64]

KAPPA = [0.98, 0.98, 0.98, 1.0, 1.0, 1.0, 1.02, 1.02, 1.02]
LAMBDA = [0.98, 1.0, 1.02]
NINE = HouseholdsParameters(
    households=9, conduct="strategic", capital_productivity=KAPPA, labour_productivity=LAMBDA
)


@pytest.fixture(scope="module")
def key() -> NashAnswer:
    answer = HOUSEHOLDS.answer_key(NINE)
    assert isinstance(answer, NashAnswer)
    return answer


def seated(share: Array, labour: Array) -> PolicyFunction:
    """Each household does always the same."""
    actions = torch.tensor(np.stack([share, labour], -1), dtype=torch.float32)
    return lambda obs: actions.expand(*obs.shape[:-1], 2)


def exact(key: NashAnswer) -> PolicyFunction:
    return seated(key.rest.chat, key.rest.l)


def equal(key: NashAnswer) -> PolicyFunction:
    """Everybody does what the answer's households do on average."""
    n = len(key.kappa)
    return seated(np.full(n, key.rest.chat.mean()), np.full(n, key.rest.l.mean()))


# -- the answer ------------------------------------------------------------------------------------


def test_the_rest_points_own_actions_have_no_error(key: NashAnswer) -> None:
    share, labour = key.action_errors(exact(key))
    assert share.shape == labour.shape == (9,)
    assert max(share.max(), labour.max()) < 1e-4
    assert key.distance({"households": exact(key)}) < 1e-4


def test_errors_are_those_of_each_household(key: NashAnswer) -> None:
    off = key.rest.chat * np.where(np.arange(9) == 4, 1.1, 1.0)
    share, labour = key.action_errors(seated(off, key.rest.l * 0.97))
    assert share == pytest.approx([0, 0, 0, 0, 10, 0, 0, 0, 0], abs=1e-3)
    assert labour == pytest.approx(np.full(9, 3.0), abs=1e-3)
    assert key.distance({"households": seated(off, key.rest.l * 0.97)}) == pytest.approx(
        3.0, abs=1e-3
    )


def test_one_policy_that_treats_everybody_alike_fails(key: NashAnswer) -> None:
    assert key.distance({"households": equal(key)}) > ACTION_LIMIT


@pytest.mark.usefixtures("_short")
def test_who_plays_the_rest_point_comes_to_rest_there_and_is_certified(key: NashAnswer) -> None:
    """From capital spread by 20 %; the policy that treats everybody alike does not, and is not."""
    both = {"households": exact(key)}, {"households": equal(key)}
    for ours, other, passes in ((*both, True), (*both[::-1], False)):
        metrics = {m.name: m for m in key.assess(ours, other, [0, 1]).metrics}
        for name in (
            "capital_shares",
            "policy_error/consumption_share",
            "policy_error/labour",
            "capital_error",
        ):
            assert metrics[name].passed is passes, (name, metrics[name].value)
        assert metrics["labour_shares"].value < 0.01 or not passes
    capital, labour, k = key.shares(key.settle(exact(key), 3))
    assert capital == pytest.approx(key.rest.capital_shares, abs=1e-4)
    assert labour == pytest.approx(key.rest.labour_shares, abs=1e-6)
    assert k == pytest.approx(key.rest.k.mean(), rel=1e-4)


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nash, "PERIODS", 800)


def test_the_learned_economy_is_calm_and_starts_where_it_says(key: NashAnswer) -> None:
    market = key._market(2)
    before = market.state["capital"].clone()
    assert market.kappa.tolist() == pytest.approx(key.kappa.tolist())
    assert market.lambda_.tolist() == pytest.approx(key.lambda_.tolist())
    for _ in range(50):
        market.step({"households": exact(key)(market.observe(market.state)["households"])})
    torch.testing.assert_close(market.state["capital"], before, rtol=1e-4, atol=0)
    assert not market.state["log_productivity"].any()


IDENTICAL = {"households": 20, "capital_productivity": [1.1], "labour_productivity": [0.9, 0.9]}
TYPES = {"capital_productivity": [0.98, 1.0, 1.02]}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"households": 9, "conduct": "strategic", "labour_productivity": LAMBDA}, NashAnswer),
        ({"households": 9, "conduct": "strategic", **TYPES}, NashAnswer),
        ({"households": 9, **TYPES}, None),
        ({"households": 9, "conduct": "cooperative", **TYPES}, None),
        ({"households": 3, "labour_productivity": LAMBDA}, None),
        ({"households": 528, "conduct": "strategic", **TYPES}, None),
        ({"households": 3, "conduct": "strategic", "capital_productivity": [0.5, 1.0, 1.5]}, None),
        ({"households": 2, "conduct": "strategic", "capital_productivity": [0.0, 1.0]}, None),
        ({**IDENTICAL, "conduct": "strategic"}, None),  # the planner is solved for units of one
        (IDENTICAL, None),
        ({"households": 20}, HouseholdsAnswer),
        ({"households": 1, "delta": 1.0}, HouseholdsAnswer),
    ],
)
def test_every_economy_has_the_answer_that_is_known_of_it(
    parameters: dict[str, Any], expected: type | None
) -> None:
    answer = HOUSEHOLDS.answer_key(HouseholdsParameters(**parameters))
    assert type(answer) is (expected or type(None))


# -- what gradients see ----------------------------------------------------------------------------


def wealth(p: HouseholdsParameters, k: Array, labour: Array, A: float, K: float, L: float) -> Array:
    """a_i = w_i l_i + (1 - delta + r_i) k_i at given aggregates, by the paper's equations."""
    kappa = np.asarray(p.capital_productivity)
    lam = np.asarray(p.labour_productivity)
    Y = A * K**p.alpha * L ** (1 - p.alpha)
    r = p.alpha * kappa * Y / K
    w = (1 - p.alpha) * lam * Y / L
    return np.asarray(w * labour + (1 - p.delta + r) * k)


SHARE = np.array([0.2, 0.35, 0.5])
UNEQUAL: dict[str, Any] = {
    "capital_productivity": [0.8, 1.0, 1.3],
    "labour_productivity": [0.7, 1.0, 1.1],
}


def check_gradient(gradient: Tensor, slope: float, conduct: str, own: bool) -> None:
    """A gradient is the slope; of others' choices it is exactly nothing, but in cooperation."""
    if conduct == "strategic" and not own:
        slope = 0.0
    assert float(gradient) == pytest.approx(slope, rel=1e-6, abs=1e-9)
    if not own:
        assert (gradient == 0) == (conduct != "cooperative"), "exactly nothing of the others'"


@pytest.mark.parametrize("conduct", ["price-taking", "strategic", "cooperative"])
def test_gradients_of_consumption_are_those_of_the_conduct(conduct: str) -> None:
    """Gradients are central differences in which what the conduct holds is held.

    Prices given; own effect on them, others given; everybody's effect on everybody.
    """
    p = HouseholdsParameters(households=3, conduct=conduct, initial_dispersion=0.5, **UNEQUAL)
    market = Households(p, worlds=1, dtype=torch.float64)
    state = market.initial_state(1, torch.Generator().manual_seed(2))
    k0 = state["capital"].numpy()[0].copy()
    labour0 = np.array([0.15, 0.25, 0.2])
    A = float(torch.exp(state["log_productivity"]))
    kappa = np.asarray(p.capital_productivity)
    lam = np.asarray(p.labour_productivity)

    def consumption(k: Array, labour: Array) -> Array:
        moving = conduct != "price-taking"
        K = (kappa * (k if moving else k0)).mean()
        L = (lam * (labour if moving else labour0)).mean()
        return SHARE * wealth(p, k, labour, A, float(K), float(L))

    k = state["capital"].clone().requires_grad_()
    labour = torch.tensor(labour0)[None].requires_grad_()
    actions = torch.stack([torch.tensor(SHARE)[None], labour], -1)
    noise = market.draw_noise(torch.Generator())
    transition = market.transition({**state, "capital": k}, {"households": actions}, noise)
    share = torch.tensor(SHARE)
    c = transition.state["capital"][0] * share / (1 - share)
    assert c.detach().numpy() == pytest.approx(consumption(k0, labour0), rel=1e-12)
    for i, j in np.ndindex(3, 3):
        gradients = torch.autograd.grad(c[i], (k, labour), retain_graph=True)
        nudge = 1e-6 * (np.arange(3) == j)
        by_capital = consumption(k0 + nudge, labour0) - consumption(k0 - nudge, labour0)
        by_labour = consumption(k0, labour0 + nudge) - consumption(k0, labour0 - nudge)
        for gradient, difference in zip(gradients, (by_capital, by_labour), strict=True):
            check_gradient(gradient[0, j], difference[i] / 2e-6, conduct, i == j)


@pytest.mark.parametrize("conduct", ["price-taking", "strategic", "cooperative"])
def test_observed_aggregates_carry_the_gradients_of_the_conduct(conduct: str) -> None:
    """log K / 2 moves by kappa_j / (2 n K) with k_j.

    For its owner only, for everybody, or for nobody.
    """
    p = HouseholdsParameters(households=3, conduct=conduct, capital_productivity=[0.8, 1.0, 1.3])
    market = Households(p, worlds=1, dtype=torch.float64)
    state = market.initial_state(1, torch.Generator().manual_seed(2))
    k = state["capital"].clone().requires_grad_()
    obs = market.observe({**state, "capital": k})["households"]
    kappa = np.array([0.8, 1.0, 1.3])
    total = kappa / (2 * 3 * float((market.kappa * state["capital"]).mean()))
    for i in range(3):
        (gradient,) = torch.autograd.grad(
            obs[0, i, 1], k, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        felt = {
            "price-taking": np.zeros(3),
            "strategic": np.arange(3) == i,
            "cooperative": np.ones(3),
        }[conduct]
        assert gradient[0].numpy() == pytest.approx(total * felt, rel=1e-12, abs=0)
    with torch.no_grad():
        again = market.observe(state)["households"]
        assert torch.equal(again, obs.detach()), "the values are the same"


def _marginal(key: NashAnswer, conduct: str) -> tuple[Array, Array]:
    """d a_i / d k_i and d a_i / d l_i of every household at the rest point.

    As the market's gradients have them.
    """
    p = key.parameters.model_copy(update={"conduct": conduct})
    market = Households(p, worlds=1, dtype=torch.float64)
    k, labour = (torch.tensor(x)[None].requires_grad_() for x in (key.rest.k, key.rest.l))
    share = torch.tensor(key.rest.chat)[None]
    state = {
        "capital": k,
        "labour": labour.detach(),
        "log_productivity": torch.zeros(1, 1, dtype=torch.float64),
    }
    actions = {"households": torch.stack([share, labour], -1)}
    transition = market.transition(state, actions, market.draw_noise(torch.Generator()))
    a = transition.state["capital"] / (1 - share)
    gradients = [torch.autograd.grad(a[0, i], (k, labour), retain_graph=True) for i in range(9)]
    by_k, by_l = (
        np.array([float(g[which][0, i]) for i, g in enumerate(gradients)]) for which in range(2)
    )
    return by_k, by_l


def test_first_order_conditions_hold_at_the_answer_by_the_markets_own_gradients(
    key: NashAnswer,
) -> None:
    """Euler: beta da/dk = 1; leisure: (da/dl) / c = b / (1 - l).

    For strategic households, not for price takers.
    """
    p = key.parameters
    rest = key.rest
    by_k, by_l = _marginal(key, "strategic")
    assert p.beta * by_k == pytest.approx(np.ones(9), abs=1e-9)
    assert by_l / rest.c == pytest.approx(p.b / (1 - rest.l), rel=1e-9)
    by_k, by_l = _marginal(key, "price-taking")
    assert np.abs(p.beta * by_k - 1).max() > 1e-3
    assert np.abs(by_l / rest.c / (p.b / (1 - rest.l)) - 1).max() > 1e-3


def test_learning_from_samples_sees_no_difference_of_conduct() -> None:
    """Without gradients all three are one economy."""
    paths = []
    for conduct in ("price-taking", "strategic", "cooperative"):
        market = Households(NINE.model_copy(update={"conduct": conduct}), worlds=3)
        with torch.no_grad():
            tensors = [market.reset(5)["households"]]
            for t in range(10):
                generator = torch.Generator().manual_seed(t)
                actions: Tensor = 0.05 + 0.5 * torch.rand((3, 9, 2), generator=generator)
                step = market.step({"households": actions})
                tensors += [step.observations["households"], step.rewards["households"]]
        paths.append(tensors)
    for other in paths[1:]:
        assert all(torch.equal(a, b) for a, b in zip(paths[0], other, strict=True))
