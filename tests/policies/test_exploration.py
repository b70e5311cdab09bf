"""Selection rules of docs/exploration.md.

Known numbers, its propositions as properties, masks, and how actions are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import entr, softmax
from torch import Tensor

from rl_markets.policies.exploration import (
    RULES,
    boltzmann,
    bootstrapped,
    draw,
    entropy_budget,
    eps_greedy,
    eps_softmax,
    loss_budget,
    pick,
    range_softmax,
    rank,
    zscore_softmax,
)

KNOBS: dict[str, dict[str, float]] = {
    "eps_softmax": {"eps": 0.1, "beta": 2.0},
    "entropy_budget": {"h": 0.3},
    "loss_budget": {"d": 0.1},
    "rank": {"rho": 0.4},
    "range_softmax": {"k": 6.0},
    "zscore_softmax": {"b": 3.0},
    "bootstrapped": {},
    "eps_greedy": {"eps": 0.1},
    "boltzmann": {"tau": 1.0},
}
INVARIANT = [name for name, rule in RULES.items() if rule.invariant]


def apply(name: str, Q: Tensor, mask: Tensor | None = None) -> Tensor:
    """The rule by name; where it wants heads, four that scale with Q."""
    if RULES[name].heads:
        Q = torch.stack([Q, Q.roll(1, -1), Q.roll(2, -1), Q.roll(3, -1)])
    return RULES[name](Q, mask=mask, **KNOBS[name])


def values(rows: int = 2000, actions: int = 9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.exp(2 * torch.randn(rows, 1, generator=generator, dtype=torch.float64))
    return spread * torch.randn(rows, actions, generator=generator, dtype=torch.float64)


# -- known numbers ---------------------------------------------------------------------------------

SEED = np.array([-10.0, 4.0, 3.0])
GAPS = np.array([14.0, 0.0, 1.0]) / 5  # in units of their mean


def solved(measure: Callable[[np.ndarray], float], target: float) -> np.ndarray:
    """scipy's root, an independent solver."""
    log_beta = brentq(
        lambda x: measure(softmax(-math.exp(x) * GAPS)) - target, -10, 5, xtol=1e-15, rtol=1e-15
    )
    return np.asarray(softmax(-math.exp(log_beta) * GAPS))


EXPECTED = {
    "eps_softmax": 0.9 * np.array([0, 1, 0]) + 0.1 * softmax(-2 * GAPS),
    "entropy_budget": solved(lambda p: float(entr(p).sum()), 0.3 * math.log(3)),
    "loss_budget": solved(lambda p: float(p @ GAPS), 0.1),
    "rank": np.array([0.16, 1, 0.4]) / 1.56,
    "range_softmax": softmax([-6, 0, -6 / 14]),
    "zscore_softmax": softmax(3 * (SEED + 1) / math.sqrt((81 + 25 + 16) / 3)),
    "eps_greedy": np.array([0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3]),
    "boltzmann": np.array([6.078958339403138e-07, 0.7310581342225405, 0.2689412578816255]),
}
ROUNDED = {
    "eps_softmax": [2.2e-4, 0.9597, 0.0400],
    "entropy_budget": [5e-14, 0.898, 0.102],
    "loss_budget": [0.006, 0.577, 0.417],
    "rank": [0.103, 0.641, 0.256],
    "range_softmax": [0.0015, 0.605, 0.394],
    "zscore_softmax": [0.0008, 0.615, 0.384],
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("scale", [1, 2])
def test_known_vectors(name: str, scale: int) -> None:
    expected = EXPECTED[name]
    if name == "boltzmann" and scale == 2:
        expected = np.array([6.090183410159188e-13, 0.8807970779773459, 0.11920292202204497])
    probabilities = apply(name, torch.tensor(scale * SEED)).numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-12)
    if name in ROUNDED:
        np.testing.assert_allclose(probabilities, ROUNDED[name], rtol=0, atol=5.1e-4)


