"""Shared and separate policies: stacked networks, as if each were alone, on several learners."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rl_markets import exported, workflow
from rl_markets.experiment import parse
from rl_markets.policies.actors import NetworkActor
from rl_markets.policies.gradient import clip_by_agent
from rl_markets.policies.networks import Critic
from rl_markets.policies.rollout import Fragment
from rl_markets.training.session import TrainingSession
from rl_markets.training.trainer import each_learner
from tests.support.populations import built_algorithm, cournot_experiment, metric_names
from tests.support.running import tiny
from tests.support.training_runs import after_each_save, trainer

pytestmark = pytest.mark.usefixtures("ray_once", "cournot")

ACTOR = {
    "observation": 3,
    "action": {"type": "box", "low": [0.0, -1.0], "high": [1.0, 1.0]},
    "hidden": [8, 8],
    "activation": "tanh",
    "log_std": -0.5,
    "trained_std": True,
    "copies": 5,
}


# -- stacked networks ------------------------------------------------------------------------------


def test_a_stacked_actor_is_its_agents_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    stacked = NetworkActor(ACTOR, generator)
    obs = torch.randn(4, 6, 5, 3, generator=generator)
    actions = stacked.act(obs)
    assert actions.shape == (4, 6, 5, 2)
    for agent in range(5):
        torch.testing.assert_close(
            stacked.of_agent(agent).act(obs[..., agent, :]), actions[..., agent, :]
        )
    assert not torch.allclose(stacked.of_agent(0).act(obs), stacked.of_agent(1).act(obs))


@pytest.mark.parametrize("copies", [None, 5])
@pytest.mark.parametrize("ensemble", [None, 2])
def test_new_statistics_leave_every_value_what_it_was(
    copies: int | None, ensemble: int | None
) -> None:
    generator = torch.Generator().manual_seed(1)
    critic = Critic(3, [8], "tanh", generator, copies=copies, ensemble=ensemble)
    for weights in critic.parameters():
        torch.nn.init.normal_(weights, generator=generator)
    obs = torch.randn(7, 5, 3, generator=generator)
    mean = torch.arange(5.0) if copies else torch.tensor(3.0)
    critic.renormalize(mean, torch.ones_like(mean) * 2)
    before = critic(obs).detach()
    assert before.shape == ((2, 7, 5) if ensemble else (7, 5))
    critic.renormalize(10 + mean, torch.ones_like(mean), decay=0.5)
    torch.testing.assert_close(critic(obs).detach(), before, rtol=1e-4, atol=1e-4)
    assert float(critic.shift.mean()) > float(mean.mean()) + 4


def test_gradients_are_clipped_agent_by_agent() -> None:
    """As if each agent were clipped alone, by torch's own function."""
    generator = torch.Generator().manual_seed(2)
    shapes = [(5, 3, 8), (5, 1, 8), (10, 8, 1)]  # the last is an ensemble of two
    gradients = [torch.randn(s, generator=generator) for s in shapes]
    alone = []
    for agent in range(5):
        mine = [g.reshape(5, -1)[agent].clone() for g in gradients]
        parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in mine]
        for p, g in zip(parameters, mine, strict=True):
            p.grad = g * (1e-3 if agent == 0 else 1.0)
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        alone.append([p.grad for p in parameters])
    for g in gradients:
        g.view(5, -1)[0] *= 1e-3  # small enough to be left alone
    clip_by_agent(gradients, 5, 0.5)
    for agent in range(5):
        for g, expected in zip(gradients, alone[agent], strict=True):
            torch.testing.assert_close(g.reshape(5, -1)[agent], expected, rtol=1e-5, atol=1e-7)


# -- separate policies learn as if each were alone -------------------------------------------------


def _alone(fragment: Fragment, agent: int, agents: int) -> Fragment:
    """One agent's trajectories, as a shared policy of one agent would have them."""
    mine = torch.arange(agent, fragment.trajectories, agents)
    columns = {n: c[:, mine] for n, c in fragment.columns.items()}
    keep = fragment.ends.trajectory % agents == agent
    ends = copy.copy(fragment.ends)
    ends = type(ends)(
        ends.step[keep],
        ends.trajectory[keep] // agents,
        ends.terminated[keep],
        ends.observations[keep],
    )
    return Fragment(columns, ends, torch.arange(len(mine)))


def test_each_separate_policy_learns_as_if_it_were_alone(tmp_path: Path) -> None:
    """The stacked update equals an ordinary one for every agent.

    On its own rows and from its own weights.
    """
    together = tiny(
        policies={"household": {"groups": ["households"], "hidden": [8], "separate": True}}
    )
    single = tiny(market={"parameters": {**tiny()["market"]["parameters"], "households": 1}})
    stacked, alone = (built_algorithm(parse(data, "test")) for data in (together, single))
    try:
        fragment = stacked.env_runner_group.local_env_runner.sample()[0].fragments["household"]
        many = stacked.learner_group._learner
        one = alone.learner_group._learner
        start = copy.deepcopy(many.networks("household"))
        generators = [copy.deepcopy(x.generator.get_state()) for x in (many, one)]
        many._weights_seq_no = 1
        many.learn({"household": fragment})
        for agent in range(3):
            _take_weights(one.networks("household"), start, agent)
            _reset_optimizers(one)
            one.generator.set_state(generators[0])
            one._weights_seq_no = 1
            one.learn({"household": _alone(fragment, agent, 3)})
            expected = one.networks("household").actor
            actor = many.networks("household").actor.of_agent(agent)
            for name, value in expected.state_dict().items():
                torch.testing.assert_close(
                    actor.state_dict()[name], value, rtol=2e-3, atol=2e-5, msg=f"{agent} {name}"
                )
            assert not torch.equal(
                start.actor.of_agent(agent).state_dict()["net.0.weight"], expected.net[0].weight
            )
    finally:
        stacked.stop()
        alone.stop()


