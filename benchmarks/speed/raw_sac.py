"""SAC's gradient step by hand in plain torch: what is left when nothing stands between the
arithmetic and the loop."""

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
        seen, following, action, reward = rows.split([OBSERVATION, OBSERVATION, ACTION, 1], 1)
        actor, critic, temperature = self.optimizers
        with torch.no_grad():
            after, log_prob = self._act(following)
            value = self._smaller(self.targets, following, after) - self.log_alpha.exp() * log_prob
            target = reward + self.gamma * value
        state_action = torch.cat([seen, torch.tanh(action)], 1)
        critic.zero_grad()
        torch.stack(
            [(q(state_action) - target).square().mean() for q in self.critics]
        ).sum().backward()
        critic.step()
        self.critics.requires_grad_(False)
        now, log_prob = self._act(seen)
        actor.zero_grad()
        (
            self.log_alpha.detach().exp() * log_prob - self._smaller(self.critics, seen, now)
        ).mean().backward()
        actor.step()
        self.critics.requires_grad_(True)
        temperature.zero_grad()
        (-self.log_alpha * (log_prob.detach() - ACTION)).mean().backward()
        temperature.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.slow, self.weights, 0.005)
        return 1

    def _act(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        mean, free = self.actor(seen).chunk(2, 1)
        log_std = 3.5 * torch.tanh(free) - 2.5
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        squash = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        log_prob = -(0.5 * noise.square() + log_std + 0.5 * math.log(2 * math.pi) + squash).sum(
            1, keepdim=True
        )
        return torch.tanh(raw), log_prob

    @staticmethod
    def _smaller(critics: nn.ModuleList, seen: Tensor, action: Tensor) -> Tensor:
        pairs = torch.cat([seen, action], 1)
        return torch.stack([q(pairs) for q in critics]).amin(0)
