"""The RLlib learner that takes rollouts: what on-policy and off-policy learners share."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import ALL_MODULES, NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor
from torch.optim.adam import adam

from rl_markets.errors import LearnerError
from rl_markets.policies.rollout import ACTED, Fragment, concatenate

LEARN_SECONDS = "learn_seconds"

Batch = dict[str, Tensor]
"""Columns of one policy: `[rows, ...]`, or `[rows, agents, ...]` where each agent has a policy of its own."""


class RolloutLearner(TorchLearner):  # type: ignore[misc]
    """Base of every learner. Subclasses write `learn` and `parts`.

    `config.learner_config_dict` holds `policies` (policy -> its parameters, as in the experiment file) and
    `total_env_steps`, the length of training. Several learners average their gradients; each has its own generator.
    """

    epsilon: ClassVar[float] = 1e-5
    """Adam's; gradients well below it move weights less than the step size says."""

    def build(self) -> None:
        """Seeds the learner's own generator (minibatches, replay)."""
        super().build()
        self.generator = torch.Generator(self._device).manual_seed((self.config.seed or 0) + 7919 * self.rank)
        self.progress = 0.0
        self.states: dict[str, Tensor] = {}

    def parameters(self, policy: str) -> dict[str, Any]:
        """A policy's parameters, as in the experiment file."""
        return self.config.learner_config_dict["policies"][policy]  # type: ignore[no-any-return]

    def scheduled(self, policy: str, name: str) -> float:
        """The value, now, of a parameter `name` that goes to `final_name` over training, linearly; null keeps it."""
        p = self.parameters(policy)
        start, end = p[name], p[f"final_{name}"]
        now: float = start if end is None else start + (end - start) * self.progress
        return now

    @property
    def common(self) -> dict[str, Any]:
        """The first policy's parameters; for those that all policies have in common."""
        return next(iter(self.config.learner_config_dict["policies"].values()))  # type: ignore[no-any-return]

    def networks(self, policy: str) -> Any:
        """A policy's `MarketModule`."""
        return self.module[policy].unwrapped()

    @property
    def rank(self) -> int:
        """This learner's number among the learners, from 0."""
        return torch.distributed.get_rank() if self.config.num_learners > 1 else 0

    def update(
        self, *args: Any, training_data: TrainingData | None = None, episodes: list[Any] | None = None,
        timesteps: dict[str, Any] | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Learns from rollouts, in the place of RLlib's own minibatch loop.

        RLlib gives every module the same minibatch size and cycles small ones through extra epochs; here each policy
        goes through the same number of epochs, in the same number of equal slices.
        """
        data = training_data or TrainingData(episodes=episodes)
        data.solve_refs()
        steps = (timesteps or {}).get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        self.progress = min(1.0, steps / self.config.learner_config_dict["total_env_steps"])
        self.before_gradient_based_update(timesteps=timesteps or {})
        self._weights_seq_no += 1
        started = time.perf_counter()
        rollouts = [rollout.to(self._device) for rollout in data.episodes]
        policies = rollouts[0].fragments
        self.states = {n: torch.cat([r.states[n] for r in rollouts], 1) for n in rollouts[0].states}
        self.learn({p: concatenate([r.fragments[p] for r in rollouts]) for p in policies})
        self.after_gradient_based_update(timesteps=timesteps or {})
        self.metrics.log_value((ALL_MODULES, LEARN_SECONDS), time.perf_counter() - started, window=1)
        return self.metrics.reduce()

    @abstractmethod
    def learn(self, fragments: dict[str, Fragment]) -> None:
        """Updates the networks from each policy's fragment."""

    @abstractmethod
    def parts(self, policy: str) -> dict[str, tuple[list[Tensor], float, float]]:
        """Name -> (trained weights, step size at the start, and at the end of training); an optimizer for each."""

    # -- minibatches ---------------------------------------------------------------------------------------------

    def slices(self, batches: dict[str, Batch], count: int) -> Iterator[dict[str, Batch]]:
        """One epoch: every policy's rows in random order, in `count` equal slices."""
        shuffled = {p: self._shuffled(batch, count) for p, batch in batches.items()}
        for i in range(count):
            yield {p: parts[i] for p, parts in shuffled.items()}

    def _shuffled(self, batch: Batch, count: int) -> list[Batch]:
        """The rows in random order."""
        order = torch.randperm(len(next(iter(batch.values()))), generator=self.generator, device=self._device)
        parts: list[Batch] = [{} for _ in range(count)]
        for name, column in batch.items():
            for part, piece in zip(parts, column.index_select(0, order).tensor_split(count), strict=True):
                part[name] = piece
        return parts

    def mean(self, x: Tensor, batch: Batch) -> Tensor:
        """The mean of `x` over rows; where policies are separate, the sum of each agent's own mean over its own steps.

        Every agent's gradient is then that of its own loss, whatever the number of agents.
        """
        if x.dim() == 1:
            return x.mean()
        if ACTED not in batch:
            return x.mean(0).sum()
        acted = batch[ACTED]
        return ((x * acted).sum(0) / acted.sum(0).clamp_min(1)).sum()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the rows of all learners: `[]`, or `[agents]` where policies are separate."""
        count = self.total(torch.tensor(float(len(x)), device=x.device))
        mean = self.total(x.sum(0)) / count
        return mean, (self.total((x - mean).square().sum(0)) / count).sqrt()

    def average(self, policy: str) -> None:
        """Moves the averaged actor, at the end of an iteration."""
        early = self._weights_seq_no / (self._weights_seq_no + 9)  # a short memory while everything still moves
        self.networks(policy).average(min(self.parameters(policy)["averaging"], early))

    # -- gradient steps ------------------------------------------------------------------------------------------

    def descend(self, policy: str, *names: str) -> None:
        """A step of the named optimizers along the gradients that lie on their weights, averaged and clipped.

        The same arithmetic as RLlib's `postprocess_gradients` and `apply_gradients`, without their per-parameter
        loops: at these network sizes the loops cost a quarter of an update.
        """
        copies, largest = self.networks(policy).actor.spec.get("copies"), self.parameters(policy)["gradient_clip"]
        for name in names:
            optimizer = self.get_optimizer(policy, name)
            weights = self._optimizer_parameters[optimizer]
            gradients = [w.grad for w in weights]
            if self.config.num_learners > 1:
                self._average(gradients)
            if copies is None:
                fused_adam(optimizer, excess(gradients, largest))
            else:
                clip_by_agent(gradients, copies, largest)
                fused_adam(optimizer)
            for weight in weights:
                weight.grad = None

    def _average(self, gradients: list[Tensor]) -> None:
        """The mean over learners, in one message. No DDP: it ties a backward pass to one forward pass through a module."""
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.config.num_learners
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def _make_modules_ddp_if_necessary(self) -> None:
        """Gradients are averaged in `descend`."""

    def total(self, x: Tensor) -> Tensor:
        """The sum of `x` over learners."""
        if self.config.num_learners > 1:
            torch.distributed.all_reduce(x)
        return x

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam for each part of the module, so that each has its own step size and gradient norm."""
        total = self.config.learner_config_dict["total_env_steps"]
        for name, (weights, start, end) in self.parts(module_id).items():
            self.register_optimizer(
                module_id=module_id, optimizer_name=name, optimizer=torch.optim.Adam(weights, eps=self.epsilon, fused=True),
                params=weights, lr_or_lr_schedule=[[0, start], [total, end]],
            )  # fmt: skip

    def compute_loss_for_module(self, **_: Any) -> Tensor:
        """RLlib's hook for its own minibatch loop, which is not used."""
        raise NotImplementedError("rollout learners compute their losses in `learn`")

    # -- figures and state ---------------------------------------------------------------------------------------

    def report(self, policy: str, figures: dict[str, Tensor]) -> None:
        """Logs the figures of one update, once; those of separate policies as their mean.

        Raises:
            LearnerError: where a figure is not finite.
        """
        for name, figure in figures.items():
            value = float(figure.mean())
            if not math.isfinite(value):
                raise LearnerError(
                    f"policy {policy!r}: {name} is {value} at {self.progress:.0%} of training; "
                    "lower algorithm.parameters.learning_rate, or look for unbounded observations or rewards"
                )
            self.metrics.log_value((policy, name), value, window=1)

    def private_state(self) -> dict[str, Tensor]:
        """What each learner has of its own and a resumed run needs: RLlib saves and restores the first learner only."""
        return {"generator": self.generator.get_state()}

    def load_private_state(self, saved: dict[str, Tensor]) -> None:
        """The reverse of `private_state`."""
        self.generator.set_state(saved["generator"])


class ActorCriticLearner(RolloutLearner):
    """Base of learners whose modules have an `actor` and a `critic` (one or several in a stack)."""

    def parts(self, policy: str) -> dict[str, tuple[list[Tensor], float, float]]:
        """Actor and critic; both step sizes fall in the same proportion."""
        p, module = self.parameters(policy), self._module[policy].unwrapped()
        falls = p["final_learning_rate"] / p["learning_rate"]
        critic = p["critic_learning_rate"]
        return {
            "actor": (list(module.actor.parameters()), p["learning_rate"], p["final_learning_rate"]),
            "critic": (list(module.critic.parameters()), critic, critic * falls),
        }


def excess(gradients: list[Tensor], largest: float) -> Tensor:
    """By how much the gradients' common norm exceeds `largest`, as a factor of at least 1."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor: Tensor = (norm / largest).clamp_min_(1.0)
    return factor


@torch.no_grad()
def fused_adam(optimizer: torch.optim.Adam, divisor: Tensor | None = None) -> None:
    """Adam's step in one call: around the same kernel torch's own spends three times its time in Python.

    Args:
        optimizer: with `fused=True` and one group of weights, all of which have gradients; its state stays torch's own.
        divisor: of the gradients.
    """
    (group,) = optimizer.param_groups
    weights = group["params"]
    gradients = [w.grad for w in weights]
    if weights[0] not in optimizer.state:  # the first step: torch sets its state up
        if divisor is not None:
            torch._foreach_div_(gradients, divisor)
        optimizer.step()
        return
    state = [optimizer.state[w] for w in weights]
    beta1, beta2 = group["betas"]
    adam(
        weights, gradients, [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [], [s["step"] for s in state],
        fused=True, lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=0.0, eps=group["eps"],
        amsgrad=False, maximize=False, grad_scale=divisor,
    )  # fmt: skip


def clip_by_agent(gradients: list[Tensor], agents: int, largest: float) -> None:
    """Scales each agent's own gradient to a norm of at most `largest`, in place.

    Args:
        gradients: of stacked weights, `[agents * k, ...]`.
        agents: how many.
        largest: the bound.
    """
    each = [g.view(agents, -1) for g in gradients]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g, dim=1) for g in each]), dim=0)
    factor = (largest / (norm + 1e-6)).clamp_max_(1.0)[:, None]
    torch._foreach_mul_(each, [factor] * len(each))