def _take_weights(module: Any, stacked: Any, agent: int) -> None:
    """One agent's actor and critic out of the stack.

    The critic's statistics are untouched so far.
    """
    module.actor.load_state_dict(stacked.actor.of_agent(agent).state_dict())
    module.ema.load_state_dict(module.actor.state_dict())
    weights = stacked.critic.state_dict()
    taken = {}
    for name, value in weights.items():
        plain = name.replace("net.layers.", "net.").replace("linear.layers.0.", "linear.")
        if value.dim() == 3:
            value = value[agent].T if name.endswith("weight") else value[agent, 0]
        taken[plain] = value[agent : agent + 1] if name in ("shift", "scale") else value
    module.critic.load_state_dict(taken)


def _reset_optimizers(learner: Any) -> None:
    for _, optimizer in learner.get_optimizers_for_module("household"):
        optimizer.state.clear()


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "td3"])
def test_separate_policies_train_export_resume_and_are_certified(
    tmp_path: Path, algorithm: str
) -> None:
    """A mixture: the incumbents have a policy each, the entrants share one."""
    data = cournot_experiment(
        old={"groups": ["incumbents"], "separate": True, "hidden": [8]},
        new={"groups": ["entrants"], "hidden": [8]},
    )
    if algorithm != "ppo":
        data["algorithm"] = {
            "name": algorithm,
            "parameters": {"gamma": 0.5, "updates": 4, "batch_size": 16},
        }
    data["certificate"] = {"seeds": 2, "deviation_agent_steps": 8 * 8 * 4}
    run = workflow.train(parse(data, "test"), tmp_path)
    loaded = exported.load(run.path)
    assert loaded.actors["old"].spec["copies"] == 2
    assert loaded.actors["new"].spec["copies"] is None
    assert loaded.act(np.zeros((6, 2, 1)), "incumbents").shape == (6, 2, 1)
    with pytest.raises(ValueError, match=r"expected \[..., 2, 1\]"):
        loaded.act(np.zeros((6, 1)), "incumbents")
    assert {"quantity_error/incumbents", "best_response_gain/trained/entrants"} <= metric_names(run)
    again = TrainingSession(run, Console(quiet=True))
    again.train(run.checkpoints.path(2))
    resumed = exported.load(_exported(again, tmp_path / "resumed"))
    for name in ("old", "new"):
        for key, value in loaded.actors[name].state_dict().items():
            assert torch.equal(value, resumed.actors[name].state_dict()[key]), (name, key)


def _exported(run: TrainingSession, folder: Path) -> Path:
    """The final checkpoint's policies, exported; `train` has stopped the algorithm by now."""
    fresh = TrainingSession(run.run, Console(quiet=True))
    fresh.trainer.algorithm = built_algorithm(run.experiment)
    try:
        fresh.trainer.restore(run.store.path(run.experiment.iterations))
        spec = {
            "policies": {n: {"groups": list(s.groups)} for n, s in run.experiment.policies.items()}
        }
        exported.export(folder, fresh.trainer.actors(), spec)
    finally:
        fresh.trainer.algorithm.stop()
    return folder


# -- several learners ------------------------------------------------------------------------------


@pytest.mark.parametrize("separate", [False, True])
def test_two_learners_take_the_steps_of_one(tmp_path: Path, separate: bool) -> None:
    """On the same data: whole-batch steps, so that nothing depends on how rows are shuffled."""
    weights = []
    for learners in (0, 2):
        data = tiny(
            policies={"household": {"groups": ["households"], "hidden": [8], "separate": separate}},
            algorithm={"parameters": {"epochs": 1, "minibatches": 1}},
            training={"learners": learners, "agent_steps": 4 * 8 * 3},
        )
        weights.append(trainer(tmp_path, data).train()["household"].state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6)


def test_the_temperature_is_equal_on_all_learners_and_kept_in_checkpoints(tmp_path: Path) -> None:
    data = tiny(training={"learners": 2, "checkpoint_every": 3})
    data["algorithm"] = {"name": "sac", "parameters": {"updates": 3, "batch_size": 16}}
    run = trainer(tmp_path, data)
    temperatures: list[list[float]] = []

    def note(algorithm: Any) -> None:
        temperatures.append(
            each_learner(algorithm, lambda x: float(x.networks("household").log_alpha))
        )

    after_each_save(run, note)
    run.train()
    assert all(a == b for a, b in temperatures)
    assert temperatures[0] != temperatures[-1]
    again = built_algorithm(run.experiment)
    try:
        again.restore_from_path(str((run.store.path(3) / "algorithm").resolve()))
        restored = each_learner(again, lambda x: float(x.networks("household").log_alpha))
    finally:
        again.stop()
    assert restored == temperatures[0]
