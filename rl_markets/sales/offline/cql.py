"""Conservative Q-learning for discrete choices (Kumar et al. 2020, arXiv 2006.04779, CQL(H)), from
logged transitions alone.

A trainer of its own, and no learner of experiment files: RLlib's CQL knows boxes of continuous
    actions only, and here no
market is ever asked. What it returns acts and tells no value: the values that a network learns from
    a log are of use to
rank choices and not to say what a policy would earn; `rl_markets.sales.offline` estimates that.
"""

from __future__ import annotations

import copy
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
    """R logged decisions: observations and those that followed `[R, observation]`, choices `[R]`,
    rewards `[R]` in money,
    and whether nothing followed, bool `[R]`."""

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
    logged: Transitions, choices: int, settings: CQLSettings | None = None, seed: int = 0
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

    Returns:
        an actor with observations `[..., observation]` and actions `[..., 1]` in 0..A-1, as
        markets' `MultiDiscrete([A])`.

    Raises:
        ValueError: for no rows, choices out of range, or numbers that are not finite.
    """
    settings = settings or CQLSettings()
    _check(logged, choices)
    action = {"type": "multidiscrete", "branches": 1, "n": choices}
    width = logged.observations.shape[-1]
    hidden = list(settings.hidden)
    spec = {"observation": width, "action": action, "hidden": hidden, "activation": "relu"}
    actor = NetworkActor(spec, torch.Generator().manual_seed(seed))
    target = copy.deepcopy(actor).requires_grad_(False)
    optimizer = torch.optim.Adam(actor.parameters(), settings.learning_rate)
    scale = logged.rewards.square().mean().sqrt().clamp_min(1e-30)
    rng = np.random.default_rng(seed)
    for step in range(settings.steps):
        if step == round(0.8 * settings.steps):
            optimizer.param_groups[0]["lr"] = settings.learning_rate / 5
        rows = torch.from_numpy(rng.integers(len(logged.choices), size=settings.batch_size))
        optimizer.zero_grad()
        _loss(actor, target, logged, rows, scale, settings).backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(actor.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        follow(list(target.parameters()), list(actor.parameters()), settings.target_rate)
    return actor.eval().requires_grad_(False)


def _loss(
    actor: NetworkActor,
    target: NetworkActor,
    logged: Transitions,
    rows: Tensor,
    scale: Tensor,
    settings: CQLSettings,
) -> Tensor:
    following = logged.following[rows]
    with torch.no_grad():
        best = actor(following).argmax(-1, keepdim=True)
        ahead = target(following).gather(-1, best).squeeze(-1)
        y = logged.rewards[rows] / scale + settings.gamma * torch.where(
            logged.ended[rows], 0.0, ahead
        )
    q = actor(logged.observations[rows])
    chosen = q.gather(-1, logged.choices[rows].unsqueeze(-1)).squeeze(-1)
    conservative = (torch.logsumexp(q, -1) - chosen).mean()
    loss: Tensor = smooth_l1_loss(chosen, y) + settings.alpha * conservative
    return loss


def _check(logged: Transitions, choices: int) -> None:
    if not len(logged.choices):
        raise ValueError("no transitions: expected at least one")
    if int(logged.choices.min()) < 0 or int(logged.choices.max()) >= choices:
        raise ValueError(f"a choice is outside 0..{choices - 1}")
    for name in ("observations", "rewards", "following"):
        if not torch.isfinite(getattr(logged, name)).all():
            raise ValueError(f"{name} hold a number that is not finite")
