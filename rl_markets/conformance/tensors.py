"""Laws of a `TensorMarket`'s functions, called one by one: pure, worlds apart, true ends,
gradients.

A check returns what it found, raises `ContractError` (detail and fix) where a law is broken, and
`Informs` where it cannot judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.conformance.episodes import plausible_finals
from rl_markets.conformance.probe import (
    WORLDS,
    Actions,
    Subject,
    drawn_from,
    kept_global_states,
    play,
    same,
)
from rl_markets.envs.checks import refuse
from rl_markets.envs.market import Ended, State, Step, TensorMarket, Transition
from rl_markets.errors import Informs, TimeLimitError

RELATIVE = 1e-4
ABSOLUTE = 1e-6
"""Tolerance where sums may run in another order; the absolute one in units of the largest value."""
NO_FUNCTIONS = "no TensorMarket, whose functions can be called alone"
FINITE_STEP = 1e-5
"""Step of the finite differences, in units of an action's range."""


@dataclass(frozen=True)
class Moment:
    """A market in the middle of an episode: everything that its functions take."""

    market: TensorMarket
    state: State
    actions: dict[str, Tensor]
    noise: State

    def step(self) -> Transition:
        """The dynamics at this moment."""
        return self.market.transition(self.state, self.actions, self.noise)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The arguments of `transition` by name."""
        return {"state": self.state, "actions": self.actions, "noise": self.noise}

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Moment:
        """Another moment, with `function` of every tensor."""

        def of(part: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: function(value) for name, value in part.items()}

        return Moment(self.market, of(self.state), of(self.actions), of(self.noise))

    def rows(self, worlds: Tensor) -> Moment:
        """Another moment, in whose world i is what was in `worlds[i]`."""
        return self.mapped(lambda value: value[worlds.to(value.device)])

    def outcome(self) -> dict[str, Tensor]:
        """All that follows from this moment, by name; every tensor leads with worlds."""
        moved = self.step()
        found = {f"rewards of group {g!r}": v for g, v in moved.rewards.items()}
        found |= {f"state {n!r}": v for n, v in moved.state.items()}
        found |= {
            f"observations of group {g!r}": v for g, v in self.market.observe(moved.state).items()
        }
        whole = self.market.observe_globally(moved.state)
        found |= {} if whole is None else {"the global state": whole}
        found |= {} if moved.terminated is None else {"terminated": moved.terminated}
        for what, mask in (("active", moved.active), ("agent_done", moved.agent_done)):
            found |= {f"{what} of group {g!r}": v for g, v in (mask or {}).items()}
        return found


def moment(subject: Subject, style: str = "mixed") -> Moment:
    """The shared market after a few random steps; nothing of it is the market's own.

    Raises:
        Informs: where the market is no `TensorMarket`, whose functions cannot be called alone.
    """
    market = subject.market
    if not isinstance(market, TensorMarket):
        raise Informs(NO_FUNCTIONS)
    with subject.limit() as limit:
        for _ in play(market, 5, limit):
            pass
    draw = Actions(market, 5, style)
    actions = [draw() for _ in range(3)][-1]
    return Moment(market, market.state, actions, market.draw_noise(market.generator)).mapped(
        torch.clone
    )


def close(one: Tensor, other: Tensor) -> bool:
    """Equal up to rounding."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point() or not one.numel():
        return bool((one == other).all())
    scale = float(one.abs().nan_to_num(0, 0, 0).max())
    return torch.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE * scale, equal_nan=True)


def layout(subject: Subject) -> str:
    """Fresh and moved states have the same tensors, for any number of worlds: a restart mixes
    them."""
    now, moved = _first_step(subject)
    market = now.market
    for what, part in (("state", moved), ("noise", now.noise)):
        for name, value in part.items():
            if value.dim() < 1 or value.shape[0] != WORLDS:
                told = (
                    f"{what} {name!r} has shape {list(value.shape)}, expected [{WORLDS} "
                    "worlds, "
                    "...]"
                )
                refuse(market, told, "give every tensor a leading axis of worlds")
    for worlds in (1, WORLDS - 1):
        fresh = market.initial_state(worlds, market.generator)
        if fresh.keys() != moved.keys():
            told = f"initial_state gives {sorted(fresh)}, transition gives {sorted(moved)}"
            refuse(market, told, "give both the same names: a restart mixes them")
        for name, value in fresh.items():
            if value.shape != (worlds, *moved[name].shape[1:]) or value.dtype != moved[name].dtype:
                expected = (
                    f"{moved[name].dtype} {[worlds, *moved[name].shape[1:]]}, as transition's"
                )
                told = (
                    f"state {name!r}: initial_state({worlds}, ...) gives {value.dtype} "
                    f"{list(value.shape)}"
                )
                fix = (
                    "use initial_state's own argument `worlds`, not self.worlds, and the same types"
                )
                refuse(market, f"{told}, expected {expected}", fix)
    return f"{len(moved)} tensors of state, {len(now.noise)} of noise"


