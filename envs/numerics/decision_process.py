"""A Markov decision process with few states: the value of a policy by one linear system, the best
policy by iteration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.numerics.checks import FloatArray, IntArray, distributions
from rl_markets.errors import ConvergenceError


@dataclass(frozen=True, eq=False)
class DecisionProcess:
    """S states and A actions, discounted for ever.

    earnings: [S, A] expected money. transitions: [S, A, S] probabilities, last axis the next state.
        discount: below 1.
    """

    earnings: FloatArray
    transitions: FloatArray
    discount: float

    def evaluate(self, policy: ArrayLike) -> FloatArray:
        """The value of a policy, probabilities [S, A], at each state: [S]."""
        chosen = distributions("policy", policy, self.earnings.shape)
        moves = np.einsum("sa,san->sn", chosen, self.transitions)
        earned = np.sum(chosen * self.earnings, axis=1)
        return np.asarray(np.linalg.solve(np.eye(len(earned)) - self.discount * moves, earned))

    def values(self, policy: IntArray) -> FloatArray:
        """The value of a policy that does not draw, indices [S], at each state: [S]."""
        here = np.arange(len(policy))
        moves = self.transitions[here, policy]
        earned = self.earnings[here, policy]
        return np.asarray(np.linalg.solve(np.eye(len(here)) - self.discount * moves, earned))

    def look_ahead(self, value: FloatArray) -> FloatArray:
        """What each action is worth if the next state is worth `value` [S]: [S, A]."""
        return np.asarray(self.earnings + self.discount * self.transitions @ value)

    def best(self) -> IntArray:
        """The optimal policy, indices [S], by policy iteration: exact but for rounding, a handful
        of linear systems."""
        states, actions = self.earnings.shape
        policy = np.zeros(states, dtype=np.int64)
        for _ in range(states * actions):
            value = self.values(policy)
            ahead = self.look_ahead(value)
            better = ahead.max(axis=1) > ahead[np.arange(states), policy] + 1e-9 * (
                1.0 + np.abs(value)
            )
            if not better.any():
                return policy
            policy = np.where(better, ahead.argmax(axis=1), policy)
        raise ConvergenceError("policy iteration did not come to rest")
