"""Conservative Q-learning for discrete choices, from logged transitions alone.

Kumar et al. 2020 (arXiv 2006.04779), CQL(H). A trainer of its own, and no learner of experiment
files: RLlib's CQL knows boxes of continuous actions only, and here no market is ever asked. What it
returns acts and tells no value: the values that a network learns from a log are of use to rank
choices and not to say what a policy would earn; `rl_markets.sales.offline` estimates that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss
from torch.nn.utils import clip_grad_norm_

from rl_markets.policies.actors import NetworkActor
from rl_markets.policies.networks import follow

LARGEST_GRADIENT = 10.0


@dataclass(frozen=True, eq=False)
class Transitions:
    """R logged decisions.

    Attributes:
        observations: `[R, observation]`.
        choices: `[R]`, int64.
        rewards: `[R]`, in money.
        following: the next observations, `[R, observation]`.
        ended: whether nothing followed, bool `[R]`.
    """

    observations: Tensor
    choices: Tensor
    rewards: Tensor
    following: Tensor
    ended: Tensor


@dataclass(frozen=True)
class CQLSettings:
    """How conservatively, how long, with what network.

    Attributes:
        alpha: weight of logsumexp Q - Q(a), in units of the rewards' root mean square; 0 is double
            DQN.
        gamma: discount factor of a period.
        steps, batch_size, learning_rate: of Adam; the last fifth of the steps takes a fifth of the
            rate.
        target_rate: Polyak rate of the target network.
        hidden: widths of the hidden layers.
    """

    alpha: float = 1.0
    gamma: float = 1.0
    steps: int = 6000
    batch_size: int = 256
    learning_rate: float = 1e-3
    target_rate: float = 0.01
    hidden: tuple[int, ...] = (64, 64)


def train(
    logged: Transitions,
    choices: int,
    settings: CQLSettings | None = None,
    seed: int = 0,
    done: Callable[[int], None] = lambda steps: None,
) -> NetworkActor:
    """A network whose greedy choices are the policy; the same seed gives the same network.

    The loss of a batch is huber(Q(s, a) - y) + alpha (log sum_a' e^Q(s, a') - Q(s, a)), with double
    DQN's target y = r + gamma Q'(s', argmax Q(s', .)) (Kumar et al. 2020, Eq. 4). Rewards are
    divided by their root mean square, so that no currency matters.

    Args:
        logged: the transitions.
        choices: how many there are, A.
        settings: left out, the defaults.
        seed: of weights and batches.
        done: told the number of gradient steps after each of them.

    Returns:
        an actor with observations `[..., observation]` and actions `[..., 1]` in 0..A-1, as
        markets' `MultiDiscrete([A])`.

    Raises:
        ValueError: for no rows, choices out of range, or numbers that are not finite.
    """
    settings = settings or CQLSettings()
    _check(logged, choices)
    actor = _network(logged.observations.shape[-1], choices, settings, seed)
    target = copy.deepcopy(actor).requires_grad_(False)
    optimizer = torch.optim.Adam(actor.parameters(), settings.learning_rate)
    scale = logged.rewards.square().mean().sqrt().clamp_min(1e-30)
    rng = np.random.default_rng(seed)
    for step in range(settings.steps):
        if step == round(0.8 * settings.steps):
            optimizer.param_groups[0]["lr"] = settings.learning_rate / 5
        batch = torch.from_numpy(rng.integers(len(logged.choices), size=settings.batch_size))
        optimizer.zero_grad()
        loss = _loss(actor, target, logged, batch, scale, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(actor.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        follow(list(target.parameters()), list(actor.parameters()), settings.target_rate)
        done(step + 1)
    return actor.eval().requires_grad_(False)


def _network(width: int, choices: int, settings: CQLSettings, seed: int) -> NetworkActor:
    """Action values of observations of a width, as an actor that takes the best choice."""
    spec = {
        "observation": width,
        "action": {"type": "multidiscrete", "branches": 1, "n": choices},
        "hidden": list(settings.hidden),
        "activation": "relu",
    }
    return NetworkActor(spec, torch.Generator().manual_seed(seed))


def _loss(
    actor: NetworkActor,
    target: NetworkActor,
    logged: Transitions,
    batch: Tensor,
    scale: Tensor,
    settings: CQLSettings,
) -> Tensor:
    """The loss of the rows in `batch`, as in `train`; rewards are divided by `scale`."""
    next_observations = logged.following[batch]
    with torch.no_grad():
        # Double DQN: the network chooses, the target network tells the value.
        best = actor(next_observations).argmax(-1, keepdim=True)
        next_value = target(next_observations).gather(-1, best).squeeze(-1)
        next_value = torch.where(logged.ended[batch], 0.0, next_value)
        td_target = logged.rewards[batch] / scale + settings.gamma * next_value
    q = actor(logged.observations[batch])
    q_chosen = q.gather(-1, logged.choices[batch].unsqueeze(-1)).squeeze(-1)
    conservative = (torch.logsumexp(q, -1) - q_chosen).mean()
    loss: Tensor = smooth_l1_loss(q_chosen, td_target) + settings.alpha * conservative
    return loss


def _check(logged: Transitions, choices: int) -> None:
    if not len(logged.choices):
        raise ValueError("no transitions: expected at least one")
    if int(logged.choices.min()) < 0 or int(logged.choices.max()) >= choices:
        raise ValueError(f"a choice is outside 0..{choices - 1}")
    for name in ("observations", "rewards", "following"):
        if not torch.isfinite(getattr(logged, name)).all():
            raise ValueError(f"{name} hold a number that is not finite")
