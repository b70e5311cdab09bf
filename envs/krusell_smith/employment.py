"""Aggregate productivity, a chain of two states, and households who lose and find jobs with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import State


class Employment:
    """The chain of z, 0 good or 1 bad, and each household's e, 0 employed or 1 unemployed.

    z is drawn once for all households of a world. As many households are unemployed as the rate
    says, exactly, wherever that is a whole number of heads; where it is not, the number is rounded
    at random so that it is right on average. *Who* they are is drawn, so that each household's
    chances are those of the chain.
    """

    def __init__(
        self, parameters: KrusellSmithParameters, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.n = parameters.households
        self.device = device
        self.dtype = dtype
        self.persistence = parameters.persistence
        self._hours = parameters.hours
        self._rate = self._constant(parameters.unemployment)
        self._log_A = torch.log(self._constant(parameters.productivity))
        self._chances = self._constant(parameters.employment)[..., 1]  # of e' = 1: [z, z', e]
        heads = [u * self.n for u in parameters.unemployment]
        self.exact = all(math.isclose(h, round(h), abs_tol=1e-6) for h in heads)

    def _constant(self, values: object) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def initial(self, worlds: int, generator: torch.Generator) -> State:
        """Either state alike, and who is unemployed at random."""
        z = (self._uniform((worlds, 1), generator) < 0.5).long()
        keys = self._uniform((worlds, self.n), generator)
        rounding = self._uniform((worlds, 1), generator)
        jobless = self._heads(self.n * self._rate[z], rounding)
        return {"aggregate": z, "unemployed": (_rank(keys) < jobless).to(self.dtype)}

    def draw(self, worlds: int, generator: torch.Generator) -> State:
        """Uniform draws: whether the state switches, who moves, and how heads are rounded."""
        return {
            "switch": self._uniform((worlds, 1), generator),
            "keys": self._uniform((worlds, self.n), generator),
            "rounding": self._uniform((worlds, 2), generator),
        }

    def advance(self, state: State, noise: State) -> State:
        """Tomorrow's state, then who is unemployed in it."""
        z = state["aggregate"]
        unemployed = state["unemployed"]
        next_z = torch.where(noise["switch"] < self.persistence, z, 1 - z)
        # How many: of the jobless, who stay so; of the others, who lose their job.
        jobless = unemployed.sum(-1, keepdim=True)
        lose_chance, stay_chance = self._chances[z, next_z].unbind(-1)
        stay = self._heads(jobless * stay_chance, noise["rounding"][:, :1])
        stay = torch.minimum(stay, jobless)
        if self.exact:
            # The rate fixes the sum, so that it holds exactly in every state.
            lost = torch.round(self.n * self._rate[next_z]) - stay
        else:
            lost = self._heads((self.n - jobless) * lose_chance, noise["rounding"][:, 1:])
        # Who: the unemployed come first, in random order, then the employed.
        order = _rank(noise["keys"] - unemployed)
        next_unemployed = (order < stay) | ((order >= jobless) & (order < jobless + lost))
        return {"aggregate": next_z, "unemployed": next_unemployed.to(self.dtype)}

    def log_productivity(self, state: State) -> Tensor:
        """log A, `[worlds, 1]`."""
        return self._log_A[state["aggregate"]]

    def hours(self, state: State) -> Tensor:
        """Efficient hours of each household, `[worlds, households]`."""
        return self._hours * (1 - state["unemployed"])

    def _heads(self, expected: Tensor, rounding: Tensor) -> Tensor:
        """A whole number, up or down at random, `expected` on average."""
        # The small number keeps a whole `expected` whole in spite of its rounding error.
        return torch.floor(expected + rounding + 1e-6 * (rounding < 0.5))

    def _uniform(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, device=self.device, dtype=self.dtype)


def _rank(keys: Tensor) -> Tensor:
    """Each entry's place in the ascending order of its row."""
    return keys.argsort(-1).argsort(-1)
