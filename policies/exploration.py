"""Selection rules for learners of action values: from Q `[..., A]` to probabilities of the actions.

The rules see Q only by its gaps g_a = max Q - Q_a in units of a scale that Q itself sets. So they
are the same for Q and c Q + b, c > 0: in yen or in dollars, with or without a fixed cost.
`eps_greedy` and `boltzmann` are the controls. `docs/exploration.md` has the propositions and their
proofs.

Every rule takes an optional `mask`, bool and broadcastable to Q: False forbids an action, whose
probability is then exactly 0; whatever Q holds there (an infinity, a NaN) is not read. Gaps, means,
ranks and counts are over the allowed actions. Greedy actions that tie share equally, and where all
values are equal the rule is uniform, `eps_greedy` too. Any device and floating dtype; a mask costs
one synchronisation of the device, to refuse a row without actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_markets.policies.gaps import (
    allowed_actions,
    gaps_to_best,
    greedy,
    mean_over,
    ratio,
    softmax_over,
    uniform_over,
)

BISECTIONS = 12
NEWTON_STEPS = 4
"""Halvings of the bracket of log beta, then Newton steps from there.

They reach a width of .01, and the rounding of a float64. Their number is fixed: a row's result does
not depend on the rows beside it, and no device has to be asked.
"""

LOG_BETA_LOW = math.log(1e-8)
LOG_BETA_HIGH = math.log(1e12)
"""Bracket of the inverse temperature, in units of the mean gap.

