"""SAC's gradient step by hand in plain torch: the arithmetic and the loop, and nothing between."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
from torch import Tensor, nn

OBSERVATION = 7
ACTION = 2
ROWS = 100_000


def network(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """A multi-layer perceptron."""
    layers: list[nn.Module] = []
    for a, b in pairwise([inputs, *hidden]):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


class RawSAC:
    """Twin critics as two networks, one after the other; a replay of random rows."""

    def __init__(self, hidden: tuple[int, ...], batch: int, gamma: float = 0.95) -> None:
        self.batch = batch
        self.gamma = gamma
        self.actor = network(OBSERVATION, hidden, 2 * ACTION)
        self.critics = nn.ModuleList(network(OBSERVATION + ACTION, hidden, 1) for _ in range(2))
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.optimizers = [
            torch.optim.Adam(weights, lr=1e-3, fused=True)
            for weights in (self.actor.parameters(), self.critics.parameters(), [self.log_alpha])
        ]
        self.weights: list[Tensor] = list(self.critics.parameters())
        self.slow: list[Tensor] = list(self.targets.parameters())
        self.replay = torch.randn(ROWS, 2 * OBSERVATION + ACTION + 1)

    def step(self) -> int:
        """One gradient step of critics, actor and temperature."""
        rows = self.replay[torch.randint(ROWS, (self.batch,))]
        obs, next_obs, raw_action, reward = rows.split([OBSERVATION, OBSERVATION, ACTION, 1], 1)
        actor, critic, temperature = self.optimizers

        # critics: towards the soft value of the next observation
        with torch.no_grad():
            next_action, log_prob = self._act(next_obs)
            next_q = self._smaller(self.targets, next_obs, next_action)
            target = reward + self.gamma * (next_q - self.log_alpha.exp() * log_prob)
        obs_action = torch.cat([obs, torch.tanh(raw_action)], 1)
        critic.zero_grad()
        losses = [(q(obs_action) - target).square().mean() for q in self.critics]
        torch.stack(losses).sum().backward()
        critic.step()

        # actor: the critics pass gradients on, and need none of their own
        self.critics.requires_grad_(False)
        action, log_prob = self._act(obs)
        actor.zero_grad()
        q = self._smaller(self.critics, obs, action)
        (self.log_alpha.detach().exp() * log_prob - q).mean().backward()
        actor.step()
        self.critics.requires_grad_(True)

        # temperature: towards an entropy of minus the number of actions
        temperature.zero_grad()
        (-self.log_alpha * (log_prob.detach() - ACTION)).mean().backward()
        temperature.step()

        with torch.no_grad():
            torch._foreach_lerp_(self.slow, self.weights, 0.005)
        return 1

    def _act(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Squashed Gaussian actions, and the log of their density."""
        mean, free = self.actor(obs).chunk(2, 1)
        log_std = 3.5 * torch.tanh(free) - 2.5  # in [-6, 1]
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        # log(1 - tanh(raw)^2), in a form that holds where tanh rounds to 1
        squash = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        surprise = 0.5 * noise.square() + log_std + 0.5 * math.log(2 * math.pi) + squash
        return torch.tanh(raw), -surprise.sum(1, keepdim=True)

    @staticmethod
    def _smaller(critics: nn.ModuleList, obs: Tensor, action: Tensor) -> Tensor:
        pairs = torch.cat([obs, action], 1)
        return torch.stack([q(pairs) for q in critics]).amin(0)
