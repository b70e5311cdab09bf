"""What a market gives in each step, checked cheaply: groups, shapes, types, devices.

Nothing here reads a tensor's values on a device or looks for NaN: a step costs a few microseconds.
Observations are float32, as networks want them; rewards are float32 or float64 (runners keep
float32); masks are bool.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.market import AgentGroup, Ended, Market, Step
from rl_markets.errors import ContractError

FLOAT = (torch.float32,)
REWARD = (torch.float32, torch.float64)
BOOL = (torch.bool,)
INDEX = (torch.int64,)


def refuse(market: object, detail: str, fix: str) -> NoReturn:
    """Raises the `ContractError` of `detail` (found and expected) and `fix` (what to do).

    A market that is made of something else, such as a foreign environment, has cures of its own.
    """
    fix = getattr(market, "cures", {}).get(fix, fix)
    # One argument: errors travel pickled.
    error = ContractError(f"market {type(market).__name__}: {detail}; {fix}")
    error.detail = detail
    error.fix = fix
    raise error


def check_groups(market: Market) -> None:
    """Worlds, device, groups and spaces are what runners and networks can use.

    Called once, after building.

    Raises:
        ContractError: what was found, what was expected, and how to mend it.
    """
    needed = ("worlds", "episode_length", "device", "groups")
    missing = [name for name in needed if not hasattr(market, name)]
    if missing:
        refuse(market, f"has no {', '.join(missing)}", "set them in __init__, before any step")
    if not isinstance(market.groups, Mapping) or not market.groups:
        refuse(
            market,
            f"groups is {market.groups!r:.60}",
            "give a non-empty mapping: group -> AgentGroup",
        )
    for name, group in market.groups.items():
        _check_group(market, name, group)


def _check_group(market: Market, name: str, group: AgentGroup) -> None:
    if not isinstance(name, str) or not isinstance(group, AgentGroup):
        refuse(
            market,
            f"group {name!r} is a {type(group).__name__}",
            "give groups as text -> AgentGroup",
        )
    if isinstance(group.count, bool) or not isinstance(group.count, int) or group.count < 1:
        refuse(
            market,
            f"group {name!r} has count = {group.count!r}",
            "give a whole number of at least 1",
        )
    _check_observation_space(market, name, group.observation_space)
    _check_action_space(market, name, group.action_space)
    if group.masked:
        _check_choices(market, name, group)


def _check_observation_space(market: Market, name: str, space: Any) -> None:
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        refuse(
            market,
            f"group {name!r}: observation space {space!s:.80}, expected a Box of one dimension",
            "flatten an agent's observation to [entries]; "
            "group and world come from the tensors' leading axes",
        )
    if space.dtype != np.float32:
        refuse(
            market,
            f"group {name!r}: observations of type {space.dtype}",
            "give the Box dtype=np.float32",
        )


def _check_action_space(market: Market, name: str, space: Any) -> None:
    what = f"group {name!r}: action space {space!s:.80}"
    if isinstance(space, gym.spaces.Discrete):
        if space.start != 0:
            refuse(
                market,
                f"{what} starts at {space.start}",
                "number actions from 0 and shift them in the market",
            )
        return
    if isinstance(space, gym.spaces.MultiDiscrete):
        if space.nvec.ndim != 1 or len(set(space.nvec.tolist())) != 1 or space.start.any():
            refuse(
                market,
                f"{what}, expected one dimension, as many choices in every branch, from 0",
                "give MultiDiscrete([n] * branches)",
            )
        return
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        refuse(
            market,
            f"{what}, expected Discrete, MultiDiscrete or a Box of one dimension",
            "use one of these",
        )
    for low, high in zip(space.low.tolist(), space.high.tolist(), strict=True):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            refuse(
                market,
                f"{what}: bounds must be finite and low < high",
                "give finite bounds; policies act inside them",
            )


def choices(space: gym.spaces.Discrete | gym.spaces.MultiDiscrete) -> int:
    """How many choices there are, in every branch where there are several."""
    return int(space.n if isinstance(space, gym.spaces.Discrete) else space.nvec[0])


def mask_width(space: gym.spaces.Discrete | gym.spaces.MultiDiscrete) -> int:
    """Entries of a mask: one for each choice of each branch."""
    return choices(space) * int(math.prod(space.shape))


def _check_choices(market: Market, name: str, group: AgentGroup) -> None:
    """A masked group's observations end with an entry for each choice of each branch."""
    space = group.action_space
    if not isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        refuse(
            market,
            f"group {name!r}: masked, with action space {space!s:.80}",
            "mask discrete choices only",
        )
    total = mask_width(space)
    (width,) = group.observation_space.shape
    if width <= total:
        refuse(
            market,
            f"group {name!r}: masked, with {width} entries in an observation and {total} choices",
            "let observations end with an entry for each choice",
        )


