"""The analytic learner as a service: what is refused, resumed bytes, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rl_markets.errors import RunFailedError
from rl_markets.experiment import load, parse
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.session import TrainingSession
from tests.support.experiment_files import FILES, refusal
from tests.support.horizons import analytic
from tests.support.orchard import orchard_experiment
from tests.support.running import tiny
from tests.support.training_runs import after_restoring, hashed, trainer

pytestmark = pytest.mark.usefixtures("ray_once")


# -- several policies ------------------------------------------------------------------------------


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.usefixtures("planted")
def test_a_co_state_needs_something_that_is_owned(tmp_path: Path) -> None:
    data = orchard_experiment(
        market={"name": "orchard", "worlds": 6, "parameters": {"owned": False}}
    )
    run = trainer(tmp_path, data)
    with pytest.raises(RunFailedError) as failure:
        run.train()
    assert "does not say what an agent of group 'growers' owns" in str(failure.value)
    assert "algorithm.parameters.critic: value" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_market_without_gradients_is_refused_before_anything_starts() -> None:
    path = next(file for file in FILES if file.stem == "pettingzoo-cournot")
    overrides = ["algorithm={name: analytic, parameters: {gamma: 0.9}}"]
    message = refusal(lambda: load(path, overrides), path)
    assert "algorithm.name = 'analytic': takes gradients through the market" in message
    assert "'pettingzoo' is not differentiable" in message


def test_a_horizon_must_divide_the_rollout() -> None:
    message = refusal(
        lambda: parse(analytic(horizon=3), "here"), "here: algorithm.parameters.horizon = 3"
    )
    assert "expected a divisor of training.rollout_length = 8" in message
    assert parse(analytic(horizon=8), "here")


def test_all_policies_share_the_horizon() -> None:
    data = analytic()
    data["policies"]["household"]["parameters"] = {"horizon": 2}
    message = refusal(lambda: parse(data, "here"), "here: policies.household.parameters.horizon")
    assert "all policies share it" in message


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("critic", "separate"), [("co-state", False), ("value", True)])
def test_a_resumed_run_ends_in_the_same_bytes(tmp_path: Path, critic: str, separate: bool) -> None:
    """Generator, slow critic and running average of the actor go on where they were."""
    run = trainer(tmp_path, analytic(critic=critic, separate=separate))
    expected = hashed(run)

    def again(spoil: Callable[[Any], None] | None = None) -> str:
        resumed = TrainingSession(run.run, Console(quiet=True))
        if spoil is not None:
            after_restoring(resumed, spoil)
        return hashed(resumed, run.store.path(4))

    def forget_the_slow_critic(learner: Any) -> None:
        module = learner.networks("household")
        module.target.load_state_dict(module.critic.state_dict())

    assert again() == expected
    if separate:
        return
    assert again(forget_the_slow_critic) != expected
    assert again(lambda learner: learner.generator.manual_seed(99)) != expected


@pytest.mark.usefixtures("planted")
def test_a_resumed_run_of_two_policies_ends_in_the_same_bytes(tmp_path: Path) -> None:
    run = trainer(tmp_path, orchard_experiment())
    expected = hashed(run)
    assert hashed(TrainingSession(run.run, Console(quiet=True)), run.store.path(1)) == expected


def closed_form(folder: Path, learning_rate: float, iterations: int) -> float:
    """Per cent from the closed form at the end of a short training."""
    data = tiny(
        algorithm={"name": "analytic"},
        training={"agent_steps": 32 * 16 * iterations, "rollout_length": 16},
    )
    data["market"]["worlds"] = 32
    data["market"]["parameters"] |= {"households": 1, "conduct": "strategic", "episode_length": 4}
    data["algorithm"]["parameters"] = {
        "learning_rate": learning_rate,
        "critic_learning_rate": 2e-2,
        "target_rate": 0.3,
        "horizon": 4,
        "averaging": 0.8,
    }
    data["training"] |= {"evaluate_every": iterations, "checkpoint_every": iterations}
    run = trainer(folder, data)
    run.train()
    return float(read_rows(run.run)[-1]["distance"])


def test_the_closed_form_is_learned_and_not_without_steps(tmp_path: Path) -> None:
    assert closed_form(tmp_path, 0.1, 30) < 2
    assert closed_form(tmp_path, 1e-7, 3) > 20