def test_seed_vector_of_the_heads() -> None:
    heads = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 2.0]])
    torch.testing.assert_close(bootstrapped(heads), torch.tensor([0.5, 0.25, 0.25]))
    many = bootstrapped(heads[:, None].expand(2, 4000, 3), torch.Generator().manual_seed(0))
    assert {tuple(row) for row in many.tolist()} == {(1.0, 0.0, 0.0), (0.0, 0.5, 0.5)}
    torch.testing.assert_close(many.mean(0), bootstrapped(heads), atol=0.03, rtol=0)


def test_budgets_are_met() -> None:
    Q = values()
    p = entropy_budget(Q, 0.37)
    torch.testing.assert_close(
        torch.special.entr(p).sum(-1) / math.log(9), torch.full((2000,), 0.37).double()
    )
    gaps = Q.amax(-1, keepdim=True) - Q
    for d in (1e-3, 0.1, 0.9):
        torch.testing.assert_close((loss_budget(Q, d) * gaps).sum(-1), d * gaps.mean(-1))


def test_more_ties_than_the_entropy_allows_share_equally() -> None:
    p = entropy_budget(torch.tensor([3.0, 3.0, 3.0, 1.0]), 0.1)
    torch.testing.assert_close(p, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]))


# -- proposition 1: invariance ---------------------------------------------------------------------


def moved(name: str, Q: Tensor) -> float:
    """The largest change of a probability over c = 1e-6 ... 1e6 and offsets of up to 100 ranges."""
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    base = apply(name, Q)
    width = Q.amax(-1, keepdim=True) - Q.amin(-1, keepdim=True)
    for exponent in range(-6, 7):
        c = 10.0**exponent
        offset = (200 * torch.rand(len(Q), 1, generator=generator, dtype=Q.dtype) - 100) * width * c
        worst = max(worst, float((apply(name, c * Q + offset) - base).abs().max()))
    return worst


@pytest.mark.parametrize("name", INVARIANT)
def test_invariance(name: str) -> None:
    assert moved(name, values()) <= 1e-9


def test_boltzmann_fails_invariance() -> None:
    """The negative control: the test of invariance can fail."""
    assert moved("boltzmann", values()) > 0.5
    shift_only = boltzmann(values() + 7.0)
    torch.testing.assert_close(shift_only, boltzmann(values()))


@pytest.mark.parametrize("name", INVARIANT)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=12),
    st.integers(-20, 20),
    st.integers(-(2**20), 2**20),
)
def test_invariance_is_exact_where_the_arithmetic_is(
    name: str, q: list[int], power: int, offset: int
) -> None:
    """Powers of two and integer offsets round nothing: the probabilities are the same bits."""
    Q = torch.tensor(q, dtype=torch.float64)
    assert torch.equal(apply(name, (Q + offset) * 2.0**power), apply(name, Q))


@pytest.mark.parametrize("name", INVARIANT)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=12),
    st.floats(1e-6, 1e6),
    st.floats(-100, 100),
)
def test_invariance_of_any_values(name: str, q: list[int], c: float, offset: float) -> None:
    """Ties are kept apart.

    c Q + b may round them asunder, which is a change of Q and not of its scale.
    """
    Q = torch.tensor(q, dtype=torch.float64)
    assume(len(set(q)) == len(q))
    width = Q.amax() - Q.amin()
    torch.testing.assert_close(
        apply(name, c * Q + c * offset * width), apply(name, Q), atol=1e-9, rtol=0
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=9))
def test_ranks_do_not_change_under_any_increasing_map(q: list[int]) -> None:
    Q = torch.tensor(q, dtype=torch.float64)
    assert torch.equal(rank(Q), rank(Q**3)), "odd powers increase"
    assert torch.equal(rank(Q), rank(torch.exp(Q / 9)))