def check_observations(market: Market, observations: Mapping[str, Tensor]) -> None:
    """Observations of every group, float32 `[worlds, agents, *observation]` on the market's device.

    Raises:
        ContractError: what was found, what was expected, and how to mend it.
    """
    groups = market.groups
    worlds = market.worlds
    if not isinstance(observations, dict) or observations.keys() != groups.keys():
        _refuse_groups(market, "observations", observations)
    for name, group in groups.items():
        shape = (worlds, group.count, *group.observation_space.shape)
        _check(market, observations[name], shape, FLOAT, "observations", name)


def check_step(market: Market, step: Step) -> None:
    """All that a step returns has its groups, shapes, types and device.

    Raises:
        ContractError: what was found, what was expected, and how to mend it.
    """
    if not isinstance(step, Step):
        refuse(
            market,
            f"step() returned a {type(step).__name__}",
            "return a rl_markets.envs.market.Step",
        )
    check_observations(market, step.observations)
    groups = market.groups
    worlds = market.worlds
    rewards = step.rewards
    if not isinstance(rewards, dict) or rewards.keys() != groups.keys():
        _refuse_groups(market, "rewards", rewards)
    for name, group in groups.items():
        _check(market, rewards[name], (worlds, group.count), REWARD, "rewards", name)
    for what, mask in (("active", step.active), ("agent_done", step.agent_done)):
        if mask is not None:
            _check_mask(market, what, mask)
    if step.ended is not None:
        _check_ended(market, step.ended)


def _check_mask(market: Market, what: str, mask: Mapping[str, Tensor]) -> None:
    """Groups may be missing from a mask: all of their agents are active, none is done."""
    if not isinstance(mask, Mapping):
        _refuse_groups(market, what, mask)
    if not mask.keys() <= market.groups.keys():
        unknown = sorted(set(mask) - set(market.groups))
        refuse(
            market,
            f"{what}: unknown group {unknown[0]!r}",
            f"the market's groups are {', '.join(market.groups)}",
        )
    for name, value in mask.items():
        _check(market, value, (market.worlds, market.groups[name].count), BOOL, what, name)


def _check_ended(market: Market, ended: Ended) -> None:
    worlds = ended.worlds
    terminated = ended.terminated
    if not isinstance(worlds, Tensor) or worlds.dim() != 1 or not len(worlds):
        refuse(
            market,
            f"ended.worlds is {_shown(worlds)}, expected [ended]",
            "give indices; no Ended where none ended",
        )
    count = len(worlds)
    _check(market, worlds, (count,), INDEX, "ended.worlds")
    if worlds.device.type == "cpu":  # elsewhere this would wait for the device
        indices = worlds.tolist()
        ascending = sorted(set(indices)) == indices
        if indices[0] < 0 or indices[-1] >= market.worlds or not ascending:
            refuse(
                market,
                f"ended.worlds = {indices!s:.60}, expected ascending indices below {market.worlds}",
                "give each world once, as mask.nonzero().squeeze(-1) does",
            )
    _check(market, terminated, (count,), BOOL, "ended.terminated")
    last = ended.observations
    if not isinstance(last, Mapping) or last.keys() != market.groups.keys():
        _refuse_groups(market, "ended.observations", last)
    for name, group in market.groups.items():
        shape = (count, group.count, *group.observation_space.shape)
        _check(market, last[name], shape, FLOAT, "ended.observations", name)
    if ended.global_state is not None:
        check_global_state(market, ended.global_state, count, "ended.global_state")


