"""Mutation testing of the shipped certificates: no policy made bad from the answer passes.

Here a few mutants of each; `make mutants` tries them all.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from rl_markets.certificate.mutants import Mutations
from rl_markets.envs.answer_key import AnswerKey, Assessment, Metric
from rl_markets.experiment import Experiment, load
from rl_markets.judged import as_judged
from rl_markets.rllib.build import one_world

ROOT = Path(__file__).parents[3]
TRIED = 5
"""Mutants of each experiment, evenly spread over all that there are."""


def shipped() -> list[str]:
    """A file for each market that is judged otherwise: learners do not matter here."""
    files = {}
    for file in sorted((ROOT / "tune_configs").glob("*.yaml")):
        judged = as_judged(load(file))
        key = judged.answer_key()
        if key is None or key.policies(one_world(judged)) is None:
            continue
        untold = {"episode_length", "initial_capital"}
        parameters = judged.market_parameters.model_dump(exclude=untold)
        files.setdefault((judged.market.name, str(parameters)), file.name)
    return list(files.values())


def mutations(experiment: Experiment) -> Mutations:
    key = experiment.answer_key()
    assert key is not None
    policies = key.policies(one_world(experiment))
    assert policies is not None
    return Mutations(experiment, key, policies)


@pytest.mark.parametrize("file", shipped())
def test_no_mutant_that_loses_more_than_the_limit_is_certified(file: str) -> None:
    torch.set_num_threads(1)
    experiment = as_judged(load(ROOT / "tune_configs" / file, ["certificate.seeds=2"]))
    tried = mutations(experiment)
    faults = list(tried.faults())
    step = max(1, len(faults) // TRIED)
    found = [tried.attempt(fault) for fault in islice(faults, step // 2, None, step)]
    assert [mutant for mutant in found if mutant.blind] == []
    assert any(mutant.verdict.startswith("refused") for mutant in found)


def test_a_certificate_that_looks_at_nothing_is_found_out() -> None:
    """The control of the controls: a judge that lets all pass has blind spots."""
    experiment = as_judged(load(ROOT / "tune_configs" / "pricing-gvr.yaml"))

    class Blind(AnswerKey):
        name = "a judge who looks away"
        complete = True

        def __init__(self, key: AnswerKey) -> None:
            self.key = key

        def tolerance(self, group: str) -> float | None:
            return self.key.tolerance(group)

        def distance(self, policies: object) -> float:
            return 0.0

        def assess(self, policies: object, untrained: object, seeds: list[int]) -> Assessment:
            return Assessment([Metric("loss", "loss", 0.0, limit=1.0)])

    key = experiment.answer_key()
    assert key is not None
    policies = key.policies(one_world(experiment))
    assert policies is not None
    tried = Mutations(experiment, Blind(key), policies)
    found = [tried.attempt(fault) for fault in islice(tried.faults(), 3)]
    assert any(mutant.blind for mutant in found)
