"""What learners that follow gradients share: optimizers, minibatches, clipped steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.optim.adam import adam

from rl_markets.policies.learner import RolloutLearner
from rl_markets.policies.rollout import ACTIVE, Batch
from rl_markets.policies.spec import GradientParameters

G = TypeVar("G", bound=GradientParameters)


class Part(NamedTuple):
    """Weights with an optimizer of their own.

    Attributes:
        weights: what is trained.
        learning_rate, final_learning_rate: Adam's step size at the start and at the end of
            training, linear in between.
    """

    weights: list[Tensor]
    learning_rate: float
    final_learning_rate: float


class GradientLearner(RolloutLearner[G]):
    """Base of learners that follow gradients. Subclasses write `learn` and `parts`."""

    epsilon: ClassVar[float] = 1e-5
    """Adam's; gradients well below it move weights less than the step size says."""

    @abstractmethod
    def parts(self, policy: str) -> dict[str, Part]:
        """Name -> weights that are trained together; an optimizer for each."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam for each part of the module: its own step size, its own gradient norm."""
        total = self.config.learner_config_dict["total_env_steps"]
        for name, part in self.parts(module_id).items():
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(part.weights, eps=self.epsilon, fused=True),
                params=part.weights,
                lr_or_lr_schedule=[[0, part.learning_rate], [total, part.final_learning_rate]],
            )

    # -- minibatches -------------------------------------------------------------------------------

    def slices(self, batches: dict[str, Batch], count: int) -> Iterator[dict[str, Batch]]:
        """One epoch: every policy's rows in random order, in `count` equal slices."""
        shuffled = {policy: self._shuffled(batch, count) for policy, batch in batches.items()}
        for i in range(count):
            yield {policy: minibatches[i] for policy, minibatches in shuffled.items()}

    def _shuffled(self, batch: Batch, count: int) -> list[Batch]:
        """The rows in random order, in `count` equal slices."""
        rows = len(next(iter(batch.values())))
        order = torch.randperm(rows, generator=self.generator, device=self._device)
        minibatches: list[Batch] = [{} for _ in range(count)]
        for name, column in batch.items():
            slices = column.index_select(0, order).tensor_split(count)
            for minibatch, piece in zip(minibatches, slices, strict=True):
                minibatch[name] = piece
        return minibatches

    def mean(self, x: Tensor, batch: Batch) -> Tensor:
        """The mean of `x` over rows; where policies are separate, the sum of the agents' own means.

        An agent's mean is over the steps in which it acted. So every agent's gradient is that of
        its own loss, whatever the number of agents.

        Args:
            x: `[rows]` or `[rows, agents]`.
            batch: where x comes from; says who acted.
        """
        if x.dim() == 1:
            return x.mean()
        if ACTIVE not in batch:
            return x.mean(0).sum()
        active = batch[ACTIVE]
        return ((x * active).sum(0) / active.sum(0).clamp_min(1)).sum()

    def update_ema(self, policy: str, decay: float) -> None:
        """Moves the exponential moving average of the actor, at the end of an iteration."""
        # a short memory while everything still moves
        early = self._weights_seq_no / (self._weights_seq_no + 9)
        self.networks(policy).update_ema(min(decay, early))

    # -- gradient steps ----------------------------------------------------------------------------

    def optimizer_step(self, policy: str, *names: str) -> None:
        """A step of the named optimizers along the gradients that lie on their weights.

        Gradients are averaged over learners and clipped, then taken off the weights. The same
        arithmetic as RLlib's `postprocess_gradients` and `apply_gradients`, without their
        per-parameter loops: at these network sizes the loops cost a quarter of an update.
        """
        copies = self.networks(policy).actor.spec.get("copies")
        largest = self.parameters(policy).gradient_clip
        for name in names:
            optimizer = self.get_optimizer(policy, name)
            weights = self._optimizer_parameters[optimizer]
            gradients = [w.grad for w in weights]
            if self.config.num_learners > 1:
                self._average(gradients)
            if copies is None:
                # Adam's kernel divides by the factor itself, which saves a pass over the gradients
                fused_adam(optimizer, clip_factor(gradients, largest))
            else:
                clip_by_agent(gradients, copies, largest)
                fused_adam(optimizer)
            for weight in weights:
                weight.grad = None

    def _average(self, gradients: list[Tensor]) -> None:
        """The mean over learners, in one message, in place.

        No DDP: it ties a backward pass to one forward pass through a module.
        """
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.config.num_learners
        means = flat.split([g.numel() for g in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def _make_modules_ddp_if_necessary(self) -> None:
        """No module is wrapped: gradients are averaged in `optimizer_step`."""


def actor_and_critic(
    module: Any, parameters: GradientParameters, critic_learning_rate: float
) -> dict[str, Part]:
    """The parts of a module with an `actor` and a `critic`, one or several in a stack.

    Both step sizes fall in the same proportion.
    """
    p = parameters
    falls = p.final_learning_rate / p.learning_rate
    actor = list(module.actor.parameters())
    critic = list(module.critic.parameters())
    return {
        "actor": Part(actor, p.learning_rate, p.final_learning_rate),
        "critic": Part(critic, critic_learning_rate, critic_learning_rate * falls),
    }


def mean_over_steps(metrics: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each metric over gradient steps; all steps have the same metrics."""
    return {name: torch.stack([step[name] for step in metrics]).mean(0) for name in metrics[0]}


def clip_factor(gradients: list[Tensor], largest: float) -> Tensor:
    """By how much the gradients' common norm exceeds `largest`, as a factor of at least 1."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor: Tensor = (norm / largest).clamp_min_(1.0)
    return factor


@torch.no_grad()
def fused_adam(optimizer: torch.optim.Adam, divisor: Tensor | None = None) -> None:
    """Adam's step in one call.

    Around the same kernel, torch's own spends three times its time in Python.

    Args:
        optimizer: with `fused=True` and one group of weights, all of which have gradients; its
            state stays torch's own.
        divisor: of the gradients, None for 1.
    """
    (group,) = optimizer.param_groups
    weights = group["params"]
    gradients = [w.grad for w in weights]
    if weights[0] not in optimizer.state:
        # the first step: torch sets its state up
        if divisor is not None:
            torch._foreach_div_(gradients, divisor)
        optimizer.step()
        return
    state = [optimizer.state[w] for w in weights]
    beta1, beta2 = group["betas"]
    adam(
        weights,
        gradients,
        [s["exp_avg"] for s in state],
        [s["exp_avg_sq"] for s in state],
        [],
        [s["step"] for s in state],
        fused=True,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
        grad_scale=divisor,
    )


def clip_by_agent(gradients: list[Tensor], agents: int, largest: float) -> None:
    """Scales each agent's own gradient to a norm of at most `largest`, in place.

    Args:
        gradients: of stacked weights, `[agents * k, ...]`.
        agents: how many.
        largest: the bound.
    """
    by_agent = [g.view(agents, -1) for g in gradients]
    norms = torch.stack([torch.linalg.vector_norm(g, dim=1) for g in by_agent])
    norm = torch.linalg.vector_norm(norms, dim=0)
    factor = (largest / (norm + 1e-6)).clamp_max_(1.0)[:, None]
    torch._foreach_mul_(by_agent, [factor] * len(by_agent))