def check_global_state(
    market: Market, state: Tensor, rows: int, what: str = "global_state()"
) -> None:
    """A global state is float32 `[rows, width]`.

    Raises:
        ContractError: what was found, what was expected, and how to mend it.
    """
    width = state.shape[-1] if isinstance(state, Tensor) and state.dim() == 2 else "width"
    _check(market, state, (rows, width), FLOAT, what)


# -- what it says ----------------------------------------------------------------------------------


def _check(
    market: Market,
    value: Tensor,
    shape: tuple[Any, ...],
    dtypes: tuple[torch.dtype, ...],
    what: str,
    group: str = "",
) -> None:
    """The fast path first; only what is not plainly right is looked at closely."""
    if (
        type(value) is Tensor
        and value.shape == shape
        and value.dtype in dtypes
        and value.device == market.device
        and not value.requires_grad
    ):
        return
    _check_closely(market, value, shape, dtypes, f"{what} of group {group!r}" if group else what)


def _check_closely(
    market: Market,
    value: Tensor,
    shape: tuple[Any, ...],
    dtypes: tuple[torch.dtype, ...],
    what: str,
) -> None:
    if not isinstance(value, Tensor):
        refuse(market, f"{what}: found a {type(value).__name__}", "give a torch tensor")
    if value.shape != shape:
        _refuse_shape(market, value, shape, what)
    if value.dtype not in dtypes:
        expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        actual = str(value.dtype).removeprefix("torch.")
        refuse(market, f"{what}: found {actual}, expected {expected}", f"end with .to({dtypes[0]})")
    # `cuda` means any of them, tensors say which.
    device = market.device
    if device.type != value.device.type or device.index not in (None, value.device.index):
        refuse(
            market,
            f"{what}: found on {value.device}, expected {device}",
            "create every tensor with device=self.device",
        )
    if value.requires_grad and not torch.is_grad_enabled():
        refuse(
            market,
            f"{what}: carries a gradient though gradients are off",
            "drop enable_grad and nn.Parameter from the step, or detach(): "
            "the graph would grow with every step",
        )


def _refuse_shape(market: Market, value: Tensor, shape: tuple[Any, ...], what: str) -> NoReturn:
    actual = list(value.shape)
    expected = f"[{', '.join(map(str, shape))}]"
    fix = "the axes are [worlds, agents, ...]"
    if len(shape) == 1:
        fix = "one entry for each world that ended"
    elif len(shape) == len(actual) and actual[1] != shape[1]:
        fix = f"give one row for each of the group's {shape[1]} agents, or set AgentGroup.count"
        if actual[1] == 1:
            fix = (
                f"give each of the {shape[1]} agents its own, "
                f"e.g. .expand(-1, {shape[1]}): it would be broadcast"
            )
    elif len(shape) == len(actual) == 3:
        fix = "give observation_space the shape that observe() returns, or the reverse"
    refuse(market, f"{what}: found shape {actual}, expected {expected}", fix)


def _refuse_groups(market: Market, what: str, value: Any) -> NoReturn:
    if not isinstance(value, Mapping):
        refuse(market, f"{what}: found a {type(value).__name__}", "give a dict: group -> tensor")
    missing = [name for name in market.groups if name not in value]
    unknown = [name for name in value if name not in market.groups]
    if not missing and not unknown:
        refuse(
            market, f"{what}: found a {type(value).__name__}", "give a plain dict: group -> tensor"
        )
    problems = [f"no entry for group {name!r}" for name in missing]
    problems += [f"unknown group {name!r}" for name in unknown]
    refuse(
        market,
        f"{what}: {', '.join(problems)}",
        f"give exactly the market's groups: {', '.join(market.groups)}",
    )


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}"
