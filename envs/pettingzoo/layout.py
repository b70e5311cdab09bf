"""What a foreign environment holds: built once to ask for its agents and their spaces.

Imports no torch and no ray.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from rl_markets.envs.lookup import is_import_path
from rl_markets.envs.pettingzoo.spaces import MASK, Kind, branches, without_mask
from rl_markets.envs.registry import did_you_mean

DEFAULT_GROUP = "agents"


def layout(
    env: str, arguments: Mapping[str, Any], groups: Mapping[str, list[str]] | None
) -> dict[str, Kind]:
    """Group -> its agents, in order.

    The environment is built once for each `env`, `arguments` and `groups`.

    Args:
        env: `package.module:callable` that returns a ParallelEnv.
        arguments: of the callable.
        groups: group -> names or patterns of its agents; None puts agents with the same spaces
            together.

    Raises:
        ValueError: one line that starts with the parameter to blame.
    """
    return _asked(env, arguments, groups).kinds


def tells_state(
    env: str, arguments: Mapping[str, Any], groups: Mapping[str, list[str]] | None
) -> bool:
    """Whether the environment has a `state()` of its own; arguments as of `layout`."""
    return _asked(env, arguments, groups).tells_state


class _Asked(NamedTuple):
    """What an environment that was built tells."""

    kinds: dict[str, Kind]
    tells_state: bool


def _asked(
    env: str, arguments: Mapping[str, Any], groups: Mapping[str, list[str]] | None
) -> _Asked:
    # As text, which can be a key of the cache; `groups` unsorted, their order counts.
    return _ask(env, json.dumps(arguments, sort_keys=True), json.dumps(groups))


@functools.lru_cache(maxsize=64)
def _ask(path: str, arguments: str, groups: str) -> _Asked:
    from pettingzoo import ParallelEnv

    env = make(path, json.loads(arguments))
    try:
        own = type(env.unwrapped).state is not ParallelEnv.state
        return _Asked(_kinds(path, env, json.loads(groups)), own)
    finally:
        env.close()


def make(path: str, arguments: dict[str, Any]) -> Any:
    """Builds the `ParallelEnv` that `package.module:callable` returns.

    Raises:
        ValueError: one line that starts with `env` or `arguments`.
    """
    from pettingzoo import ParallelEnv

    build = _callable(path)
    where = f"env = {path!r}"
    try:
        inspect.signature(build).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"arguments: {error}; expected keyword arguments of {path}") from None
    with _one_line(f"{where}: cannot be built with arguments {arguments}"):
        env = build(**arguments)
    if not isinstance(env, ParallelEnv):
        bases = ", ".join(c.__name__ for c in type(env).__mro__[:-1])
        raise ValueError(
            f"{where}: returns {bases or type(env).__name__}: "
            "expected a pettingzoo.ParallelEnv, which acts all at once"
        )
    return env


def _callable(path: str) -> Callable[..., Any]:
    """What `package.module:callable` names; ValueError where there is no such thing."""
    where = f"env = {path!r}"
    if not is_import_path(path):
        raise ValueError(
            f"{where}: expected package.module:callable, such as my_package.my_env:parallel_env"
        )
    module_name, _, name = path.partition(":")
    with _one_line(f"{where}: cannot be imported (is it installed, or on PYTHONPATH?)"):
        module = importlib.import_module(module_name)
    build: Callable[..., Any] | None = getattr(module, name, None)
    if build is None:
        members = vars(module).items()
        builders = [n for n, value in members if callable(value) and "env" in n.lower()]
        raise ValueError(
            f"{where}: module {module_name!r} has no {name!r}{did_you_mean(name, builders)}"
        )
    if not callable(build):
        raise ValueError(
            f"{where}: is of type {type(build).__name__}: "
            "expected a callable that returns a ParallelEnv"
        )
    return build


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever foreign code raises, as a ValueError: what it said, and in which line."""
    try:
        yield
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = f" ({Path(frame.filename).name}, line {frame.lineno})"
        if frame.filename.startswith("<"):  # Python's own, such as <frozen importlib>
            line = ""
        raise ValueError(f"{what}: {type(error).__name__}: {said}{line}") from error


# -- groups ----------------------------------------------------------------------------------------


def _kinds(path: str, env: Any, patterns: dict[str, list[str]] | None) -> dict[str, Kind]:
    agents = list(getattr(env, "possible_agents", None) or [])
    if not agents:
        raise ValueError(
            f"env = {path!r}: has no possible_agents: "
            "expected a list of every agent that can appear"
        )
    spaces = {}
    for agent in agents:
        with _one_line(f"env = {path!r}: cannot tell the spaces of agent {agent!r}"):
            spaces[agent] = (env.observation_space(agent), env.action_space(agent))
        _check_spaces(path, agent, *spaces[agent])
    grouped = _by_spaces(spaces) if patterns is None else _by_patterns(path, agents, patterns)
    for group, (first, *others) in grouped.items():
        for other in others:
            if spaces[other] != spaces[first]:
                raise ValueError(
                    f"groups.{group}: agents {first!r} and {other!r} differ: "
                    f"{_shown(spaces[first])} and {_shown(spaces[other])}: "
                    "expected the same spaces in a group"
                )
    infos = _first_infos(env)
    return {group: _kind(members, *spaces[members[0]], infos) for group, members in grouped.items()}


