"""Laws of a `TensorMarket`'s functions, called one by one.

They are pure, keep worlds apart, end episodes truly, and carry gradients. A check returns its
finding in words, raises `ContractError` (detail and fix) where a law is broken, and `Informs` where
it cannot judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.conformance.episodes import plausible_finals
from rl_markets.conformance.moment import Moment, close, first_moment, moment
from rl_markets.conformance.probe import (
    WORLDS,
    Actions,
    Subject,
    drawn_from,
    kept_global_states,
    same,
)
from rl_markets.envs.checks import refuse
from rl_markets.envs.market import Ended, State, Step, TensorMarket
from rl_markets.errors import Informs

FINITE_STEP = 1e-5
"""Step of the finite differences, in units of an action's range."""


def layout(subject: Subject) -> str:
    """Initial and later states have the same tensors, for any number of worlds.

    A restart puts the initial states of the worlds that ended among the others' states.
    """
    now, next_state = first_moment(subject)
    market = now.market
    for what, part in (("state", next_state), ("noise", now.noise)):
        for name, value in part.items():
            if value.dim() < 1 or value.shape[0] != WORLDS:
                shape = list(value.shape)
                refuse(
                    market,
                    f"{what} {name!r} has shape {shape}, expected [{WORLDS} worlds, ...]",
                    "give every tensor a leading axis of worlds",
                )
    # Fewer worlds than the market has: so many may end in a step.
    for worlds in (1, WORLDS - 1):
        initial = market.initial_state(worlds, market.generator)
        if initial.keys() != next_state.keys():
            names = f"initial_state gives {sorted(initial)}, transition gives {sorted(next_state)}"
            refuse(market, names, "give both the same names: a restart mixes them")
        for name, value in initial.items():
            shape = [worlds, *next_state[name].shape[1:]]
            dtype = next_state[name].dtype
            if list(value.shape) != shape or value.dtype != dtype:
                refuse(
                    market,
                    f"state {name!r}: initial_state({worlds}, ...) gives {value.dtype} "
                    f"{list(value.shape)}, expected {dtype} {shape}, as transition's",
                    "use initial_state's own argument `worlds`, not self.worlds, "
                    "and the same types",
                )
    return f"{len(next_state)} tensors of state, {len(now.noise)} of noise"


def pure(subject: Subject) -> str:
    """`transition` and `observe` change and draw nothing, and answer alike when asked twice."""
    now = moment(subject)
    market = now.market
    original = now.mapped(torch.clone)
    with kept_global_states(), drawn_from() as generators:
        first = {n: v.clone() for n, v in now.outcome().items()}
    for what, originals in original.parts().items():
        arguments = now.parts()[what]
        names = arguments.keys() | originals.keys()
        changed = [name for name in names if not _unchanged(arguments, originals, name)]
        if changed:
            refuse(
                market,
                f"transition or observe changes its argument {what}[{changed[0]!r}]",
                "write x = x + y, not x += y or x[...] = y, and return a new dict",
            )
    if generators:
        refuse(
            market,
            f"transition or observe draws from {generators[0]}",
            "draw shocks in draw_noise, from its generator",
        )
    second = original.outcome()
    differing = [n for n in first if n not in second or not same(first[n], second[n])]
    if differing:
        refuse(
            market,
            f"called twice, transition gives other {differing[0]}",
            "keep nothing on self between steps",
        )
    return "arguments unchanged, the same twice"


def _unchanged(arguments: State, originals: State, name: str) -> bool:
    return name in arguments and name in originals and same(arguments[name], originals[name])