A near-tie of 1e-10 mean gaps is still resolved.
"""


def _check(ok: bool, rule: str, parameter: str, value: float, expected: str) -> None:
    if not ok:
        raise ValueError(f"{rule}: {parameter} is {value}, expected {expected}")


# -- rules that do not depend on the scale ---------------------------------------------------------


def eps_softmax(
    Q: Tensor,
    eps: float = 0.1,
    beta: float = 2.0,
    floor: float | Tensor = 0.0,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    """R1, the default: greedy, and with probability eps a draw from softmax(-beta g / mean g).

    It never costs more than `eps_greedy` of the same eps. beta = 0 is `eps_greedy`.

    Args:
        Q: action values, `[..., A]`.
        eps: share of exploring draws, in [0, 1].
        beta: how fast the probability of an exploring draw falls with the gap, >= 0; 1 to 4 are
            usual.
        floor: least scale of the gaps, in Q's units, broadcastable to `[..., 1]`: a few times a
            running scale of the TD errors keeps near-ties from being ranked as firmly as real gaps,
            and is invariant as it scales with Q.
        mask: see the module.

    Returns:
        Probabilities `[..., A]`.

    Raises:
        ValueError: for a parameter out of range.
    """
    _check(0 <= eps <= 1, "eps_softmax", "eps", eps, "a number in [0, 1]")
    _check(0 <= beta < math.inf, "eps_softmax", "beta", beta, "a finite number >= 0")
    if not isinstance(floor, Tensor):
        _check(0 <= floor < math.inf, "eps_softmax", "floor", floor, "a finite number >= 0")
    allowed = allowed_actions(Q, mask)
    gaps = gaps_to_best(Q, allowed)
    floor = torch.as_tensor(floor, dtype=Q.dtype, device=Q.device)
    scale = torch.maximum(mean_over(allowed, gaps), floor)
    exploit = greedy(gaps, allowed)
    explore = softmax_over(allowed, -beta * ratio(gaps, scale))
    return (1 - eps) * exploit + eps * explore


def entropy_budget(Q: Tensor, h: float = 0.3, *, mask: Tensor | None = None) -> Tensor:
    """R2: the best expected value among distributions with an entropy of at least h log A.

    That is a softmax of solved temperature. Where so many greedy actions tie that they alone have
    that entropy, they share equally.

    Args:
        Q: action values, `[..., A]`; solved in float64 whatever their dtype.
        h: share of the greatest entropy, in (0, 1).
        mask: see the module.

    Raises:
        ValueError: for h out of range.
    """
    _check(0 < h < 1, "entropy_budget", "h", h, "a number in (0, 1)")
    allowed = allowed_actions(Q, mask)
    target = h * torch.log(allowed.sum(-1, keepdim=True).double())
    return _solved_softmax(Q, allowed, _entropy, 2, target)


def loss_budget(Q: Tensor, d: float = 0.1, *, mask: Tensor | None = None) -> Tensor:
    """R3: a softmax whose expected gap is d times the mean gap.

    Exploring may cost d of what uniform draws cost.

    Args:
        Q: action values, `[..., A]`; solved in float64 whatever their dtype.
        d: the budget, in (0, 1).
        mask: see the module.

    Raises:
        ValueError: for d out of range.
    """
    _check(0 < d < 1, "loss_budget", "d", d, "a number in (0, 1)")
    allowed = allowed_actions(Q, mask)
    target = torch.full_like(Q[..., :1], d, dtype=torch.float64)
    return _solved_softmax(Q, allowed, _expected, 1, target)


def _entropy(p: Tensor, _: Tensor) -> Tensor:
    nats: Tensor = torch.special.entr(p).sum(-1, keepdim=True)
    return nats


def _expected(p: Tensor, x: Tensor) -> Tensor:
    return (p * x).sum(-1, keepdim=True)


def _solved_softmax(
    Q: Tensor,
    allowed: Tensor,
    measure: Callable[[Tensor, Tensor], Tensor],
    power: int,
    target: Tensor,
) -> Tensor:
    """softmax(-beta g / mean g) whose measure, of p and the scaled gaps, is the target.

    The measure falls in beta, strictly unless Q is constant; its slope in log beta is
    -beta^power Var g.
    """
    gaps = gaps_to_best(Q.double(), allowed)
    gaps = ratio(gaps, mean_over(allowed, gaps))

    # bisection: Newton alone may run away where the measure is flat
    low = torch.full_like(target, LOG_BETA_LOW)
    high = torch.full_like(target, LOG_BETA_HIGH)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        beta_too_low = measure(softmax_over(allowed, -middle.exp() * gaps), gaps) > target
        low = torch.where(beta_too_low, middle, low)
        high = torch.where(beta_too_low, high, middle)

    # Newton's steps, kept inside the bracket
    log_beta = (low + high) / 2
    for _ in range(NEWTON_STEPS):
        beta = log_beta.exp()
        p = softmax_over(allowed, -beta * gaps)
        slope = -(beta**power) * _expected(p, (gaps - _expected(p, gaps)).square())
        # no slope: all values are equal, or p is greedy but for rounding
        missing = target - measure(p, gaps)
        step = torch.where(slope < 0, missing / slope, torch.zeros_like(log_beta))
        log_beta = torch.minimum(torch.maximum(log_beta + step, low), high)
    return softmax_over(allowed, -log_beta.exp() * gaps).to(Q.dtype)


def rank(Q: Tensor, rho: float = 0.4, *, mask: Tensor | None = None) -> Tensor:
    """R4: probabilities in proportion to rho^rank; the best action has rank 0, ties their mean.

    The same under any increasing map of Q, not only linear ones.

    Args:
        Q: action values, `[..., A]`; takes memory in A^2.
        rho: in (0, 1); small is greedy.
        mask: see the module.

    Raises:
        ValueError: for rho out of range.
    """
    _check(0 < rho < 1, "rank", "rho", rho, "a number in (0, 1)")
    allowed = allowed_actions(Q, mask)
    own = Q.unsqueeze(-1)
    rival = Q.unsqueeze(-2)
    rival_allowed = allowed.unsqueeze(-2)
    better = ((rival > own) & rival_allowed).sum(-1)
    # an action ties with itself, too
    equal = ((rival == own) & rival_allowed).sum(-1)
    ranks = better.to(Q.dtype) + (equal - 1).to(Q.dtype) / 2
    return softmax_over(allowed, math.log(rho) * ranks)


def range_softmax(Q: Tensor, k: float = 6.0, *, mask: Tensor | None = None) -> Tensor:
    """R5: softmax(-k g / max g). One very bad action makes all others look alike.

    Args:
        Q: action values, `[..., A]`.
        k: >= 0; the worst action has e^-k times the best one's probability.
        mask: see the module.

    Raises:
        ValueError: for k out of range.
    """
    _check(0 <= k < math.inf, "range_softmax", "k", k, "a finite number >= 0")
    allowed = allowed_actions(Q, mask)
    gaps = gaps_to_best(Q, allowed)
    largest = gaps.amax(-1, keepdim=True)
    return softmax_over(allowed, -k * ratio(gaps, largest))


def zscore_softmax(Q: Tensor, b: float = 3.0, *, mask: Tensor | None = None) -> Tensor:
    """R5: softmax(b (Q - mean) / standard deviation), the deviation being that of the population.

    Args:
        Q: action values, `[..., A]`.
        b: >= 0.
        mask: see the module.

    Raises:
        ValueError: for b out of range.
    """
    _check(0 <= b < math.inf, "zscore_softmax", "b", b, "a finite number >= 0")
    allowed = allowed_actions(Q, mask)
    gaps = gaps_to_best(Q, allowed)
    # in units of the largest: else the squares of small values would underflow
    gaps = ratio(gaps, gaps.amax(-1, keepdim=True))
    centred = (mean_over(allowed, gaps) - gaps).masked_fill(~allowed, 0.0)
    std = mean_over(allowed, centred.square()).sqrt()
    return softmax_over(allowed, b * ratio(centred, std))


def bootstrapped(
    values: Tensor, generator: torch.Generator | None = None, *, mask: Tensor | None = None
) -> Tensor:
    """R6: the greedy action of a random head, drawn anew for every row (Osband et al. 2016).

    Invariant if all heads scale together.

    Args:
        values: the heads' action values, `[heads, ..., A]`.
        generator: draws the heads; None averages over them, which gives the same actions in
            distribution.
        mask: see the module, broadcastable to `[..., A]`.

    Returns:
        Probabilities `[..., A]`.
    """
    allowed = allowed_actions(values, mask)
    by_head = greedy(gaps_to_best(values, allowed), allowed)
    if generator is None:
        return by_head.mean(0)
    rows = by_head.shape[1:-1]
    head = torch.randint(len(values), (1, *rows, 1), generator=generator, device=values.device)
    return by_head.gather(0, head.expand(1, *by_head.shape[1:])).squeeze(0)


# -- controls --------------------------------------------------------------------------------------


def eps_greedy(Q: Tensor, eps: float = 0.1, *, mask: Tensor | None = None) -> Tensor:
    """Greedy, and with probability eps a uniform draw from all allowed actions, the greedy one too.

    Does not depend on the scale, nor on anything else that Q says of the other actions.

    Args:
        Q: action values, `[..., A]`.
        eps: in [0, 1].
        mask: see the module.

    Raises:
        ValueError: for eps out of range.
    """
    _check(0 <= eps <= 1, "eps_greedy", "eps", eps, "a number in [0, 1]")
    allowed = allowed_actions(Q, mask)
    exploit = greedy(gaps_to_best(Q, allowed), allowed)
    return (1 - eps) * exploit + eps * uniform_over(allowed, Q.dtype)


def boltzmann(Q: Tensor, tau: float = 1.0, *, mask: Tensor | None = None) -> Tensor:
    """softmax(Q / tau): depends on the scale, as tau is in Q's units.

    Args:
        Q: action values, `[..., A]`.
        tau: temperature, > 0.
        mask: see the module.

    Raises:
        ValueError: for tau out of range.
    """
    _check(0 < tau < math.inf, "boltzmann", "tau", tau, "a finite number > 0")
    allowed = allowed_actions(Q, mask)
    return softmax_over(allowed, -gaps_to_best(Q, allowed) / tau)


# -- by name ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A selection rule by name.

    Attributes:
        function: Q and the parameters, as keywords, to probabilities.
        parameters: names of the parameters.
        invariant: whether c Q + b, c > 0, gives the same probabilities.
        heads: whether Q is `[heads, ..., A]`.
    """

    function: Callable[..., Tensor]
    parameters: tuple[str, ...]
    invariant: bool = True
    heads: bool = False

    def __call__(self, Q: Tensor, *, mask: Tensor | None = None, **parameters: Any) -> Tensor:
        """Probabilities `[..., A]`.

        Raises:
            ValueError: for a parameter that the rule lacks, or out of range.
        """
        unknown = sorted(set(parameters) - set(self.parameters))
        if unknown:
            known = ", ".join(self.parameters) or "none"
            name = self.function.__name__
            raise ValueError(
                f"{name} has no parameter {', '.join(unknown)}; its parameters: {known}"
            )
        return self.function(Q, mask=mask, **parameters)


