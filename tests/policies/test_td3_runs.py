"""TD3 and DDPG: separate policies, resuming, several learners, and that they learn."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from rl_markets.training.session import TrainingSession
from rl_markets.training.trainer import each_learner
from tests.support.replaying import (
    Batch,
    Held,
    distances,
    replayed,
    set_apart,
    take_agent,
    tiny_data,
)
from tests.support.training_runs import after_each_save, after_restoring, trainer

pytestmark = pytest.mark.usefixtures("ray_once")


# -- separate policies -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_each_separate_policy_is_updated_as_if_it_were_alone(
    held: Held, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Four whole steps of the stack, and of each agent's own networks.

    Critics, actor, clipping, Adam, targets.
    """
    many = held.learner(tiny_data(name, separate=True))
    one = held.learner(tiny_data(name, households=1))
    batch = replayed(many, held.fragment())
    critics = many.networks("household").critic.ensemble
    stacked = many.networks("household")
    alone = one.networks("household")
    set_apart(stacked, batch)
    start = copy.deepcopy(stacked)
    drawn = torch.randn((16, 3, 2), generator=torch.Generator().manual_seed(8))
    _four_steps(monkeypatch, many, batch, drawn)
    for agent in range(3):
        take_agent(alone, start, agent)
        own_batch = {name: column[:, agent] for name, column in batch.items()}
        _four_steps(monkeypatch, one, own_batch, drawn[:, agent])
        for part in ("actor", "target_actor"):
            expected = getattr(alone, part).state_dict()
            weights = getattr(stacked, part).of_agent(agent).state_dict()
            for weight, value in expected.items():
                torch.testing.assert_close(
                    weights[weight], value, rtol=2e-3, atol=2e-5, msg=f"{agent} {part} {weight}"
                )
        for part in ("critic", "target"):
            networks = (getattr(stacked, part), getattr(alone, part))
            for mine, own in zip(*(x.parameters() for x in networks), strict=True):
                of_agent = mine[critics * agent : critics * (agent + 1)]
                message = f"{agent} {part}"
                torch.testing.assert_close(of_agent, own, rtol=2e-3, atol=2e-5, msg=message)
        assert not torch.equal(start.actor.of_agent(agent).net[0].weight, alone.actor.net[0].weight)
        other = stacked.actor.of_agent((agent + 1) % 3).net[0].weight
        own = alone.actor.net[0].weight
        assert not torch.allclose(other, own, rtol=1e-2), "another agent's are others"


def _four_steps(monkeypatch: pytest.MonkeyPatch, learner: Any, batch: Batch, drawn: Tensor) -> None:
    """From fresh optimizers, with given noise."""
    for _, optimizer in learner.get_optimizers_for_module("household"):
        optimizer.state.clear()
    with monkeypatch.context() as patched:
        patched.setattr("rl_markets.policies.td3.learner.torch.randn", lambda *_, **__: drawn)
        for learner.gradient_step in range(4):
            learner.update_policy("household", batch, reporting=False)


# -- checkpoints -----------------------------------------------------------------------------------


def _trained(run: TrainingSession, checkpoint: Path | None = None) -> dict[str, Tensor]:
    """All of the learner's networks at the end of a run."""
    weights: dict[str, Tensor] = {}

    def note(algorithm: Any) -> None:
        state = algorithm.learner_group._learner.networks("household").state_dict()
        weights.update({name: value.clone() for name, value in state.items()})

    after_each_save(run, note)
    run.train(checkpoint)
    return weights


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_a_resumed_run_ends_in_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Five steps an iteration and a delay of three.

    The count must go on where it was, as must the slow actor.
    """
    data = tiny_data(name, **({"policy_delay": 3} if name == "td3" else {}), batch_size=16)
    run = trainer(tmp_path, data)
    whole = _trained(run)
    assert any(part.startswith("target_actor.") for part in whole)

    def again(spoil: Any = None) -> dict[str, Tensor]:
        resumed = TrainingSession(run.run, Console(quiet=True))
        if spoil is not None:
            after_restoring(resumed, spoil)
        return _trained(resumed, run.store.path(4))

    assert _equal(again(), whole)

    def forget_the_slow_actor(learner: Any) -> None:
        module = learner.networks("household")
        module.target_actor.load_state_dict(module.actor.state_dict())

    assert not _equal(again(forget_the_slow_actor), whole)


def _equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(value, two[name]) for name, value in one.items()
    )


def test_two_learners_have_the_same_networks(tmp_path: Path) -> None:
    data = tiny_data("td3", separate=True, updates=3, batch_size=16)
    data["training"]["learners"] = 2
    run = trainer(tmp_path, data)
    sums: list[list[list[float]]] = []
    # A lambda travels to the learners as it is.
    weight_sums = lambda learner: [  # noqa: E731
        float(value.double().sum()) for value in learner.networks("household").state_dict().values()
    ]
    after_each_save(run, lambda algorithm: sums.append(each_learner(algorithm, weight_sums)))
    run.train()
    assert all(one == two for one, two in sums)
    assert sums[0] != sums[-1]


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_the_closed_form_is_learned(tmp_path: Path, name: str) -> None:
    """A part of the shipped training brings the policy near the known answer.

    From almost 200 % off to some per cent.
    """
    before, after = distances(tmp_path, f"households-full-depreciation-{name}", agent_steps=81_920)
    assert before > 50
    assert after < 15