def worlds_apart(subject: Subject) -> str:
    """Worlds neither touch each other nor differ in anything but their state."""
    now = moment(subject)
    order = torch.tensor([*range(1, WORLDS), 0])
    first_replaced = torch.tensor([1, *range(1, WORLDS)])  # world 0 becomes a copy of world 1
    outcome = now.outcome()
    permuted = now.rows(order).outcome()
    replaced = now.rows(first_replaced).outcome()
    for name, value in outcome.items():
        # All worlds but 0 are as they were: whatever differs there came from world 0.
        if not close(value[1:], replaced[name][1:]):
            refuse(
                now.market,
                f"{name} of a world: changed by another world's state or actions",
                "reduce over agents only, .mean(-1, keepdim=True); "
                "never over axis 0 or over everything",
            )
        if not close(value[order.to(value.device)], permuted[name]):
            refuse(
                now.market,
                f"{name}: depend on the index of their world",
                "put what differs between worlds into the state; "
                "mind the axes, [worlds, agents, ...]",
            )
    return "worlds can be permuted, none moves another"


def exchangeable(subject: Subject) -> str:
    """Whether a group's agents can be permuted.

    Must hold only where the market declares `exchangeable = True`: types that the market holds,
    such as skills, rightly forbid it.
    """
    now = moment(subject)
    counts = [group.count for group in now.market.groups.values()]
    lines = []
    for name, group in now.market.groups.items():
        # A tensor's axis of agents is recognised by its length, which must be the group's own.
        if group.count > 1 and counts.count(group.count) == 1:
            verdict = "yes" if _permutes(now, name, group.count) else "no, they differ in advance"
            lines.append(f"{name}: {verdict}")
        elif group.count > 1:
            lines.append(f"{name}: cannot tell its axis from another group's")
    if now.market.exchangeable and any(": no" in line for line in lines):
        refuse(
            now.market,
            "declares exchangeable agents, but permuting them changes what they get: "
            f"{'; '.join(lines)}",
            "let nothing depend on an agent's index, or drop `exchangeable`",
        )
    raise Informs("; ".join(lines) or "groups of one agent each")


def _permutes(now: Moment, name: str, count: int) -> bool:
    """Whether a group's permuted agents get permuted rewards."""
    order = torch.tensor([*range(1, count), 0])

    def permuted(value: Tensor) -> Tensor:
        if value.dim() > 1 and value.shape[1] == count:
            return value[:, order.to(value.device)]
        return value

    return close(permuted(now.step().rewards[name]), now.mapped(permuted).step().rewards[name])


# -- ends ------------------------------------------------------------------------------------------


def final_observations(subject: Subject) -> str:
    """What an ended episode last showed is what it showed before its world restarted."""
    if not isinstance(subject.market, TensorMarket):
        return plausible_finals(subject)
    market = subject.fresh()  # its episodes are cut short; the shared market's are not
    ends = 0
    assert isinstance(market, TensorMarket)
    if market.episode_length is not None:
        market.truncate_after(min(market.episode_length, 4))
    next_actions = Actions(market, 0)
    with subject.limit() as limit:
        limit(market.reset, 0)
        for _ in range(12 if market.episode_length else subject.steps):
            state = {n: v.clone() for n, v in market.state.items()}
            now = Moment(market, state, next_actions(), {})
            generator_state = market.generator.get_state()
            step = limit(market.step, now.actions)
            if step.ended is not None:
                _refuse_other_finals(now, generator_state, step, step.ended)
                ends += len(step.ended.worlds)
    if not ends:
        raise Informs(f"no episode ended in {subject.steps} steps")
    return f"{ends} ends computed again"


def _refuse_other_finals(now: Moment, generator_state: Tensor, step: Step, ended: Ended) -> None:
    """Computes the step again from `now`, with the noise that `generator_state` leads to."""
    market = now.market
    worlds = ended.worlds
    state_after_step = market.generator.get_state()
    market.generator.set_state(generator_state)
    transition = replace(now, noise=market.draw_noise(market.generator)).step()
    market.generator.set_state(state_after_step)  # the episode goes on as if nothing had been drawn
    for group, true_finals in market.observe(transition.state).items():
        if not close(ended.observations[group], true_finals[worlds]):
            restarted = same(ended.observations[group], step.observations[group][worlds])
            whose = "those of the new episode" if restarted else "not those that the step leads to"
            refuse(
                market,
                f"final observations of group {group!r} are {whose}",
                "observe before the restart: "
                "ended.observations = observe(moved.state)[ended.worlds]",
            )
    if transition.terminated is None:
        expected = torch.zeros_like(ended.terminated)
    else:
        expected = transition.terminated[worlds]
    if not same(ended.terminated, expected):
        refuse(
            market,
            "ended.terminated is not what transition says",
            "where only the clock ran out, it is False",
        )


