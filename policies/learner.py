"""The RLlib learner that takes rollouts: what on-policy and off-policy learners share."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from typing import Any, Generic, TypeVar

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import ALL_MODULES, NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor

from rl_markets.errors import LearnerError
from rl_markets.policies.rollout import Fragment, concatenate
from rl_markets.policies.spec import LearnerParameters

LEARN_SECONDS = "learn_seconds"

P = TypeVar("P", bound=LearnerParameters)
"""The parameters of a learner, one typed line each."""


class RolloutLearner(TorchLearner, Generic[P]):  # type: ignore[misc]
    """Base of every learner, with or without gradients. Subclasses write `learn`.

    `config.learner_config_dict` holds `policies` (policy -> its parameters, as in the experiment
    file) and `total_env_steps`, the length of training. Several learners average their gradients;
    each has its own generator.

    Attributes:
        progress: share of training that is over, in [0, 1].
        states: the market's states of the rollout, `[times, worlds, ...]`; empty where the learner
            wants none.
    """

    def build(self) -> None:
        """Seeds the learner's own generator (minibatches, replay)."""
        super().build()
        self.generator = torch.Generator(self._device).manual_seed(
            (self.config.seed or 0) + 7919 * self.rank
        )
        self.progress = 0.0
        self.states: dict[str, Tensor] = {}

    @property
    def learned(self) -> dict[str, P]:
        """Policy -> its parameters, of all policies that learn."""
        learned: dict[str, P] = self.config.learner_config_dict["policies"]
        return learned

    def parameters(self, policy: str) -> P:
        """A policy's parameters, as in the experiment file."""
        return self.learned[policy]

    def scheduled(self, policy: str, name: str) -> float:
        """The value, now, of a parameter `name` that goes linearly to `final_name` over training.

        It stays what it is where `final_name` is null.
        """
        p = self.parameters(policy)
        start: float = getattr(p, name)
        end: float | None = getattr(p, f"final_{name}")
        if end is None:
            return start
        return start + (end - start) * self.progress

    @property
    def common(self) -> P:
        """The first policy's parameters; for those that all policies have in common."""
        return next(iter(self.learned.values()))

    def networks(self, policy: str) -> Any:
        """A policy's `MarketModule`."""
        return self.module[policy].unwrapped()

    @property
    def rank(self) -> int:
        """This learner's number among the learners, from 0."""
        return torch.distributed.get_rank() if self.config.num_learners > 1 else 0

    def update(
        self,
        *args: Any,
        training_data: TrainingData | None = None,
        episodes: list[Any] | None = None,
        timesteps: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Learns from rollouts, in the place of RLlib's own minibatch loop.

        RLlib gives every module the same minibatch size and cycles small ones through extra epochs;
        here each policy goes through the same number of epochs, in the same number of equal slices.
        """
        data = training_data or TrainingData(episodes=episodes)
        data.solve_refs()
        steps = (timesteps or {}).get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        self.progress = min(1.0, steps / self.config.learner_config_dict["total_env_steps"])
        self.before_gradient_based_update(timesteps=timesteps or {})
        self._weights_seq_no += 1

        started = time.perf_counter()
        rollouts = [rollout.to(self._device) for rollout in data.episodes]
        # states lie time by time: several runners' worlds side by side
        self.states = {
            name: torch.cat([rollout.states[name] for rollout in rollouts], 1)
            for name in rollouts[0].states
        }
        fragments = {
            policy: concatenate([rollout.fragments[policy] for rollout in rollouts])
            for policy in rollouts[0].fragments
        }
        self.learn(fragments)
        self.after_gradient_based_update(timesteps=timesteps or {})
        self.metrics.log_value(
            (ALL_MODULES, LEARN_SECONDS), time.perf_counter() - started, window=1
        )
        return self.metrics.reduce()

    @abstractmethod
    def learn(self, fragments: dict[str, Fragment]) -> None:
        """Updates the networks from each policy's fragment."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """No optimizer: a learner that follows gradients says which weights have which."""

    def compute_loss_for_module(self, **_: Any) -> Tensor:
        """RLlib's hook for its own minibatch loop, which is not used."""
        raise NotImplementedError("rollout learners compute their losses in `learn`")

    # -- metrics and state -------------------------------------------------------------------------

    def report(self, policy: str, metrics: dict[str, Tensor]) -> None:
        """Logs the metrics of one update, once; those of separate policies as their mean.

        Raises:
            LearnerError: where a metric is not finite.
        """
        for name, metric in metrics.items():
            value = float(metric.mean())
            if not math.isfinite(value):
                raise LearnerError(
                    f"policy {policy!r}: {name} is {value} at {self.progress:.0%} of training; "
                    "lower algorithm.parameters.learning_rate, or look for unbounded observations "
                    "or rewards"
                )
            self.metrics.log_value((policy, name), value, window=1)

    def private_state(self) -> dict[str, Tensor]:
        """What each learner has of its own and a resumed run needs.

        RLlib saves and restores the first learner only.
        """
        return {"generator": self.generator.get_state()}

    def load_private_state(self, saved: dict[str, Tensor]) -> None:
        """The reverse of `private_state`."""
        self.generator.set_state(saved["generator"])

    # -- over all learners -------------------------------------------------------------------------

    def total(self, x: Tensor) -> Tensor:
        """The sum of `x` over learners, in place."""
        if self.config.num_learners > 1:
            torch.distributed.all_reduce(x)
        return x

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the rows of all learners.

        Args:
            x: `[rows]`, or `[rows, agents]` where policies are separate.

        Returns:
            Both `[]`, or `[agents]`.
        """
        count = self.total(torch.tensor(float(len(x)), device=x.device))
        mean = self.total(x.sum(0)) / count
        variance = self.total((x - mean).square().sum(0)) / count
        return mean, variance.sqrt()
