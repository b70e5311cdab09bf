"""The problem of one household that may deviate from what the others do: transitions and value basis.

The deviator, household i of n, holds k_i; the others hold k_o each. With w = 1/n, or w = 0 for a price taker,

    K = (1 - w) k_o + w k_i,   L = (1 - w) l_o + w l_i,   Y = exp(z) K^alpha L^(1-alpha)
    a_j = (1 - alpha) Y / L * l_j + alpha Y / K * k_j + (1 - delta) k_j,   k_j' = (1 - chat_j) a_j
    V(k_i, k_o, z) = max over (chat_i, l_i) of log(chat_i a_i) + b log(1 - l_i) + beta E V(k_i', k_o', z')

V is a tensor product of Chebyshev polynomials in (log k_i / k_o, log k_o, z). The next z does not depend on the
actions, so the expectation over it is taken once and trying actions costs one small product a state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike

from .chebyshev import Interval
from .economy import Economy, FloatArray, innovations, output, steady_state, utility
from .splines import Splines

ACTION_LOW = 0.01
TFP_REACH = 4.0  # half-width of the productivity domain, in unconditional standard deviations,
TFP_FLOOR = 0.02  # but at least this, for an economy without shocks.

HouseholdPolicy = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""(own capital, mean capital K, z), three arrays of one shape, to (chat, l)."""


@dataclass(frozen=True)
class States:
    """Households' states, all [N], and what does not depend on the deviator's actions."""

    k_own: FloatArray
    k_others: FloatArray
    z: FloatArray
    k_mean: FloatArray  # K
    chat_others: FloatArray
    l_others: FloatArray


