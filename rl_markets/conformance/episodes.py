"""Laws of whole episodes, for any market: finite, in its spaces, the same from the same seed and
from a saved state.

A check returns what it found, raises `ContractError` (detail and fix) where a law is broken, and
`Informs` where it cannot judge.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.conformance.probe import (
    LEAST_STEPS,
    Subject,
    difference,
    digests,
    disturb,
    drawn_from,
    first_bad,
    kept_global_states,
    play,
    record,
    same,
)
from rl_markets.envs.checks import refuse
from rl_markets.envs.market import AgentGroup, Market, TensorMarket
from rl_markets.errors import Informs

SPACE_TOLERANCE = 1e-5
"""Relative, of a bound."""


def shapes(subject: Subject) -> str:
    """Every step has its groups, shapes, types and device (`envs/contract.py`), and none raises."""
    subject.measure_pace()
    ends = []
    with subject.limit() as limit:
        for seen, step in play(subject.market, subject.steps, limit):
            if step is not None and step.ended is not None:
                final = step.ended.observations
                ends.append((final, digests({group: final[group] for group in seen})))
    if any(digests(final) != kept for final, kept in ends):
        refuse(
            subject.market,
            "later steps overwrite what ended.observations holds",
            "give copies (.clone()), not memory that the next step writes into: runners keep it "
            "for a while",
        )
    return (
        f"{subject.steps} steps of "
        f"{', '.join(f'{g.count} x {n}' for n, g in subject.market.groups.items())}"
    )


def finite(subject: Subject) -> str:
    """No NaN and no infinity, whatever legal actions do."""
    with subject.limit() as limit:
        for style in ("mixed", "low", "high"):
            for t, (seen, step) in enumerate(
                play(subject.market, subject.steps, limit, style=style)
            ):
                refuse_not_finite(subject.market, seen, "observations", t, style)
                refuse_not_finite(
                    subject.market, {} if step is None else step.rewards, "rewards", t, style
                )
    return (
        f"{subject.steps} steps each: random actions, all at their lower bounds, all at their "
        "upper bounds"
    )


def refuse_not_finite(
    market: Market, values: Mapping[str, Tensor], what: str, t: int, style: str = "mixed"
) -> None:
    """Refuses NaN and infinity; `t` counts from the reset."""
    for group, value in values.items():
        if bool(torch.isfinite(value).all()):
            continue
        at = first_bad(~torch.isfinite(value))
        when = f"in step {t - 1} with {_acted(t, style)}" if t else "after the reset"
        refuse(
            market,
            f"{what} of group {group!r}: {float(value[at])} in {_place(at)} {when}, expected a "
            "finite number",
            "look for log(0), division by 0, exp of large numbers; clamp, or narrow the action "
            "space",
        )


def _acted(t: int, style: str) -> str:
    style = {1: "low", 2: "high"}.get(t, style) if style == "mixed" else style
    return "random actions" if style == "mixed" else f"all actions at their {style} bounds"


def _place(at: tuple[int, ...]) -> str:
    return f"world {at[0]}, agent {at[1]}" + (f", entry {at[2]}" if len(at) > 2 else "")


def within_spaces(subject: Subject) -> str:
    """Observations lie in their spaces."""
    bounded = {n: g for n, g in subject.market.groups.items() if _is_bounded(g)}
    if not bounded:
        return "the spaces of observations have no bounds"
    with subject.limit() as limit:
        for seen, _ in play(subject.market, subject.steps, limit):
            for name, group in bounded.items():
                _refuse_outside(subject.market, name, group.observation_space, seen[name])
    return f"{subject.steps} steps"


def _is_bounded(group: AgentGroup) -> bool:
    space = group.observation_space
    return bool(space.bounded_below.any() or space.bounded_above.any())


def _refuse_outside(market: Market, name: str, space: gym.spaces.Box, seen: Tensor) -> None:
    low, high = (torch.as_tensor(bound, device=seen.device) for bound in (space.low, space.high))
    slack = (
        torch.clamp(torch.maximum(low.abs(), high.abs()).nan_to_num(0, 0, 0), min=1)
        * SPACE_TOLERANCE
    )
    bad = (seen < low - slack) | (seen > high + slack)
    if bool(bad.any()):
        at = first_bad(bad)
        bounds = f"[{float(low[at[2]]):g}, {float(high[at[2]]):g}]"
        refuse(
            market,
            f"observations of group {name!r}: {float(seen[at]):g} in {_place(at)}, expected in "
            f"{bounds}",
            "widen observation_space (infinite bounds are fine), or clamp what is observed",
        )


def deterministic(subject: Subject) -> str:
    """The same seed gives the same bytes: in another object, after another reset, whatever others
    draw meanwhile."""
    market = subject.market
    steps = subject.steps
    with kept_global_states(), subject.limit() as limit:
        with drawn_from() as drawn:
            first = record(market, steps, limit)
        disturbed = []
        for seen, step in play(subject.fresh(), steps, limit):
            disturbed.append(digests(seen, step))
            disturb()
        again = record(market, steps, limit)
    if drawn:
        refuse(
            market,
            f"draws from the shared generator of {' and '.join(drawn)}",
            "draw from the generator that the market is given: torch.rand(..., "
            "generator=generator)",
        )
    if what := difference(first, disturbed):
        refuse(
            market,
            f"two markets with the same seed differ: {what}",
            "seed every generator from reset(seed); no clock, no unseeded default_rng, no draws in "
            "__init__",
        )
    if what := difference(first, again):
        refuse(
            market,
            f"a second reset(0) gives another episode: {what}",
            "let reset restart all that a step moves",
        )
    subject.record = first
    ends = sum("ended.worlds" in shown for shown in first)
    return f"the same {steps} steps three times, worlds ended in {ends} of them"


def seeds_differ(subject: Subject) -> str:
    """Another seed gives another episode, where anything is random."""
    with subject.limit() as limit:
        first, other = (record(subject.market, LEAST_STEPS, limit, seed=seed) for seed in (0, 1))
    if difference(first, other) is None:
        raise Informs(
            "seeds 0 and 1 give the same episode: no randomness in this market, or it ignores its "
            "seed"
        )
    return "seeds 0 and 1 give different episodes"


def resumes(subject: Subject) -> str:
    """A saved state goes on with the same bytes, in another object."""
    market = subject.market
    other = subject.fresh()
    steps = subject.steps
    with subject.limit() as limit:
        *_, (seen, _) = play(market, min(7, steps), limit)
        saved = pickle.loads(pickle.dumps(market.state_dict()))
        loaded = other.load_state_dict(saved)
        one, two = (record(m, steps, limit, seed=None, draws=2) for m in (market, other))
    what = (
        "what load_state_dict returns"
        if difference([digests(seen)], [digests(loaded)])
        else difference(one, two)
    )
    if what is None:
        return f"{steps} steps on from a saved state"
    if isinstance(market, TensorMarket):
        refuse(
            market,
            f"goes on differently from a saved state: {what}",
            "keep whatever a step changes in the state tensors, and none of it on self",
        )
    raise Informs(
        f"goes on differently from a saved state, {what}: a resumed run is not the same run"
    )


def plausible_finals(subject: Subject) -> str:
    """The final observations are not all those after the restart, where observations vary at
    all."""
    ends = 0
    fresh = True
    varies = False
    last = None
    with subject.limit() as limit:
        for seen, step in play(subject.market, subject.steps, limit):
            if step is not None and step.ended is not None:
                worlds = step.ended.worlds
                final = step.ended.observations
                ends += len(worlds)
                fresh &= all(same(final[g], x[worlds]) for g, x in seen.items())
            elif last is not None:
                varies |= any(not same(last[g], x) for g, x in seen.items())
            last = {g: x.clone() for g, x in seen.items()}
    if ends and fresh and varies:
        refuse(
            subject.market,
            f"the final observations of all {ends} ends are those of the new episodes",
            "keep what agents saw before their world restarts, and give that in ended.observations",
        )
    if not ends:
        raise Informs(f"no episode ended in {subject.steps} steps")
    return f"{ends} ends"