@pytest.mark.parametrize(
    "name", ["eps_softmax", "entropy_budget", "loss_budget", "rank", "range_softmax"]
)
def test_float32_is_float64_rounded(name: str) -> None:
    Q = values().float()
    probabilities = apply(name, Q)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.double(), apply(name, Q.double()), atol=2e-5, rtol=0)


# -- order, cost, ties -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in KNOBS if name != "bootstrapped"])
def test_order_is_never_violated(name: str) -> None:
    Q = values()
    p = apply(name, Q).gather(-1, Q.argsort(-1, descending=True))
    assert float(p.diff(dim=-1).max()) <= 1e-12
    torch.testing.assert_close(p.sum(-1), torch.ones(2000, dtype=torch.float64))


def losses(p: Tensor, Q: Tensor) -> Tensor:
    return (p * (Q.amax(-1, keepdim=True) - Q)).sum(-1)


def test_eps_softmax_never_costs_more_than_eps_greedy() -> None:
    """Proposition 2. The mean and the maximum are those that the documentation gives."""
    Q = values()
    ratio = losses(eps_softmax(Q, 0.1, 2.0), Q) / losses(eps_greedy(Q, 0.1), Q)
    assert float(ratio.max()) <= 0.55
    assert float(ratio.mean()) == pytest.approx(0.374, abs=0.002)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=10),
    st.floats(0, 1),
    st.floats(0, 20),
    st.floats(0, 1e3),
)
def test_proposition_2_for_any_values(
    q: list[float], eps: float, beta: float, floor: float
) -> None:
    Q = torch.tensor(q, dtype=torch.float64)
    ours = losses(eps_softmax(Q, eps, beta, floor), Q)
    theirs = losses(eps_greedy(Q, eps), Q)
    assert float(ours) <= float(theirs) * (1 + 1e-12)


def test_eps_softmax_without_beta_is_eps_greedy() -> None:
    torch.testing.assert_close(eps_softmax(values(), 0.3, 0.0), eps_greedy(values(), 0.3))


@pytest.mark.parametrize("name", KNOBS)
@pytest.mark.parametrize("level", [0.0, -7.3, 1e-300, 1e300])
def test_equal_values_are_uniform(name: str, level: float) -> None:
    probabilities = apply(name, torch.full((3, 5), level, dtype=torch.float64))
    np.testing.assert_allclose(probabilities.numpy(), 0.2, rtol=1e-12)


def test_a_near_tie_is_ranked_as_firmly_as_a_real_gap_but_for_the_floor() -> None:
    """Proposition 3, and its remedy."""
    Q = torch.tensor([1.0, 1 + 1e-9, 1.0], dtype=torch.float64)
    assert float(eps_softmax(Q, 0.1, 2.0)[1]) > 0.9
    explores = (eps_softmax(Q, 0.9, 2.0, floor=1e-3) - 0.1 * torch.tensor([0, 1, 0])) / 0.9
    torch.testing.assert_close(
        explores, torch.full((3,), 1 / 3, dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_the_floor_scales_with_the_values_and_may_differ_by_row() -> None:
    Q = values(6)
    floor = torch.tensor([0.0, 0.1, 1, 2, 5, 100], dtype=torch.float64)[:, None]
    torch.testing.assert_close(eps_softmax(1e3 * Q, floor=1e3 * floor), eps_softmax(Q, floor=floor))
    torch.testing.assert_close(eps_softmax(Q, floor=floor)[0], eps_softmax(Q[0]))
    torch.testing.assert_close(eps_softmax(Q, floor=floor)[4], eps_softmax(Q[4], floor=5.0))


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in KNOBS if name != "bootstrapped"])
@pytest.mark.parametrize("fill", [0.0, 1e9, math.inf, -math.inf, math.nan])
def test_a_mask_is_as_if_the_action_were_not_there(name: str, fill: float) -> None:
    Q = values(200)
    keep = torch.tensor([True, False, True, True, False, True, False, True, True])
    masked = apply(name, Q.masked_fill(~keep, fill), keep)
    assert torch.equal(masked[:, ~keep], torch.zeros(200, 3, dtype=torch.float64))
    torch.testing.assert_close(masked[:, keep], apply(name, Q[:, keep]))


