"""The Krusell-Smith equilibrium, and learned policies as functions of the same states."""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.households import economics
from rl_markets.envs.krusell_smith import solution as known
from rl_markets.envs.krusell_smith.answer.panel import Array, SharePolicy
from rl_markets.envs.krusell_smith.market import (
    ACTION_HIGH,
    ACTION_LOW,
    POOR,
    KrusellSmith,
)
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import Market, PolicyFunction

GAIN_LIMIT = 0.05
"""The certificate's limit of gains and losses, in % of consumption."""
QUANTILES = np.linspace(0.02, 0.98, 25)
"""Held-out capital: quantiles of the answer's long-run distribution, type by type."""
AGGREGATE_REACH = (0.97, 1.0, 1.03)
"""Held-out K, in multiples of the answer's mean."""


class KrusellSmithEquilibrium(AnswerKey):
    """The solved economy, and what learned policies do in its states.

    Types are counted in two ways. The experiment's list may have them in any order, and repeat
    them; the solved economy has different productivities in ascending order, its `kinds`.
    """

    name = "Krusell-Smith equilibrium"

    def __init__(self, parameters: KrusellSmithParameters) -> None:
        p = self.parameters = parameters
        kinds, counts = np.unique(p.capital_productivity, return_counts=True)
        self.kinds: list[float] = kinds.tolist()
        self.economy = known.Economy(
            alpha=p.alpha,
            beta=p.beta,
            delta=p.delta,
            hours=p.hours,
            productivity=p.productivity,
            unemployment=p.unemployment,
            persistence=p.persistence,
            employment=p.employment,
            kappa=tuple(self.kinds),
            weights=tuple((counts / counts.sum()).tolist()),
        )
        self._observer = KrusellSmith(p, worlds=1)

    @cached_property
    def solution(self) -> known.Solution:
        """The equilibrium; a few seconds, once."""
        return known.solve(self.economy)

    def _sorted(self, types: NDArray[np.int64]) -> NDArray[np.int64]:
        """The solved economy's kinds of `types`, numbers in the experiment's list."""
        productivity = np.asarray(self.parameters.capital_productivity)
        return np.searchsorted(self.kinds, productivity[np.asarray(types)])

    @property
    def first_type(self) -> int:
        """Where the experiment's list has kind 0, the least productive."""
        return int(np.argmin(self.parameters.capital_productivity))

    def exact(self, k: Array, K: Array, z: Array, e: Array, kind: NDArray[np.int64]) -> Array:
        """The answer's consumption share; `kind` counts types as the experiment's list does."""
        state = np.asarray(z, np.int64)
        job = np.asarray(e, np.int64)
        return self.solution.share(k, K, state, job, self._sorted(kind))

    def policies(self, market: Market) -> dict[str, PolicyFunction]:
        """The answer as every household's policy of its own observations."""
        return {"households": self._rule}

    def _rule(self, observations: Tensor) -> Tensor:
        columns = observations.double().cpu().numpy()
        K = np.exp(2 * columns[..., 1])
        k = K * np.maximum(np.exp(columns[..., 0]) - POOR, 0)
        z = np.rint((1 - columns[..., 2]) / 2).astype(np.int64)
        unemployed = np.rint(1 - columns[..., 3]).astype(np.int64)
        types = len(self.parameters.capital_productivity)
        kind = np.broadcast_to(np.arange(columns.shape[-2]) % types, k.shape)
        # Whom the borrowing limit binds consumes all in the model, and in the market nearly all.
        share = self.solution.share(k, K, z, unemployed, self._sorted(kind))
        share = np.clip(share, ACTION_LOW, ACTION_HIGH)
        return torch.from_numpy(share).float()[..., None]

    def tolerance(self, group: str) -> float:
        """What a permanent rise of consumption by the limit is worth, in utils."""
        return economics.utility_of(GAIN_LIMIT, self.parameters.beta)

    def share_policy(self, policy: PolicyFunction) -> SharePolicy:
        """A learned policy as (k, K, z, e, type) -> consumption share.

        Where households of a type learned different policies, each state is met by the next of them
        in turn.
        """
        households = self.parameters.households
        types = len(self.parameters.capital_productivity)
        separate = self.separate(policy)

        @torch.no_grad()
        def share(k: Array, K: Array, z: Array, e: Array, kind: NDArray[np.int64]) -> Array:
            columns = np.broadcast_arrays(k, K, z, e, kind)
            flat = [np.ascontiguousarray(column).ravel() for column in columns]
            own, aggregate, state, job = (torch.tensor(column).float() for column in flat[:4])
            type_ = flat[4]
            observations = self._observer.features(own, aggregate, state, job, torch.tensor(type_))
            if separate:
                # A row's household: the next full round of all types, and the row's type in it.
                rows = np.arange(len(observations))
                household = (rows // types * types % households) + type_
                actions = _each_by_its_own(policy, observations, household, households)
            else:
                actions = policy(observations)
            return actions[:, 0].double().numpy().reshape(columns[0].shape)

        return share

    def separate(self, policy: PolicyFunction) -> bool:
        """Whether households of a type have policies of their own."""
        ten = torch.full((1, 1), 10.0)
        none = torch.zeros(1, 1)
        observations = self._observer.features(ten, ten, none, none, none.long())
        actions = policy(observations.expand(1, self.parameters.households, -1))
        # One policy gives equal actions but for rounding.
        return not bool(torch.allclose(actions, actions[:, :1], rtol=1e-5, atol=1e-6))

    @cached_property
    def held_out(self) -> tuple[tuple[Array, Array, Array, Array, NDArray[np.int64]], Array]:
        """States (k, K, z, e, type) and their weights in the long run, flat."""
        grid = self.solution.grids.histogram
        mass = self.solution.simulation.mean.sum(1)
        K = self.solution.mean_effective_capital * np.asarray(AGGREGATE_REACH)
        rows = []
        for kind in range(len(self.parameters.capital_productivity)):
            cumulated = np.cumsum(mass[self._sorted(np.asarray(kind))])
            k = np.interp(QUANTILES * cumulated[-1], cumulated, grid)
            for own, aggregate, state, job in product(k, K, range(2), range(2)):
                weight = self.economy.head_count[state, job]
                rows.append((own, aggregate, state, job, kind, weight))
        k, K, z, e, kinds, weights = (np.array(column) for column in zip(*rows, strict=True))
        return (k, K, z, e, kinds), weights / weights.sum()

    def errors(self, policy: SharePolicy) -> Array:
        """Relative errors of the consumption share at the held-out states, in %."""
        states, _ = self.held_out
        return 100 * np.abs(policy(*states) / self.exact(*states) - 1)

    def propensities(self, policy: SharePolicy, k: Array, e: int) -> Array:
        """Consumption out of a windfall of 1 % of wealth, as a share of it: as `k`, `[N]`.

        In the good state at mean K, of the first kind, in the employment `e`.
        """
        K = self.solution.mean_effective_capital
        zeros = np.zeros(len(k), np.int64)

        def consumption(own: Array) -> Array:
            share = policy(own, np.full(len(k), K), zeros, zeros + e, zeros + self.first_type)
            return share * self.economy.wealth(own, K, 0, e)

        wealth = self.economy.wealth(k, K, 0, e)
        gross_return = self.economy.wealth(1.0, K, 0, known.UNEMPLOYED)
        richer = k + 0.01 * wealth / gross_return
        return (consumption(richer) - consumption(k)) / (0.01 * wealth)


def _each_by_its_own(
    policy: PolicyFunction, observations: Tensor, household: NDArray[np.int64], households: int
) -> Tensor:
    """The actions of rows `[rows, observation]`, each by the household that it is given to.

    Rows of different households are decided at once, as in a market: `[rounds, households]`.
    """
    order = np.argsort(household, kind="stable")
    counts = np.bincount(household, minlength=households)
    first = np.cumsum(counts) - counts
    turn = np.empty(len(household), np.int64)
    turn[order] = np.arange(len(household)) - first[household[order]]
    seat = (torch.from_numpy(turn), torch.from_numpy(household))
    everybody = observations[:1, None].repeat(int(counts.max()), households, 1)
    everybody[seat] = observations
    return policy(everybody)[seat]
