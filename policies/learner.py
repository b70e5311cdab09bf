"""The RLlib learner that takes rollouts: what on-policy and off-policy learners share."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import ALL_MODULES, NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor

from rl_markets.policies.rollout import OBSERVATIONS, Fragment, concatenate

LEARN_SECONDS = "learn_seconds"

Batch = dict[str, Tensor]
"""Columns `[rows, ...]` of one policy."""


class LearnerError(RuntimeError):
    """Learning went wrong; the message says which policy, which figure, and in which update."""


class RolloutLearner(TorchLearner):  # type: ignore[misc]
    """Base of every learner. Subclasses write `learn` and `compute_loss_for_module`.

    `config.learner_config_dict` holds the learner's own parameters and `total_env_steps`, the length of training.
    """

    def build(self) -> None:
        """Seeds the learner's own generator (minibatches, replay)."""
        super().build()
        self.generator = torch.Generator(self._device).manual_seed((self.config.seed or 0) + 7919 * self._rank)
        self.progress = 0.0

    @property
    def parameters(self) -> dict[str, Any]:
        """The learner's parameters, as in the experiment file."""
        return self.config.learner_config_dict  # type: ignore[no-any-return]

    @property
    def _rank(self) -> int:
        return torch.distributed.get_rank() if self.config.num_learners > 1 else 0

    def update(
        self, *args: Any, training_data: TrainingData | None = None, episodes: list[Any] | None = None,
        timesteps: dict[str, Any] | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Learns from rollouts; RLlib's `training_step` calls this in place of its own minibatch loop.

        RLlib gives every module the same minibatch size and cycles small ones through extra epochs; here each policy
        goes through the same number of epochs, in the same number of equal slices.
        """
        data = training_data or TrainingData(episodes=episodes)
        data.solve_refs()
        steps = (timesteps or {}).get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        self.progress = min(1.0, steps / self.parameters["total_env_steps"])
        self.before_gradient_based_update(timesteps=timesteps or {})
        self._weights_seq_no += 1
        started = time.perf_counter()
        rollouts = [rollout.to(self._device) for rollout in data.episodes]
        trained = [p for p in rollouts[0].fragments if self.should_module_be_updated(p)]
        self.learn({p: concatenate([r.fragments[p] for r in rollouts]) for p in trained})
        self.after_gradient_based_update(timesteps=timesteps or {})
        self.metrics.log_value((ALL_MODULES, LEARN_SECONDS), time.perf_counter() - started, window=1)
        return self.metrics.reduce()

    @abstractmethod
    def learn(self, fragments: dict[str, Fragment]) -> None:
        """Updates the networks from each policy's fragment."""

    def slices(self, batches: dict[str, Batch], count: int) -> Iterator[dict[str, Batch]]:
        """One epoch: every policy's rows in random order, in `count` equal slices."""
        shuffled = {p: self._shuffled(batch, count) for p, batch in batches.items()}
        for i in range(count):
            yield {p: parts[i] for p, parts in shuffled.items()}

    def _shuffled(self, batch: Batch, count: int) -> list[Batch]:
        """The rows in random order; columns of one type lie side by side, so that each row is fetched once."""
        rows = len(next(iter(batch.values())))
        order = torch.randperm(rows, generator=self.generator, device=self._device)
        parts: list[Batch] = [{} for _ in range(count)]
        for dtype in {column.dtype for column in batch.values()}:
            columns = {n: c.reshape(rows, -1) for n, c in batch.items() if c.dtype == dtype}
            widths = [c.shape[1] for c in columns.values()]
            packed = torch.cat(list(columns.values()), 1).index_select(0, order)
            for part, piece in zip(parts, packed.tensor_split(count), strict=True):
                for name, column in zip(columns, piece.split(widths, 1), strict=True):
                    part[name] = column.reshape(len(piece), *batch[name].shape[1:])
        return parts

    def descend(self, minibatch: dict[str, Batch]) -> None:
        """One gradient step of every policy, on RLlib's optimizers (with several learners, through its DDP).

        The same arithmetic as RLlib's `compute_gradients`, `postprocess_gradients` and `apply_gradients`, without
        their per-parameter loops: at these network sizes the loops cost a quarter of the update.
        """
        optimizers = {p: [o for _, o in self.get_optimizers_for_module(p)] for p in minibatch}
        for owned in optimizers.values():
            for optimizer in owned:
                optimizer.zero_grad(set_to_none=True)
        losses = []
        for policy, batch in minibatch.items():
            module = self.module[policy]
            forward = (module if self.config.num_learners > 1 else module._forward_train)({"obs": batch[OBSERVATIONS]})
            losses.append(
                self.compute_loss_for_module(module_id=policy, config=self.config, batch=batch, fwd_out=forward)
            )
        torch.stack(losses).sum().backward()
        for owned in optimizers.values():
            for optimizer in owned:
                torch.nn.utils.clip_grad_norm_(
                    self._optimizer_parameters[optimizer], self.config.grad_clip, foreach=True
                )
                optimizer.step()

    def report(self, policy: str, figures: dict[str, Tensor]) -> None:
        """Logs the figures of one update, once.

        Raises:
            LearnerError: where a figure is not finite.
        """
        for name, figure in figures.items():
            value = float(figure)
            if not math.isfinite(value):
                raise LearnerError(
                    f"policy {policy!r}: {name} is {value} at {self.progress:.0%} of training; "
                    "lower algorithm.parameters.learning_rate, or look for unbounded observations or rewards"
                )
            self.metrics.log_value((policy, name), value, window=1)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the generator's, so that a resumed run draws the same minibatches."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        state["generator"] = self.generator.get_state().cpu().numpy().copy()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """The reverse of `get_state`."""
        super().set_state(state)
        if "generator" in state:
            self.generator.set_state(torch.as_tensor(state["generator"].copy()))

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam for each part of the module, so that each has its own step size and gradient norm."""
        total = self.parameters["total_env_steps"]
        for name, (network, start, end) in self.parts(self._module[module_id].unwrapped()).items():
            weights = list(network.parameters())
            self.register_optimizer(
                module_id=module_id, optimizer_name=name, optimizer=torch.optim.Adam(weights, eps=1e-5, fused=True),
                params=weights, lr_or_lr_schedule=[[0, start], [total, end]],
            )  # fmt: skip

    @abstractmethod
    def parts(self, module: Any) -> dict[str, tuple[torch.nn.Module, float, float]]:
        """Name -> (trained network, step size at the start, and at the end of training)."""