def _kind(members: list[Any], observation: Any, action: Any, infos: Mapping[Any, Any]) -> Kind:
    """A group, and where its masks are told."""
    rest, observed = without_mask(observation, action)
    informed = branches(action) is not None and any(
        isinstance(infos.get(agent), Mapping) and MASK in infos[agent] for agent in members
    )
    mask_in = "observation" if observed else "info" if informed else None
    return Kind(tuple(members), rest, action, mask_in)


def _first_infos(env: Any) -> Mapping[Any, Any]:
    """Agent -> its info at a first reset; none where that breaks, which the market's own says."""
    try:
        _, infos = env.reset(seed=0)
    except Exception:
        return {}
    return infos if isinstance(infos, Mapping) else {}


def _shown(spaces: tuple[Any, Any]) -> str:
    return " -> ".join(map(_text, spaces))


def _text(space: Any) -> str:
    """A space in one short line; numpy breaks long bounds into several."""
    return " ".join(str(space).split())[:80]


def _by_spaces(spaces: dict[Any, tuple[Any, Any]]) -> dict[str, list[Any]]:
    """One group for each distinct pair of spaces."""
    groups: list[list[Any]] = []
    for agent, pair in spaces.items():
        for members in groups:  # spaces can be compared, but not be keys of a dict
            if spaces[members[0]] == pair:
                members.append(agent)
                break
        else:
            groups.append([agent])
    names = [DEFAULT_GROUP, *(f"{DEFAULT_GROUP}_{i}" for i in range(2, len(groups) + 1))]
    return dict(zip(names, groups, strict=True))


def _by_patterns(
    path: str, agents: list[Any], patterns: dict[str, list[str]]
) -> dict[str, list[Any]]:
    """The groups as the experiment names them; every agent is in exactly one."""
    owner: dict[Any, str] = {}
    names = [str(agent) for agent in agents[:20]]
    for group, wanted in patterns.items():
        for pattern in wanted:
            matched = [agent for agent in agents if fnmatchcase(str(agent), pattern)]
            if not matched:
                raise ValueError(
                    f"groups.{group}: {pattern!r} matches no agent of "
                    f"{path}{did_you_mean(pattern, names)}"
                )
            for agent in matched:
                if owner.setdefault(agent, group) != group:
                    raise ValueError(
                        f"groups.{group}: agent {agent!r} already belongs to group {owner[agent]!r}"
                    )
    for agent in agents:
        if agent not in owner:
            raise ValueError(
                f"groups: agent {agent!r} of {path} is in no group; expected every agent in one"
            )
    return {group: [agent for agent in agents if owner[agent] == group] for group in patterns}


# -- spaces ----------------------------------------------------------------------------------------


def _check_spaces(path: str, agent: Any, observation: Any, action: Any) -> None:
    """Observations can be flattened to numbers, and so can actions.

    Raises:
        ValueError: one line, for an agent's space of which this is not true.
    """
    import numpy as np
    from gymnasium import spaces

    where = f"env = {path!r}: agent {agent!r}"
    seen, _ = without_mask(observation, action)
    if (odd := _not_numbers(seen)) is not None or not spaces.flatdim(seen):
        raise ValueError(
            f"{where}: observation space {_text(odd or observation)}: "
            "expected Box, Discrete, MultiDiscrete, MultiBinary, "
            "or a Tuple or Dict of these, with at least one entry"
        )
    if branches(action):
        return
    box = isinstance(action, spaces.Box) and np.issubdtype(action.dtype, np.floating)
    bounds = np.concatenate([action.low.ravel(), action.high.ravel()]) if box else np.empty(0)
    if not bounds.size or not np.isfinite(bounds).all() or not (action.low < action.high).all():
        raise ValueError(
            f"{where}: action space {_text(action)}: "
            "expected Discrete, MultiDiscrete, MultiBinary, "
            "or a Box of real numbers with finite bounds, low < high"
        )


def _not_numbers(space: Any) -> Any:
    """The first part of an observation space that cannot be flattened, or None."""
    from gymnasium import spaces

    if isinstance(space, spaces.Tuple | spaces.Dict):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return next((odd for part in parts if (odd := _not_numbers(part)) is not None), None)
    plain = isinstance(
        space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    )
    return None if plain else space
