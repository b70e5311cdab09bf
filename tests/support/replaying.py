"""What the tests of learners that replay share."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from rl_markets.experiment import load, parse
from rl_markets.policies.actors import NetworkActor
from rl_markets.policies.offpolicy import RAW
from rl_markets.policies.replay import NEXT_OBSERVATIONS, NONTERMINAL
from rl_markets.policies.rollout import REWARDS, Fragment
from rl_markets.rllib.build import algorithm_config
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from tests.support.running import ROOT, tiny

Batch = dict[str, Tensor]


class Held:
    """Algorithms that stop in the end."""

    def __init__(self) -> None:
        self.algorithms: list[Any] = []

    def learner(self, data: dict[str, Any]) -> Any:
        algorithm = algorithm_config(parse(data, "test")).build_algo()
        self.algorithms.append(algorithm)
        return algorithm.learner_group._learner

    def fragment(self, number: int = 0) -> Fragment:
        """Experience of an algorithm's runner."""
        runner = self.algorithms[number].env_runner_group.local_env_runner
        fragment: Fragment = runner.sample()[0].fragments["household"]
        return fragment


def tiny_data(
    learner: str, separate: bool = False, households: int = 3, **parameters: Any
) -> dict[str, Any]:
    """The tiny experiment, learned by `learner`."""
    data = tiny(
        policies={"household": {"groups": ["households"], "hidden": [8], "separate": separate}}
    )
    data["market"]["parameters"]["households"] = households
    data["algorithm"] = {
        "name": learner,
        "parameters": {"updates": 5, "batch_size": 32, **parameters},
    }
    return data


def replayed(learner: Any, fragment: Fragment, rows: int = 16) -> Batch:
    """A batch out of a replay with that fragment.

    The values' statistics are set and some weights have moved.
    """
    learner._weights_seq_no = 1
    learner.learn({"household": fragment})
    batch: Batch = learner.replay["household"].sample(rows, torch.Generator().manual_seed(5))
    batch[NONTERMINAL] = (
        torch.arange(batch[NONTERMINAL].numel()).view_as(batch[NONTERMINAL]) % 3 != 0
    ).float()
    return batch


def set_apart(module: Any, batch: Batch) -> None:
    """Moves slow targets off what they follow, and twins so that each is the smaller in places."""
    with torch.no_grad():
        for network, seed in ((module.target, 3), (module.target_actor, 4)):
            generator = torch.Generator().manual_seed(seed)
            for weight in network.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        if module.target.ensemble == 2:
            one, two = module.values(
                module.target, batch[NEXT_OBSERVATIONS], torch.zeros_like(batch[RAW])
            )
            module.target.net.layers[-1].bias[::2] += (two - one).median()


def double(module: Any) -> Any:
    """A copy in double precision."""
    return copy.deepcopy(module).double()


def noise(learner: Any, batch: Batch, number: int) -> Tensor:
    """What the learner's generator draws next, at the `number`-th time.

    For the two raw actions of each row.
    """
    state = learner.generator.get_state()
    for _ in range(number):
        drawn = torch.randn((*batch[REWARDS].shape, 2), generator=learner.generator)
    learner.generator.set_state(state)
    return drawn


def gradients(learner: Any, batch: Batch) -> dict[str, list[Tensor]]:
    """What `improve` descends along, though nothing moves."""
    by_part: dict[str, list[Tensor]] = {}

    def keep(policy: str, *names: str) -> None:
        for name in names:
            weights, _, _ = learner.parts(policy)[name]
            by_part[name] = [w.grad.clone() for w in weights]
            for weight in weights:
                weight.grad = None

    optimizer_step = learner.optimizer_step
    learner.optimizer_step = keep
    state = learner.generator.get_state()
    module = learner.networks("household")
    before = copy.deepcopy(module.state_dict())
    learner.update_policy("household", batch, reporting=False)
    learner.generator.set_state(state)
    module.load_state_dict(before)
    learner.optimizer_step = optimizer_step
    return by_part


def take_agent(module: Any, stacked: Any, agent: int) -> None:
    """One agent's networks out of the stacks."""
    module.actor.load_state_dict(stacked.actor.of_agent(agent).state_dict())
    critics = stacked.critic.ensemble
    for network, stack in ((module.critic, stacked.critic), (module.target, stacked.target)):
        taken = {}
        for name, value in stack.state_dict().items():
            # Weights are stacked critic by critic, statistics agent by agent.
            copies = critics if value.dim() == 3 else 1
            own = slice(copies * agent, copies * (agent + 1))
            taken[name] = value if name == "updates" else value[own]
        network.load_state_dict(taken)
    if hasattr(module, "target_actor"):
        module.target_actor.load_state_dict(stacked.target_actor.of_agent(agent).state_dict())
    if hasattr(module, "log_alpha"):
        with torch.no_grad():
            module.log_alpha.copy_(stacked.log_alpha[agent : agent + 1])


def distances(folder: Path, name: str, agent_steps: int) -> tuple[float, float]:
    """Per cent from the known answer, before and after that much of a shipped experiment."""
    changes = [f"training.agent_steps={agent_steps}", "training.evaluate_every=5"]
    experiment = load(ROOT / "tune_configs" / f"{name}.yaml", changes)
    run = TrainingSession(RunFolder.create(experiment, folder), Console(quiet=True))
    run.train()
    answer = run.trainer.answer
    assert answer is not None
    untrained = torch.no_grad()(_untrained(run).act)
    trained = [row["distance"] for row in read_rows(run.run) if math.isfinite(row["distance"])]
    return answer.distance({"households": untrained}), trained[-1]


def _untrained(run: TrainingSession) -> NetworkActor:
    spec = algorithm_config(run.experiment).rl_module_spec.rl_module_specs["household"]
    actor = {**spec.model_config["actor"], "distribution": spec.module_class.distribution}
    return NetworkActor(actor, torch.Generator().manual_seed(spec.model_config["seed"]))
