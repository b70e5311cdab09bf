"""Experiment files with odd values at every place: refused in a line, or they can be built."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from rl_markets.conformance.examine import preflight
from rl_markets.experiment import Experiment, parse
from rl_markets.experiment.load import shrunk
from rl_markets.experiment.machine import check_machine
from rl_markets.rllib.build import algorithm_config, build_market
from tests.attack.judge import Case, SilentError
from tests.support.experiment_files import FILES, content

NUMBERS = (0, 1, -1, 2, 7, 10**3, 10**6, 10**9, 10**18, 2**63, 10**400)
REALS = (
    0.0,
    1.0,
    -1.0,
    0.5,
    1e-300,
    1e-12,
    1e-9,
    0.999999,
    1e9,
    1e12,
    1e300,
    float("nan"),
    float("inf"),
)
TEXTS = ("", "x", "/etc/passwd", "[/b]", "a:b", "ü\u2028", "x" * 10_000)
LEARNERS = ("ppo", "sac", "td3", "ddpg", "dqn", "analytic")
OTHERS: tuple[Any, ...] = (None, True, [], {}, [[]], {"a": 1})


def cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Random changes of one to three fields of shipped files."""
    files = {path.stem: content(path) for path in FILES}
    fields = {name: [*_leaves(data), *_unset(data)] for name, data in files.items()}
    for _ in range(count):
        name = generator.choice(list(files))
        data = copy.deepcopy(files[name])
        said = []
        if generator.random() < 0.1:
            data["algorithm"] = {"name": generator.choice(LEARNERS)}
            said.append(f"algorithm {data['algorithm']['name']}")
        if generator.random() < 0.1:
            policy = generator.choice(list(data["policies"].values()))
            policy[generator.choice(("separate", "central_critic"))] = True
        for path in generator.sample(fields[name], generator.choice((1, 1, 1, 2, 3))):
            value = _odd(_at(data, path), generator)
            if _put(data, path, value):
                said.append(f"{'.'.join(map(str, path))} = {str(value)[:40]}")
        yield Case("experiment files", f"{name}: {', '.join(said)}", partial(_attempt, data))


def _attempt(data: dict[str, Any]) -> str:
    experiment = parse(data, "here")
    check_machine(experiment)
    try:
        return built(experiment)
    except (Exception, SystemExit) as error:
        raise SilentError(f"check accepts it, but: {type(error).__name__}: {error}") from error


def built(experiment: Experiment) -> str:
    """What was accepted can be built as training does, and its market steps."""
    torch.set_num_threads(1)
    preflight(build_market(experiment, "cpu", 2))
    config = algorithm_config(experiment)
    market = build_market(experiment, "cpu", 1)
    groups = market.groups
    spaces = {}
    for policy, section in experiment.learned.items():
        first = groups[section.groups[0]]
        spaces[policy] = (first.observation_space, first.action_space)
    config.get_multi_rl_module_spec(spaces=spaces, inference_only=False).build()
    parse(shrunk(experiment), "shrunk")
    return "built"


def _leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value."""
    if path:
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        if key == "arguments":  # of foreign code, which may make of them what it likes
            continue
        if isinstance(value, dict | list):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _unset(data: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Paths of fields that the file leaves out."""
    from rl_markets.envs.registry import LEARNERS, MARKETS, find
    from rl_markets.experiment.sections import (
        CertificateSection,
        MarketSection,
        PolicySection,
        TrainingSection,
    )

    policy = next(iter(data["policies"]))
    models = {
        ("market",): MarketSection,
        ("training",): TrainingSection,
        ("certificate",): CertificateSection,
        ("policies", policy): PolicySection,
        ("market", "parameters"): find(MARKETS, data["market"]["name"]).parameters,
        ("algorithm", "parameters"): find(LEARNERS, data["algorithm"]["name"]).parameters,
    }
    return [(*path, name) for path, model in models.items() for name in model.model_fields]


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _put(data: Any, path: tuple[Any, ...], value: Any) -> bool:
    """Whether there was a place for it."""
    for key in path[:-1]:
        if isinstance(data, dict):
            data = data.setdefault(key, {})
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return False
    if isinstance(data, list) and not (isinstance(path[-1], int) and path[-1] < len(data)):
        return False
    if not isinstance(data, dict | list):
        return False
    data[path[-1]] = value
    return True


def _odd(value: Any, generator: random.Random) -> Any:
    """Something else in the place of `value`, often of its own type."""
    if generator.random() < 0.15:
        return generator.choice(OTHERS + TEXTS + NUMBERS + REALS)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return generator.choice((*NUMBERS, 3 * value + 1, value // 2))
    if isinstance(value, float):
        return generator.choice((*REALS, 3 * value, value / 7))
    if isinstance(value, str):
        return generator.choice(TEXTS + LEARNERS + ("pricing", "points", "fiscal"))
    if isinstance(value, list) and value:
        return generator.choice((value * 2, value[:-1], value[::-1], value * 1000))
    return generator.choice(OTHERS + NUMBERS + REALS)