def _first_step(subject: Subject) -> tuple[Moment, State]:
    """A moment just after a reset, and the state that follows."""
    market = subject.market
    if not isinstance(market, TensorMarket):
        raise Informs(NO_FUNCTIONS)
    try:
        with subject.limit() as limit:
            limit(market.reset, 0)
            now = Moment(
                market,
                market.state,
                Actions(market, 0, "inner")(),
                market.draw_noise(market.generator),
            )
            return now, limit(now.step).state
    except TimeLimitError:
        raise
    except Exception as error:
        raise Informs("not looked at: a step fails") from error


def pure(subject: Subject) -> str:
    """`transition` and `observe` change nothing, draw nothing, and answer alike when asked
    twice."""
    now = moment(subject)
    market = now.market
    kept = now.mapped(torch.clone)
    with kept_global_states(), drawn_from() as drawn:
        first = {n: v.clone() for n, v in now.outcome().items()}
    for what, originals in kept.parts().items():
        found = now.parts()[what]
        changed = [n for n in found.keys() | originals.keys() if not _kept(found, originals, n)]
        if changed:
            refuse(
                market,
                f"transition or observe changes its argument {what}[{changed[0]!r}]",
                "write x = x + y, not x += y or x[...] = y, and return a new dict",
            )
    if drawn:
        refuse(
            market,
            f"transition or observe draws from {drawn[0]}",
            "draw shocks in draw_noise, from its generator",
        )
    second = kept.outcome()
    other = [n for n in first if n not in second or not same(first[n], second[n])]
    if other:
        refuse(
            market,
            f"called twice, transition gives other {other[0]}",
            "keep nothing on self between steps",
        )
    return "arguments unchanged, the same twice"


def _kept(found: State, originals: State, name: str) -> bool:
    return name in found and name in originals and same(found[name], originals[name])


def worlds_apart(subject: Subject) -> str:
    """Worlds neither touch each other nor differ in anything but their state."""
    now = moment(subject)
    order = torch.tensor([*range(1, WORLDS), 0])
    copied = torch.tensor([1, *range(1, WORLDS)])
    straight = now.outcome()
    turned = now.rows(order).outcome()
    touched = now.rows(copied).outcome()
    for name, value in straight.items():
        if not close(value[1:], touched[name][1:]):
            refuse(
                now.market,
                f"{name} of a world: changed by another world's state or actions",
                "reduce over agents only, .mean(-1, keepdim=True); never over axis 0 or over "
                "everything",
            )
        if not close(value[order.to(value.device)], turned[name]):
            refuse(
                now.market,
                f"{name}: depend on the index of their world",
                "put what differs between worlds into the state; mind the axes, [worlds, agents, "
                "...]",
            )
    return "worlds can be permuted, none moves another"


def exchangeable(subject: Subject) -> str:
    """Whether a group's agents can be permuted. Types held by the market, such as skills, rightly
    forbid it.

    Must hold only where the market declares `exchangeable = True`.
    """
    now = moment(subject)
    counts = [group.count for group in now.market.groups.values()]
    told = []
    for name, group in now.market.groups.items():
        if group.count > 1 and counts.count(group.count) == 1:
            told.append(
                f"{name}: "
                f"{'yes' if _permutes(now, name, group.count) else 'no, they differ in advance'}"
            )
        elif group.count > 1:
            told.append(f"{name}: cannot tell its axis from another group's")
    if now.market.exchangeable and any(": no" in line for line in told):
        refuse(
            now.market,
            "declares exchangeable agents, but permuting them changes what they get: "
            f"{'; '.join(told)}",
            "let nothing depend on an agent's index, or drop `exchangeable`",
        )
    raise Informs("; ".join(told) or "groups of one agent each")


def _permutes(now: Moment, name: str, count: int) -> bool:
    order = torch.tensor([*range(1, count), 0])

    def turn(value: Tensor) -> Tensor:
        return (
            value[:, order.to(value.device)]
            if value.dim() > 1 and value.shape[1] == count
            else value
        )

    return close(turn(now.step().rewards[name]), now.mapped(turn).step().rewards[name])


# -- ends ------------------------------------------------------------------------------------------


