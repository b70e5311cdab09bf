"""What a certificate costs: judged in the market itself, or with a trained deviator instead."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.speed import economy
from benchmarks.speed.rounds import Say, Work, cost, in_turns
from rl_markets import tune_configs
from rl_markets.certificate.best_response import deviation_gain
from rl_markets.certificate.certify import (
    DEVIATION_AGENT_STEPS,
    EVALUATION_SEED,
    assess,
    untrained,
)
from rl_markets.experiment import load
from rl_markets.exported import load as load_policy
from rl_markets.fixed_policies import profile
from rl_markets.judged import known_answer
from rl_markets.rllib.build import one_world
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from rl_markets.workflow import export

TARGET = 2.0
PLAY = "in the market itself"
DEVIATOR = "a trained deviator"


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Whole certificates of trained policies, by both ways in turns."""
    torch.set_num_threads(1)
    rows = []
    for name in economy.SIZE.certificates:
        with tempfile.TemporaryDirectory() as folder:
            sides = _sides(name, Path(folder))
            rates = in_turns(sides, seconds, economy.SIZE.certificate_rounds, say)
        rows.append(cost(name, DEVIATOR, rates[PLAY], rates[DEVIATOR], TARGET))
    steps = economy.SIZE.deviator_steps or DEVIATION_AGENT_STEPS
    note = f"a deviator learns for {steps:,} of its steps, once more where it has to be tested"
    return {"rows": rows, "notes": [note]}


def _sides(name: str, folder: Path) -> dict[str, Work]:
    """The answer key's own figures with either beside them."""
    file = Path(tune_configs.__path__[0]) / f"{name}.yaml"
    experiment = load(file, economy.SIZE.certificate)
    run = RunFolder.create(experiment, folder)
    export(run, TrainingSession(run, Console(quiet=True)).train())
    loaded = load_policy(run.path)
    trained = profile(experiment, loaded, one_world(experiment))
    control = untrained(experiment, loaded, trained)
    answer = known_answer(experiment, trained)
    assert answer is not None
    seeds = [EVALUATION_SEED + i for i in range(experiment.certificate.seeds)]
    length = economy.SIZE.deviator_steps or DEVIATION_AGENT_STEPS

    def in_play() -> int:
        assess(experiment, answer, trained, control, seeds)
        return 1

    def with_a_deviator() -> int:
        answer.assess(trained, control, seeds)
        for group in experiment.learning_groups:
            deviation_gain(run, experiment, loaded, group, control, seeds, length)
        return 1

    return {PLAY: in_play, DEVIATOR: with_a_deviator}
