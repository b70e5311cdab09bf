"""From rewards and values to advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_markets.policies.rollout import EpisodeEnds


def successor_values(
    values: Tensor, ends: EpisodeEnds, final_values: Tensor
) -> tuple[Tensor, Tensor]:
    """V(s_{t+1}) with the true successor, and where an episode goes on.

    Args:
        values: `[T + 1, N]` values of the observations.
        ends: of episodes.
        final_values: `[m]` values of `ends.observations`.

    Returns:
        successor: `[T, N]`, 0 where the episode terminated.
        goes_on: `[T, N]`, 0 after an episode's last step and 1 elsewhere.
    """
    successor = values[1:].clone()
    not_done = torch.ones_like(values[1:])
    successor[ends.step, ends.trajectory] = torch.where(
        ends.terminated, torch.zeros_like(final_values), final_values
    )
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
        successor, goes_on: of `successor_values`.
        gamma: discount factor.
        lambda_: trace decay.
    """
    delta = rewards + gamma * successor - values[:-1]
    advantages = torch.empty_like(rewards)
    following = torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        following = torch.addcmul(delta[t], not_done[t], following, value=gamma * lambda_)
        advantages[t] = following
    return advantages


def others_mean(x: Tensor, world: Tensor) -> Tensor:
    """For each trajectory the mean of `x` `[T, N]` over the *other* trajectories of its world; 0
    where it is alone."""
    worlds = int(world.max()) + 1
    total = torch.zeros((len(x), worlds), dtype=x.dtype, device=x.device).index_add_(1, world, x)
    others = torch.bincount(world, minlength=worlds)[world] - 1
    return (total[:, world] - x) / others.clamp_min(1) * (others > 0)