# -- gradients -------------------------------------------------------------------------------------


def gradients(subject: Subject) -> str:
    """A differentiable market's rewards carry a finite gradient to the actions."""
    market = subject.market
    if not market.differentiable:
        raise Informs("declared not differentiable")
    with torch.enable_grad(), subject.limit() as limit:
        limit(market.reset, 0)
        actions = Actions(market, 3, "inner")()
        continuous = [a.requires_grad_() for a in actions.values() if a.is_floating_point()]
        total = _weighted_sum(limit(market.step, actions).rewards)
        if not total.requires_grad:
            refuse(
                market,
                "differentiable = True, but rewards carry no gradient to the actions",
                "remove detach(), item(), no_grad and numpy from transition, "
                "or set differentiable = False",
            )
        maybe_unused = torch.autograd.grad(total, continuous, allow_unused=True)
        grads = [grad for grad in maybe_unused if grad is not None]
    if not all(bool(torch.isfinite(grad).all()) for grad in grads):
        refuse(
            market,
            "the rewards' gradient in the actions is not finite",
            "look for sqrt(0), log(0), 0/0, "
            "and for torch.where, which differentiates both of its branches",
        )
    if not any(bool(grad.any()) for grad in grads):
        refuse(
            market,
            "the rewards' gradient in the actions is 0",
            "remove detach() and rounding on the way to rewards",
        )
    return f"finite, not zero{_compared(subject)}"


def _weighted_sum(rewards: dict[str, Tensor]) -> Tensor:
    """A sum of rewards that does not cancel where one agent's gain is another's loss.

    The weights are random and the same in every call.
    """
    generator = torch.Generator().manual_seed(13)
    total = torch.zeros((), dtype=torch.float64)
    for reward in rewards.values():
        weights = 0.5 + torch.rand(reward.shape, generator=generator, dtype=torch.float64)
        total = total + (weights.to(reward.device) * reward).sum().cpu()
    return total


def _compared(subject: Subject) -> str:
    """How far the gradient is from finite differences, in words; empty where that cannot be had.

    In double precision, since the rounding of single precision would spoil the differences.
    """
    try:
        now = moment(subject, "inner")
        now = now.mapped(lambda v: v.double() if v.is_floating_point() else v)
        reward_at = _along_ranges(now)
        numeric = float(reward_at(FINITE_STEP) - reward_at(-FINITE_STEP)) / (2 * FINITE_STEP)
        with torch.enable_grad():
            shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
            (exact,) = torch.autograd.grad(reward_at(shift), shift)
    except (Informs, RuntimeError):  # no TensorMarket, or one that insists on its own type
        return ""
    error = abs(float(exact) - numeric) / max(abs(numeric), 1e-12)
    if error < 0.01:
        return ", as finite differences say"
    return (
        f", {100 * error:.0f} % from finite differences: "
        "right only where gradients are stopped on purpose"
    )


def _along_ranges(now: Moment) -> Callable[[float | Tensor], Tensor]:
    """The weighted sum of rewards as a function of one number.

    By so much all continuous actions are shifted together, in units of their ranges.
    """
    ranges = {}
    for group, action in now.actions.items():
        space = now.market.groups[group].action_space
        if isinstance(space, gym.spaces.Box):
            ranges[group] = torch.as_tensor(space.high - space.low, device=action.device).double()

    def reward_at(shift: float | Tensor) -> Tensor:
        shifted = {group: now.actions[group] + shift * width for group, width in ranges.items()}
        return _weighted_sum(replace(now, actions=now.actions | shifted).step().rewards)

    return reward_at
