"""A Markov decision process with few states: values of policies, and the best policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.numerics.checks import FloatArray, IntArray, distributions
from rl_markets.errors import ConvergenceError


@dataclass(frozen=True, eq=False)
class DecisionProcess:
    """S states and A actions, discounted for ever.

    earnings: [S, A] expected money.
    transitions: [S, A, S] probabilities, last axis the next state.
    discount: below 1.
    """

    earnings: FloatArray
    transitions: FloatArray
    discount: float

    def evaluate(self, policy: ArrayLike) -> FloatArray:
        """The value of a policy, probabilities [S, A], at each state: [S].

        Raises ValueError unless they are distributions.
        """
        probabilities = distributions("policy", policy, self.earnings.shape)
        transitions = np.einsum("sa,san->sn", probabilities, self.transitions)
        earnings = np.sum(probabilities * self.earnings, axis=1)
        return self._solve(transitions, earnings)

    def values(self, policy: IntArray) -> FloatArray:
        """The value of a policy that does not draw, indices [S], at each state: [S]."""
        states = np.arange(len(policy))
        return self._solve(self.transitions[states, policy], self.earnings[states, policy])

    def _solve(self, transitions: FloatArray, earnings: FloatArray) -> FloatArray:
        """The value [S] with value = earnings + discount * transitions @ value."""
        system = np.eye(len(earnings)) - self.discount * transitions
        return np.asarray(np.linalg.solve(system, earnings))

    def look_ahead(self, value: FloatArray) -> FloatArray:
        """What each action is worth if the next state is worth `value` [S]: [S, A]."""
        return np.asarray(self.earnings + self.discount * self.transitions @ value)

    def best(self) -> IntArray:
        """The optimal policy, indices [S], by policy iteration.

        Exact but for rounding, after a handful of linear systems.
        """
        states, actions = self.earnings.shape
        policy = np.zeros(states, dtype=np.int64)
        for _ in range(states * actions):
            value = self.values(policy)
            ahead = self.look_ahead(value)
            # A tie must not count as better for its rounding error: the iteration could cycle.
            margin = 1e-9 * (1.0 + np.abs(value))
            better = ahead.max(axis=1) > ahead[np.arange(states), policy] + margin
            if not better.any():
                return policy
            policy = np.where(better, ahead.argmax(axis=1), policy)
        raise ConvergenceError("policy iteration did not come to rest")
