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
from tests.attack import odd
from tests.attack.judge import Case, SilentError
from tests.support.experiment_files import FILES, content

ANSWERED = 60.0
"""Seconds until what was accepted is built and its known answer solved; refusals take far less."""


def cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Random changes of one to three fields of shipped files."""
    files = {path.stem: content(path) for path in FILES}
    fields = {name: [*odd.places(data), *_unset(data)] for name, data in files.items()}
    for _ in range(count):
        name = generator.choice(list(files))
        data = copy.deepcopy(files[name])
        said = []
        if generator.random() < 0.1:
            data["algorithm"] = {"name": generator.choice(odd.LEARNERS)}
            said.append(f"algorithm {data['algorithm']['name']}")
        if generator.random() < 0.1:
            policy = generator.choice(list(data["policies"].values()))
            policy[generator.choice(("separate", "central_critic"))] = True
        for path in generator.sample(fields[name], generator.choice((1, 1, 1, 2, 3))):
            value = odd.odd(odd.at(data, path), generator)
            if odd.put(data, path, value):
                said.append(odd.shown(path, value))
        words = f"{name}: {', '.join(said)}"
        yield Case("experiment files", words, partial(_attempt, data), seconds=ANSWERED)


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
    experiment.answer_key()
    parse(shrunk(experiment), "shrunk")
    return "built"


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