RULES: dict[str, Rule] = {
    "eps_softmax": Rule(eps_softmax, ("eps", "beta", "floor")),
    "entropy_budget": Rule(entropy_budget, ("h",)),
    "loss_budget": Rule(loss_budget, ("d",)),
    "rank": Rule(rank, ("rho",)),
    "range_softmax": Rule(range_softmax, ("k",)),
    "zscore_softmax": Rule(zscore_softmax, ("b",)),
    "bootstrapped": Rule(bootstrapped, ("generator",), heads=True),
    "eps_greedy": Rule(eps_greedy, ("eps",)),
    "boltzmann": Rule(boltzmann, ("tau",), invariant=False),
}
"""The rules by name."""


def draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """One action a row, by one uniform number a row.

    Args:
        probabilities: `[..., A]`.
        generator: on the same device.

    Returns:
        Indices `[...]`, int64.
    """
    rows = probabilities.shape[:-1]
    device = probabilities.device
    uniform = torch.rand(rows, generator=generator, dtype=torch.float64, device=device)
    return pick(probabilities, uniform)


def pick(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The actions at which the cumulated probabilities pass `uniform`; never one of probability 0.

    Args:
        probabilities: `[..., A]`, with a positive sum; need not sum to 1 exactly.
        uniform: `[...]` in [0, 1], its ends included.

    Returns:
        Indices `[...]`, int64.
    """
    cumulated = probabilities.double().cumsum(-1)
    total = cumulated[..., -1:]
    action = (cumulated <= uniform.double().unsqueeze(-1) * total).sum(-1)
    # no further than the last action that counts: `uniform` times the total may round up to it
    last = (cumulated < total).sum(-1)
    return torch.minimum(action, last)