@pytest.mark.parametrize("name", KNOBS)
def test_one_allowed_action_is_taken(name: str) -> None:
    mask = torch.eye(9, dtype=torch.bool)
    assert torch.equal(apply(name, values(9), mask), mask.double())


def test_masked_heads() -> None:
    heads = torch.tensor([[3.0, 2.0, 1.0], [3.0, 1.0, 1.0]])
    torch.testing.assert_close(
        bootstrapped(heads, mask=torch.tensor([False, True, True])), torch.tensor([0, 0.75, 0.25])
    )


def test_leading_axes() -> None:
    Q = values(24).view(2, 3, 4, 9)
    mask = torch.rand(4, 9, generator=torch.Generator().manual_seed(0)) < 0.6
    mask[:, 0] = True
    for name in KNOBS:
        probabilities = apply(name, Q, mask)
        assert probabilities.shape == Q.shape
        torch.testing.assert_close(probabilities[1, 2], apply(name, Q[1, 2], mask))


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        (eps_softmax, {"eps": 1.1}),
        (eps_softmax, {"eps": math.nan}),
        (eps_softmax, {"beta": -1.0}),
        (eps_softmax, {"floor": -1.0}),
        (entropy_budget, {"h": 0.0}),
        (entropy_budget, {"h": 1.0}),
        (loss_budget, {"d": 1.0}),
        (rank, {"rho": 0.0}),
        (range_softmax, {"k": -1.0}),
        (zscore_softmax, {"b": math.inf}),
        (eps_greedy, {"eps": -0.1}),
        (boltzmann, {"tau": 0.0}),
    ],
)
def test_knobs_out_of_range(rule: Callable[..., Tensor], parameters: dict[str, float]) -> None:
    message = f"{rule.__name__}: {next(iter(parameters))} is .*, expected"
    with pytest.raises(ValueError, match=message) as error:
        rule(values(2), **parameters)
    assert "\n" not in str(error.value)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="a row allows no action"):
        eps_greedy(values(2), mask=torch.tensor([[True] * 9, [False] * 9]))
    with pytest.raises(ValueError, match=r"expected torch\.bool"):
        eps_greedy(values(2), mask=torch.ones(2, 9))
    with pytest.raises(ValueError, match="expected a floating dtype"):
        eps_greedy(torch.arange(3))
    with pytest.raises(ValueError, match="rank has no parameter tau; its parameters: rho"):
        RULES["rank"](values(2), tau=1.0)


# -- drawing ---------------------------------------------------------------------------------------


def test_draws_have_the_probabilities() -> None:
    p = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    choices = draw(p.expand(100, 1000, 6), torch.Generator().manual_seed(0))
    assert choices.shape == (100, 1000)
    share = torch.bincount(choices.flatten(), minlength=6) / 1e5
    torch.testing.assert_close(share, p, atol=0.006, rtol=0)
    assert not share[p == 0].any()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-45, 1e-30, 1e-7, 0.1, 1.0]), min_size=1, max_size=9),
    st.data(),
)
def test_an_action_of_probability_zero_is_never_drawn(p: list[float], data: st.DataObject) -> None:
    """At both ends of the uniform number too, and where the probabilities do not sum to 1."""
    assume(max(p) > 0)
    for dtype in (torch.float32, torch.float64):
        weights = torch.tensor(p, dtype=dtype)
        for u in (0.0, 1 - 2.0**-53, 1 - 2.0**-24, 1.0, data.draw(st.floats(0, 1))):
            assert float(weights[pick(weights, torch.tensor(u, dtype=torch.float64))]) > 0


def test_draws_repeat() -> None:
    p = apply("rank", values())
    first, again = (draw(p, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
