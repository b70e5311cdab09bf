"""Laws of whole episodes, for any market.

Finite numbers, observations in their spaces, and the same bytes from the same seed and from a saved
state. A check returns its finding in words, raises `ContractError` (detail and fix) where a law is
broken, and `Informs` where it cannot judge.
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
from rl_markets.envs.market import AgentGroup, Ended, Market, TensorMarket
from rl_markets.errors import Informs

SPACE_TOLERANCE = 1e-5
"""Relative, of a bound."""


def shapes(subject: Subject) -> str:
    """Every step has its groups, shapes, types and device (`envs/checks.py`), and none raises."""
    subject.measure_pace()
    finals = []
    with subject.limit() as limit:
        for observations, step in play(subject.market, subject.steps, limit):
            if step is not None and step.ended is not None:
                final = step.ended.observations
                finals.append((final, digests({group: final[group] for group in observations})))
    # The tensors themselves were kept, so that what a later step wrote into them shows now.
    if any(digests(final) != digests_then for final, digests_then in finals):
        refuse(
            subject.market,
            "later steps overwrite what ended.observations holds",
            "give copies (.clone()), not memory that the next step writes into: "
            "runners keep it for a while",
        )
    groups = ", ".join(f"{group.count} x {name}" for name, group in subject.market.groups.items())
    return f"{subject.steps} steps of {groups}"


def finite(subject: Subject) -> str:
    """No NaN and no infinity, whatever legal actions do."""
    with subject.limit() as limit:
        for style in ("mixed", "low", "high"):
            episode = play(subject.market, subject.steps, limit, style=style)
            for t, (observations, step) in enumerate(episode):
                rewards = {} if step is None else step.rewards
                refuse_not_finite(subject.market, observations, "observations", t, style)
                refuse_not_finite(subject.market, rewards, "rewards", t, style)
                if step is not None and step.ended is not None:
                    _refuse_finals(subject.market, step.ended, t, style)
    return (
        f"{subject.steps} steps each: random actions, "
        "all at their lower bounds, all at their upper bounds"
    )


def _refuse_finals(market: Market, ended: Ended, t: int, style: str) -> None:
    """Refuses NaN and infinity in what agents saw last, in the places of their worlds."""
    finals = {}
    for group, observations in ended.observations.items():
        placed = observations.new_zeros((market.worlds, *observations.shape[1:]))
        placed[ended.worlds] = observations
        finals[group] = placed
    refuse_not_finite(market, finals, "final observations", t, style)


def refuse_not_finite(
    market: Market, values: Mapping[str, Tensor], what: str, t: int, style: str = "mixed"
) -> None:
    """Refuses NaN and infinity.

    Args:
        market: named in the refusal.
        values: group -> `[worlds, agents, ...]`.
        what: they are.
        t: counts from the reset, which is 0.
        style: of the actions, as in `Actions`.

    Raises:
        ContractError: with the first world, agent and entry that is not finite.
    """
    for group, value in values.items():
        if bool(torch.isfinite(value).all()):
            continue
        index = first_bad(~torch.isfinite(value))
        when = f"in step {t - 1} with {_actions_of(t, style)}" if t else "after the reset"
        refuse(
            market,
            f"{what} of group {group!r}: {float(value[index])} in {_place(index)} {when}, "
            "expected a finite number",
            "look for log(0), division by 0, exp of large numbers; "
            "clamp, or narrow the action space",
        )


def _actions_of(t: int, style: str) -> str:
    """The actions that led to item `t` of an episode, in words."""
    if style == "mixed":
        style = {1: "low", 2: "high"}.get(t, style)  # as `Actions` begins
    return "random actions" if style == "mixed" else f"all actions at their {style} bounds"


def _place(index: tuple[int, ...]) -> str:
    """Where in a tensor `[worlds, agents]` or `[worlds, agents, entry]`."""
    entry = f", entry {index[2]}" if len(index) > 2 else ""
    return f"world {index[0]}, agent {index[1]}{entry}"


def within_spaces(subject: Subject) -> str:
    """Observations lie in their spaces."""
    groups = subject.market.groups
    bounded = {name: group for name, group in groups.items() if _is_bounded(group)}
    if not bounded:
        return "the spaces of observations have no bounds"
    with subject.limit() as limit:
        for observations, _ in play(subject.market, subject.steps, limit):
            for name, group in bounded.items():
                _refuse_outside(subject.market, name, group.observation_space, observations[name])
    return f"{subject.steps} steps"


def _is_bounded(group: AgentGroup) -> bool:
    space = group.observation_space
    return bool(space.bounded_below.any() or space.bounded_above.any())


def _refuse_outside(market: Market, name: str, space: gym.spaces.Box, observations: Tensor) -> None:
    low, high = (
        torch.as_tensor(bound, device=observations.device) for bound in (space.low, space.high)
    )
    # An infinite bound becomes 0 here, so that the slack stays finite.
    largest = torch.maximum(low.abs(), high.abs()).nan_to_num(0, 0, 0)
    slack = torch.clamp(largest, min=1) * SPACE_TOLERANCE
    outside = (observations < low - slack) | (observations > high + slack)
    if bool(outside.any()):
        index = first_bad(outside)
        bounds = f"[{float(low[index[2]]):g}, {float(high[index[2]]):g}]"
        refuse(
            market,
            f"observations of group {name!r}: {float(observations[index]):g} in {_place(index)}, "
            f"expected in {bounds}",
            "widen observation_space (infinite bounds are fine), or clamp what is observed",
        )


def deterministic(subject: Subject) -> str:
    """The same seed gives the same bytes.

    In another object, after another reset, and whatever others draw meanwhile.
    """
    market = subject.market
    steps = subject.steps
    with kept_global_states(), subject.limit() as limit:
        with drawn_from() as generators:
            first = record(market, steps, limit)
        disturbed = []
        for observations, step in play(subject.fresh(), steps, limit):
            disturbed.append(digests(observations, step))
            disturb()
        again = record(market, steps, limit)
    if generators:
        refuse(
            market,
            f"draws from the shared generator of {' and '.join(generators)}",
            "draw from the generator that the market is given: "
            "torch.rand(..., generator=generator)",
        )
    if what := difference(first, disturbed):
        refuse(
            market,
            f"two markets with the same seed differ: {what}",
            "seed every generator from reset(seed); "
            "no clock, no unseeded default_rng, no draws in __init__",
        )
    if what := difference(first, again):
        refuse(
            market,
            f"a second reset(0) gives another episode: {what}",
            "let reset restart all that a step moves",
        )
    subject.record = first  # the worker process is compared with it
    ends = sum("ended.worlds" in shown for shown in first)
    return f"the same {steps} steps three times, worlds ended in {ends} of them"


def seeds_differ(subject: Subject) -> str:
    """Another seed gives another episode, where anything is random."""
    with subject.limit() as limit:
        first, other = (record(subject.market, LEAST_STEPS, limit, seed=seed) for seed in (0, 1))
    if difference(first, other) is None:
        raise Informs(
            "seeds 0 and 1 give the same episode: "
            "no randomness in this market, or it ignores its seed"
        )
    return "seeds 0 and 1 give different episodes"


def resumes(subject: Subject) -> str:
    """A saved state goes on with the same bytes, in another object."""
    market = subject.market
    other = subject.fresh()
    steps = subject.steps
    with subject.limit() as limit:
        *_, (observations, _) = play(market, min(7, steps), limit)
        saved = pickle.loads(pickle.dumps(market.state_dict()))
        loaded_observations = other.load_state_dict(saved)
        original = record(market, steps, limit, seed=None, draws=2, seen=observations)
        resumed = record(other, steps, limit, seed=None, draws=2, seen=loaded_observations)
    if difference([digests(observations)], [digests(loaded_observations)]):
        what: str | None = "what load_state_dict returns"
    else:
        what = difference(original, resumed)
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
    """The final observations are not all those after the restart.

    Where observations never vary, the two are rightly the same.
    """
    ends = 0
    all_fresh = True
    varies = False
    last = None
    with subject.limit() as limit:
        for observations, step in play(subject.market, subject.steps, limit):
            if step is not None and step.ended is not None:
                worlds = step.ended.worlds
                final = step.ended.observations
                ends += len(worlds)
                all_fresh &= all(same(final[g], x[worlds]) for g, x in observations.items())
            elif last is not None:
                varies |= any(not same(last[g], x) for g, x in observations.items())
            last = {g: x.clone() for g, x in observations.items()}  # a step may write into them
    if ends and all_fresh and varies:
        refuse(
            subject.market,
            f"the final observations of all {ends} ends are those of the new episodes",
            "keep what agents saw before their world restarts, and give that in ended.observations",
        )
    if not ends:
        raise Informs(f"no episode ended in {subject.steps} steps")
    return f"{ends} ends"
