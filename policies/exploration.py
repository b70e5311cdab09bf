"""Selection rules for learners of action values: from Q `[..., A]` to the probabilities of the A
actions.

The rules see Q only by its gaps g_a = max Q - Q_a in units of a scale that Q itself sets. So they
are the same for Q and c Q + b, c > 0: in yen or in dollars, with or without a fixed cost.
`eps_greedy` and `boltzmann` are the controls. `docs/exploration.md` has the propositions and their
proofs.

Every rule takes an optional `mask`, bool and broadcastable to Q: False forbids an action, whose
    probability is then
exactly 0; whatever Q holds there (an infinity, a NaN) is not read. Gaps, means, ranks and counts
are over the allowed actions. Greedy actions that tie share equally, and where all values are equal
the rule is uniform, `eps_greedy` too. Any device and floating dtype; a mask costs one
synchronisation of the device, to refuse a row without actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BISECTIONS = 12
NEWTON_STEPS = 4
"""Halvings of the bracket of log beta, to a width of .01, and Newton steps from there to the
rounding of a float64.
Their number is fixed: a row's result does not depend on the rows beside it, and no device has to be
    asked."""

LOG_BETA_LOW = math.log(1e-8)
LOG_BETA_HIGH = math.log(1e12)
"""Bracket of the inverse temperature in units of the mean gap; a near-tie of 1e-10 mean gaps is
still resolved."""


def _check(ok: bool, rule: str, parameter: str, value: float, expected: str) -> None:
    if not ok:
        raise ValueError(f"{rule}: {parameter} is {value}, expected {expected}")


def _allowed(Q: Tensor, mask: Tensor | None) -> Tensor:
    """The mask at Q's shape, bool.

    Raises:
        ValueError: if Q is not floating, the mask is not bool, or a row allows no action.
    """
    if not Q.is_floating_point():
        raise ValueError(f"Q is {Q.dtype}, expected a floating dtype")
    if mask is None:
        return torch.ones_like(Q, dtype=torch.bool)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}, expected torch.bool")
    mask = mask.expand_as(Q)
    if not bool(mask.any(-1).all()):
        raise ValueError("mask: a row allows no action")
    return mask


def _gaps(Q: Tensor, allowed: Tensor) -> Tensor:
    """max Q - Q over the allowed actions, 0 elsewhere, `[..., A]`."""
    best = Q.masked_fill(~allowed, -math.inf).amax(-1, keepdim=True)
    return (best - Q).masked_fill(~allowed, 0.0)


def _over(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale, and 0 where the scale is 0: there all values are equal."""
    return torch.where(scale > 0, x / scale, torch.zeros_like(x))


def _mean(x: Tensor, allowed: Tensor) -> Tensor:
    """Mean over the allowed actions of an x that is 0 elsewhere, `[..., 1]`."""
    return x.sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True)


def _greedy(gaps: Tensor, allowed: Tensor) -> Tensor:
    best = ((gaps == 0) & allowed).to(gaps.dtype)
    return best / best.sum(-1, keepdim=True)


def _softmax(x: Tensor, allowed: Tensor) -> Tensor:
    return torch.softmax(x.masked_fill(~allowed, -math.inf), -1)