@dataclass(frozen=True)
class Deviation:
    """The deviator's problem, at N states, for a value of P = relative.order * crowd.order * tfp.order terms."""

    economy: Economy
    others: HouseholdPolicy
    weight: float  # of the deviator in the aggregates, w
    relative: Interval  # of log k_own / k_others
    crowd: Interval  # of log k_others
    tfp: Interval  # of z
    innovations: tuple[FloatArray, FloatArray]  # of z: nodes [Q], weights [Q]

    @classmethod
    def build(
        cls,
        economy: Economy,
        others: HouseholdPolicy,
        weight: float,
        capital_range: tuple[float, float],
        relative_range: tuple[float, float],
        orders: tuple[int, int, int],
        quadrature: int,
    ) -> Deviation:
        """orders: of the basis in either capital, and in productivity. The rest: see `best_response`."""
        for name, (least, most) in (("capital_range", capital_range), ("relative_range", relative_range)):
            if not 0.0 < least < most:
                raise ValueError(f"{name} = {(least, most)!r}: expected 0 < low < high")
        low, high = (log(multiple * steady_state(economy).k) for multiple in capital_range)
        reach = max(TFP_REACH * economy.tfp_sd, TFP_FLOOR)
        relative_order = 1 if weight == 1.0 else orders[0]  # alone, a household is as rich as the mean
        return cls(
            economy=economy,
            others=others,
            weight=weight,
            relative=Interval(log(relative_range[0]), log(relative_range[1]), 1)
            if weight == 1.0
            else Splines(log(relative_range[0]), log(relative_range[1]), orders[2]),
            crowd=Interval(low, high, orders[0]),
            tfp=Interval(-reach, reach, orders[1], margin=1.0),
            innovations=innovations(economy, quadrature),
        )

    def states(self, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike) -> States:
        """The states, raveled, with what the others do there; alone, the deviator stands for the others."""
        k_i, k_o, tfp = (_ravel(x) for x in np.broadcast_arrays(k_own, k_others, z))
        if self.weight == 1.0:
            k_o = k_i
        k_mean = (1.0 - self.weight) * k_o + self.weight * k_i
        return States(k_i, k_o, tfp, k_mean, *actions_of(self.others, k_o, k_mean, tfp))

    def nodes(self) -> States:
        """The collocation nodes: N = P."""
        nodes = (self.relative.nodes(), self.crowd.nodes(), self.tfp.nodes())
        log_relative, log_k_others, z = np.meshgrid(*nodes, indexing="ij")
        return self.states(np.exp(log_relative + log_k_others), np.exp(log_k_others), z)

    def play(
        self, at: States, chat: FloatArray, labour: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(utility, next own capital, next capital of the others) of the deviator's actions."""
        alpha, w = self.economy.alpha, self.weight
        l_mean = (1.0 - w) * at.l_others + w * labour
        y = output(self.economy, at.k_mean, l_mean, at.z)
        wage, gross_return = (1.0 - alpha) * y / l_mean, alpha * y / at.k_mean + 1.0 - self.economy.delta
        wealth = wage * labour + gross_return * at.k_own
        wealth_others = wage * at.l_others + gross_return * at.k_others
        k_others = np.clip((1.0 - at.chat_others) * wealth_others, *np.exp([self.crowd.low, self.crowd.high]))
        k_own = self._walled((1.0 - chat) * wealth, k_others)
        c = np.maximum(wealth - k_own, ACTION_LOW * wealth)
        return utility(self.economy, c, labour), k_own, k_own if w == 1.0 else k_others

    def _walled(self, k_own, k_others):
        if self.weight == 1.0:
            return np.clip(k_own, *np.exp([self.crowd.low, self.crowd.high]))
        return np.clip(k_own, np.exp(self.relative.low) * k_others, np.exp(self.relative.high) * k_others)

    def basis(self, k_own: FloatArray, k_others: FloatArray, basis_z: FloatArray) -> FloatArray:
        """[N, P], from the basis in z: [N, tfp.order]."""
        left, middle = self.relative.basis(np.log(k_own / k_others)), self.crowd.basis(np.log(k_others))
        product = left[:, :, None, None] * middle[:, None, :, None] * basis_z[:, None, None, :]
        return product.reshape(len(k_own), -1)

    def expected_basis_z(self, z: FloatArray) -> FloatArray:
        """E of the basis in z', given z: [N, tfp.order]."""
        shocks, weights = self.innovations
        basis = self.tfp.basis(self.economy.rho * z[:, None] + shocks)
        return np.asarray(np.einsum("nqc,q->nc", basis, weights))

    def returns(self, at: States, value: FloatArray) -> Callable[[FloatArray, FloatArray], FloatArray]:
        """The right-hand side of the Bellman equation at `at`, as a function of the actions."""
        shape = (self.relative.order, self.crowd.order, self.tfp.order)
        expected = np.einsum("abc,nc->nab", value.reshape(shape), self.expected_basis_z(at.z))

        def total(chat: FloatArray, labour: FloatArray) -> FloatArray:
            now, k_own, k_others = self.play(at, chat, labour)
            by_relative = np.einsum("nab,nb->na", expected, self.crowd.basis(np.log(k_others)))
            following = np.sum(by_relative * self.relative.basis(np.log(k_own / k_others)), axis=1)
            return np.asarray(now + self.economy.beta * following)

        return total

    def evaluate(self, at: States, chat: FloatArray, labour: FloatArray) -> FloatArray:
        """Coefficients of the value of playing (chat, labour), given at the nodes, for ever."""
        now, k_own, k_others = self.play(at, chat, labour)
        basis = self.basis(at.k_own, at.k_others, self.tfp.basis(at.z))
        following = self.basis(k_own, k_others, self.expected_basis_z(at.z))
        return np.asarray(np.linalg.solve(basis - self.economy.beta * following, now))

    def value(self, at: States, coefficients: FloatArray) -> FloatArray:
        """The value function with `coefficients` [P], at the N states."""
        return np.asarray(self.basis(at.k_own, at.k_others, self.tfp.basis(at.z)) @ coefficients)

    def leaving(self, at: States, chat: FloatArray, labour: FloatArray) -> float:
        """Share of the states `at` from which the deviator or the others leave the domain of capital."""
        _, k_own, k_others = self.play(at, chat, labour)
        relative = np.abs(self.relative.position(np.log(k_own / k_others))) > 1.0
        return float(np.mean(relative | (np.abs(self.crowd.position(np.log(k_others))) > 1.0)))


def actions_of(
    policy: HouseholdPolicy, k_own: FloatArray, k_mean: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(chat, l) of `policy`; raises ValueError unless both are strictly between 0 and 1 at every state."""
    chat, labour = (np.broadcast_to(_ravel(action), z.shape) for action in policy(k_own, k_mean, z))
    for name, action in (("chat", chat), ("l", labour)):
        if not np.all((action > 0.0) & (action < 1.0)):
            raise ValueError(
                f"{name} from {action.min()!r} to {action.max()!r}: expected a policy's within (0, 1)"
            )
    return chat, labour


def _ravel(values: ArrayLike) -> FloatArray:
    return np.ravel(np.asarray(values, dtype=np.float64))