def final_observations(subject: Subject) -> str:
    """What an ended episode last showed is what it showed before its world restarted."""
    if not isinstance(subject.market, TensorMarket):
        return plausible_finals(subject)
    market = subject.fresh()
    ends = 0
    assert isinstance(market, TensorMarket)
    if market.episode_length is not None:
        market.episode_length = min(market.episode_length, 4)
    draw = Actions(market, 0)
    with subject.limit() as limit:
        limit(market.reset, 0)
        for _ in range(12 if market.episode_length else subject.steps):
            now = Moment(market, {n: v.clone() for n, v in market.state.items()}, draw(), {})
            before = market.generator.get_state()
            step = limit(market.step, now.actions)
            if step.ended is not None:
                _refuse_other_finals(now, before, step, step.ended)
                ends += len(step.ended.worlds)
    if not ends:
        raise Informs(f"no episode ended in {subject.steps} steps")
    return f"{ends} ends computed again"


def _refuse_other_finals(now: Moment, generator: Tensor, step: Step, ended: Ended) -> None:
    """Computes the step again from `now`, whose noise is drawn from `generator`."""
    market = now.market
    worlds = ended.worlds
    after = market.generator.get_state()
    market.generator.set_state(generator)
    moved = replace(now, noise=market.draw_noise(market.generator)).step()
    market.generator.set_state(after)
    for group, true in market.observe(moved.state).items():
        if not close(ended.observations[group], true[worlds]):
            fresh = same(ended.observations[group], step.observations[group][worlds])
            refuse(
                market,
                f"final observations of group {group!r} are "
                f"{'those of the new episode' if fresh else 'not those that the step leads to'}",
                "observe before the restart: ended.observations = "
                "observe(moved.state)[ended.worlds]",
            )
    expected = (
        torch.zeros_like(ended.terminated) if moved.terminated is None else moved.terminated[worlds]
    )
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
        moving = [a.requires_grad_() for a in actions.values() if a.is_floating_point()]
        total = _weighted(limit(market.step, actions).rewards)
        if not total.requires_grad:
            refuse(
                market,
                "differentiable = True, but rewards carry no gradient to the actions",
                "remove detach(), item(), no_grad and numpy from transition, or set differentiable "
                "= False",
            )
        found = [g for g in torch.autograd.grad(total, moving, allow_unused=True) if g is not None]
    if not all(bool(torch.isfinite(g).all()) for g in found):
        refuse(
            market,
            "the rewards' gradient in the actions is not finite",
            "look for sqrt(0), log(0), 0/0, and for torch.where, which differentiates both of its "
            "branches",
        )
    if not any(bool(g.any()) for g in found):
        refuse(
            market,
            "the rewards' gradient in the actions is 0",
            "remove detach() and rounding on the way to rewards",
        )
    return f"finite, not zero{_compared(subject)}"


def _weighted(rewards: dict[str, Tensor]) -> Tensor:
    """A sum of rewards that does not cancel where one agent's gain is another's loss."""
    generator = torch.Generator().manual_seed(13)
    total = torch.zeros((), dtype=torch.float64)
    for reward in rewards.values():
        weights = 0.5 + torch.rand(reward.shape, generator=generator, dtype=torch.float64)
        total = total + (weights.to(reward.device) * reward).sum().cpu()
    return total


def _compared(subject: Subject) -> str:
    """How far the gradient is from finite differences in double precision; nothing where that
    cannot be had."""
    try:
        along = _line(
            moment(subject, "inner").mapped(lambda v: v.double() if v.is_floating_point() else v)
        )
        numeric = float(along(FINITE_STEP) - along(-FINITE_STEP)) / (2 * FINITE_STEP)
        with torch.enable_grad():
            size = torch.zeros((), dtype=torch.float64, requires_grad=True)
            (exact,) = torch.autograd.grad(along(size), size)
    except (Informs, RuntimeError):  # no TensorMarket, or one that insists on its own type
        return ""
    error = abs(float(exact) - numeric) / max(abs(numeric), 1e-12)
    if error < 0.01:
        return ", as finite differences say"
    return (
        f", {100 * error:.0f} % from finite differences: right only where gradients are "
        "stopped "
        "on purpose"
    )


def _line(now: Moment) -> Callable[[float | Tensor], Tensor]:
    """How far all continuous actions move, in units of their ranges -> the weighted sum of
    rewards."""
    slopes = {}
    for group, action in now.actions.items():
        space = now.market.groups[group].action_space
        if isinstance(space, gym.spaces.Box):
            slopes[group] = torch.as_tensor(space.high - space.low, device=action.device).double()

    def along(size: float | Tensor) -> Tensor:
        moved = {group: now.actions[group] + size * slope for group, slope in slopes.items()}
        return _weighted(replace(now, actions=now.actions | moved).step().rewards)

    return along