def _uniform(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    share = allowed.to(dtype)
    return share / share.sum(-1, keepdim=True)


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
    allowed = _allowed(Q, mask)
    gaps = _gaps(Q, allowed)
    scale = torch.maximum(
        _mean(gaps, allowed), torch.as_tensor(floor, dtype=Q.dtype, device=Q.device)
    )
    return (1 - eps) * _greedy(gaps, allowed) + eps * _softmax(-beta * _over(gaps, scale), allowed)


def entropy_budget(Q: Tensor, h: float = 0.3, *, mask: Tensor | None = None) -> Tensor:
    """R2: the best expected value among distributions with an entropy of at least h log A; a
    softmax of solved temperature.

    Where so many greedy actions tie that they alone have that entropy, they share equally.

    Args:
        Q: action values, `[..., A]`; solved in float64 whatever their dtype.
        h: share of the greatest entropy, in (0, 1).
        mask: see the module.

    Raises:
        ValueError: for h out of range.
    """
    _check(0 < h < 1, "entropy_budget", "h", h, "a number in (0, 1)")
    allowed = _allowed(Q, mask)
    target = h * torch.log(allowed.sum(-1, keepdim=True).double())

    def entropy(p: Tensor, _: Tensor) -> Tensor:
        found: Tensor = torch.special.entr(p).sum(-1, keepdim=True)
        return found

    return _solved(Q, allowed, entropy, 2, target)


def loss_budget(Q: Tensor, d: float = 0.1, *, mask: Tensor | None = None) -> Tensor:
    """R3: a softmax whose expected gap is d times the mean gap: exploring may cost d of what
    uniform draws cost.

    Args:
        Q: action values, `[..., A]`; solved in float64 whatever their dtype.
        d: the budget, in (0, 1).
        mask: see the module.

    Raises:
        ValueError: for d out of range.
    """
    _check(0 < d < 1, "loss_budget", "d", d, "a number in (0, 1)")
    allowed = _allowed(Q, mask)

    target = torch.full_like(Q[..., :1], d, dtype=torch.float64)
    return _solved(Q, allowed, _expected, 1, target)


def _expected(p: Tensor, x: Tensor) -> Tensor:
    return (p * x).sum(-1, keepdim=True)


def _solved(
    Q: Tensor,
    allowed: Tensor,
    measure: Callable[[Tensor, Tensor], Tensor],
    power: int,
    target: Tensor,
) -> Tensor:
    """softmax(-beta g / mean g) whose measure, of p and the scaled gaps, is the target.

    The measure falls in beta, strictly unless Q is constant; its slope in log beta is -beta^power
    Var g.
    """
    gaps = _gaps(Q.double(), allowed)
    gaps = _over(gaps, _mean(gaps, allowed))
    low = torch.full_like(target, LOG_BETA_LOW)
    high = torch.full_like(target, LOG_BETA_HIGH)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        explores = measure(_softmax(-middle.exp() * gaps, allowed), gaps) > target
        low = torch.where(explores, middle, low)
        high = torch.where(explores, high, middle)
    x = (low + high) / 2
    for _ in range(NEWTON_STEPS):
        beta = x.exp()
        p = _softmax(-beta * gaps, allowed)
        slope = -(beta**power) * _expected(p, (gaps - _expected(p, gaps)).square())
        step = torch.where(slope < 0, (target - measure(p, gaps)) / slope, torch.zeros_like(x))
        x = torch.minimum(torch.maximum(x + step, low), high)
    return _softmax(-x.exp() * gaps, allowed).to(Q.dtype)


def rank(Q: Tensor, rho: float = 0.4, *, mask: Tensor | None = None) -> Tensor:
    """R4: probabilities in proportion to rho^rank, the best action's rank being 0; ties take their
    mean rank.

    The same under any increasing map of Q, not only linear ones.

    Args:
        Q: action values, `[..., A]`; takes memory in A^2.
        rho: in (0, 1); small is greedy.
        mask: see the module.

    Raises:
        ValueError: for rho out of range.
    """
    _check(0 < rho < 1, "rank", "rho", rho, "a number in (0, 1)")
    allowed = _allowed(Q, mask)
    rival = Q.unsqueeze(-2)
    own = Q.unsqueeze(-1)
    counts = allowed.unsqueeze(-2)
    better = ((rival > own) & counts).sum(-1)
    equal = ((rival == own) & counts).sum(-1)
    ranks = better.to(Q.dtype) + (equal - 1).to(Q.dtype) / 2
    return _softmax(math.log(rho) * ranks, allowed)


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
    allowed = _allowed(Q, mask)
    gaps = _gaps(Q, allowed)
    return _softmax(-k * _over(gaps, gaps.amax(-1, keepdim=True)), allowed)


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
    allowed = _allowed(Q, mask)
    gaps = _gaps(Q, allowed)
    gaps = _over(
        gaps, gaps.amax(-1, keepdim=True)
    )  # else the squares of small values would underflow
    away = (_mean(gaps, allowed) - gaps).masked_fill(~allowed, 0.0)
    return _softmax(b * _over(away, _mean(away.square(), allowed).sqrt()), allowed)


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
    allowed = _allowed(values, mask)
    greedy = _greedy(_gaps(values, allowed), allowed)
    if generator is None:
        return greedy.mean(0)
    rows = greedy.shape[1:-1]
    head = torch.randint(len(values), (1, *rows, 1), generator=generator, device=values.device)
    return greedy.gather(0, head.expand(1, *greedy.shape[1:])).squeeze(0)


# -- controls --------------------------------------------------------------------------------------


def eps_greedy(Q: Tensor, eps: float = 0.1, *, mask: Tensor | None = None) -> Tensor:
    """Greedy, and with probability eps a uniform draw from all allowed actions, the greedy one
    among them.

    Does not depend on the scale, nor on anything else that Q says of the other actions.

    Args:
        Q: action values, `[..., A]`.
        eps: in [0, 1].
        mask: see the module.

    Raises:
        ValueError: for eps out of range.
    """
    _check(0 <= eps <= 1, "eps_greedy", "eps", eps, "a number in [0, 1]")
    allowed = _allowed(Q, mask)
    return (1 - eps) * _greedy(_gaps(Q, allowed), allowed) + eps * _uniform(allowed, Q.dtype)


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
    allowed = _allowed(Q, mask)
    return _softmax(-_gaps(Q, allowed) / tau, allowed)


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
    return pick(
        probabilities,
        torch.rand(rows, generator=generator, dtype=torch.float64, device=probabilities.device),
    )


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
    passed = (cumulated <= uniform.double().unsqueeze(-1) * total).sum(-1)
    last = (cumulated < total).sum(
        -1
    )  # of the actions that count; `uniform` times the total may round up to the total
    return torch.minimum(passed, last)
