"""Identical households: their known answer, and learned policies as functions of the same states.

Identical households that start alike solve the planner's problem whatever their number: at
symmetric states a household's own effect on prices cancels (Euler's theorem). Held-out states are
therefore symmetric, k_i = K.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.households import economics
from rl_markets.envs.households import solution as known
from rl_markets.envs.households.answer import rules
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import Market, PolicyFunction

Array = NDArray[np.float64]
StatePolicy = Callable[[Array, Array], tuple[Array, Array]]
"""(k, log A) -> (consumption share, labour), at symmetric states."""

HELD_OUT_CAPITAL = (0.5, 2.0)
"""Held-out capital, in multiples of the steady state."""
HELD_OUT_SD = 2.0
"""Held-out productivity, in standard deviations either way."""
WELFARE_LIMIT = 0.05
"""The certificate's limit of gains and losses, in % of consumption."""


class IdenticalHouseholds(AnswerKey):
    """The planner's solution, and what learned policies do in its states.

    It is the closed form at full depreciation (delta = 1), Chebyshev collocation otherwise.
    """

    def __init__(self, parameters: HouseholdsParameters) -> None:
        p = self.parameters = parameters
        self.economy = known.Economy(
            alpha=p.alpha, beta=p.beta, delta=p.delta, b=p.b, rho=p.rho, sigma=p.sigma
        )
        self.rest = known.steady_state(self.economy)
        self.name = "closed form" if p.delta == 1 else "RBC solution"
        self.joined = JoinedGroups(p.group_sizes)
        # One household is enough to turn states into observations: all have the same type.
        one = {
            "households": 1,
            "groups": {},
            "capital_productivity": p.capital_productivity[:1],
            "labour_productivity": p.labour_productivity[:1],
        }
        self._observer = Households(p.model_copy(update=one), worlds=1)

    @cached_property
    def exact(self) -> StatePolicy:
        """The known answer."""
        if self.economy.delta == 1:
            return constant_policy(*known.closed_form(self.economy))
        return known.solve_collocation(self.economy).actions

    def policies(self, market: Market) -> dict[str, PolicyFunction]:
        """The answer as every household's policy, whatever its capital; see `rules`."""
        return dict.fromkeys(self.joined.counts, self._rule)

    def _rule(self, observations: Tensor) -> Tensor:
        k, K, z = rules.told(observations, self.parameters.features)
        share, labour = (x.reshape(K.shape) for x in self.exact(K.ravel(), z.ravel()))
        return rules.linear_in_wealth(self.economy, share, labour, k, K, z)

    def tolerance(self, group: str) -> float:
        """What a permanent rise of consumption by the limit is worth, in utils."""
        return economics.utility_of(WELFARE_LIMIT, self.economy.beta)

    def households_policy(self, policy: PolicyFunction) -> known.HouseholdPolicy:
        """A learned policy as (own k, K, log A) -> (consumption shares, labours).

        Actions are `[..., households]`; where every household does the same, one stands for all:
        `[..., 1]`. Last period's labour, which households also observe but which moves nothing, is
        what the known answer works.
        """

        @torch.no_grad()
        def act(k: Array, K: Array, z: Array, households: int) -> tuple[Array, Array]:
            last_labour = self.exact(K, z)[1]
            columns = [
                torch.tensor(x, dtype=torch.float32).reshape(-1, 1)
                for x in (k, K, last_labour, last_labour, np.exp(z))
            ]
            observations = self._observer.features(*columns).expand(-1, households, -1)
            actions = policy(observations).double().numpy()
            shape = (*np.shape(k), households)
            share, labour = (actions[..., i].reshape(shape) for i in range(2))
            return share, labour

        alone = torch.zeros(1, 1, 7)
        single = self.parameters.households == 1 or _acts_alone(policy, alone)
        households = 1 if single and self._shared(act) else self.parameters.households
        return lambda k, K, z: act(k, K, z, households)

    def _shared(self, act: Callable[[Array, Array, Array, int], tuple[Array, Array]]) -> bool:
        """Whether every household does the same, but for rounding, so that one stands for all."""
        k, z = self.held_out
        actions = act(k, k, z, self.parameters.households)
        alike = all(np.allclose(x, x[..., :1], rtol=1e-5, atol=1e-6) for x in actions)
        return alike and len(self.joined.counts) == 1

    def household_policy(self, policy: PolicyFunction) -> known.HouseholdPolicy:
        """The same, as the mean over households."""
        act = self.households_policy(policy)

        def mean(k: Array, K: Array, z: Array) -> tuple[Array, Array]:
            share, labour = act(k, K, z)
            return share.mean(-1), labour.mean(-1)

        return mean

    def state_policy(self, policy: PolicyFunction) -> StatePolicy:
        """A learned policy at symmetric states; the mean where they differ."""
        act = self.household_policy(policy)
        return lambda k, z: act(k, k, z)

    def each_policy(self, policy: PolicyFunction) -> StatePolicy:
        """A learned policy at symmetric states, household by household `[..., households]`."""
        act = self.households_policy(policy)
        return lambda k, z: act(k, k, z)

    @cached_property
    def held_out(self) -> tuple[Array, Array]:
        """States (k, z) that no policy was trained on in particular: a grid, flat."""
        low, high = (np.log(multiple * self.rest.k) for multiple in HELD_OUT_CAPITAL)
        reach = HELD_OUT_SD * self.economy.tfp_sd
        capital = np.exp(np.linspace(low, high, 41))
        tfp = np.linspace(-reach, reach, 9)
        k, z = np.meshgrid(capital, tfp, indexing="ij")
        return k.ravel(), z.ravel()

    def errors(self, policy: StatePolicy) -> tuple[Array, Array]:
        """Relative errors of share and labour at the held-out states, in %.

        Each is `[states, households]` where `policy` tells households apart, else `[states, 1]`.
        """
        actions = policy(*self.held_out)
        exact_actions = self.exact(*self.held_out)
        share, labour = (
            100 * np.abs(action.reshape(len(exact), -1) / exact[:, None] - 1)
            for action, exact in zip(actions, exact_actions, strict=True)
        )
        return share, labour


def _acts_alone(policy: PolicyFunction, observation: Tensor) -> bool:
    """Whether a policy can be asked for one household, which policies of their own cannot."""
    try:
        return policy(observation).shape[:-1] == observation.shape[:-1]
    except (RuntimeError, ValueError, IndexError):
        return False


def constant_policy(share: float, labour: float) -> StatePolicy:
    """The same actions in every state."""
    return lambda k, z: (np.full_like(k, share), np.full_like(k, labour))
