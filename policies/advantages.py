"""From rewards and values to advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_markets.policies.rollout import EpisodeEnds


def successor_values(
    values: Tensor, ends: EpisodeEnds, final_values: Tensor
) -> tuple[Tensor, Tensor]:
    """V(s_{t+1}) of the true successor, and where the next step belongs to the same episode.

    Args:
        values: `[T + 1, N]` values of the observations.
        ends: of episodes.
        final_values: `[m]` values of `ends.observations`.

    Returns:
        successor: `[T, N]`, 0 where the episode terminated.
        not_done: `[T, N]`, 0 at an episode's last step, terminated or cut, and 1 elsewhere.
    """
    successor = values[1:].clone()
    not_done = torch.ones_like(values[1:])

    # bootstrap with the true successor where the episode was cut: the next row is a new episode's
    bootstrap = torch.where(ends.terminated, torch.zeros_like(final_values), final_values)
    successor[ends.step, ends.trajectory] = bootstrap
    not_done[ends.step, ends.trajectory] = 0.0
    return successor, not_done


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    successor: Tensor,
    not_done: Tensor,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, Eq. 16), `[T, N]`.

    A_t = delta_t + gamma lambda A_{t+1},  delta_t = r_t + gamma V(s_{t+1}) - V(s_t).

    Args:
        rewards: `[T, N]`.
        values: `[T + 1, N]` (the last row is not used).
        successor, not_done: of `successor_values`.
        gamma: discount factor.
        lambda_: trace decay.
    """
    delta = rewards + gamma * successor - values[:-1]

    # GAE, backwards in time
    advantages = torch.empty_like(rewards)
    advantage = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        advantage = torch.addcmul(delta[t], not_done[t], advantage, value=gamma * lambda_)
        advantages[t] = advantage
    return advantages


def others_mean(x: Tensor, world: Tensor) -> Tensor:
    """For each trajectory the mean of `x` over the *other* trajectories of its world.

    Args:
        x: `[T, N]`.
        world: `[N]`, each trajectory's world.

    Returns:
        `[T, N]`, 0 where a trajectory is alone in its world.
    """
    worlds = int(world.max()) + 1
    total = torch.zeros((len(x), worlds), dtype=x.dtype, device=x.device).index_add_(1, world, x)
    others = torch.bincount(world, minlength=worlds)[world] - 1
    return (total[:, world] - x) / others.clamp_min(1) * (others > 0)
