"""The problem of one household that may deviate from what the others do.

The deviator, household i of n, holds k_i; the others hold k_o each. With w = 1/n, or w = 0 for a
price taker,

    K = (1 - w) k_o + w k_i,   L = (1 - w) l_o + w l_i,   Y = exp(z) K^alpha L^(1-alpha)
    a_j = (1 - alpha) Y / L * l_j + alpha Y / K * k_j + (1 - delta) k_j,   k_j' = (1 - chat_j) a_j
    V(k_i, k_o, z) = max over (chat_i, l_i) of
                     log(chat_i a_i) + b log(1 - l_i) + beta E V(k_i', k_o', z')

V is a tensor product of cubic splines in log(k_i + k_ss) and Chebyshev polynomials in log k_o and
z. Own capital runs from next to nothing to plenty: it is small against what a household can earn,
so that prices which are off by little send a deviator far. Rich, it stops working; poor, it cannot
borrow: hence splines. Alone (w = 1) the deviator is the mean household, and V a polynomial in
log k_o = log k_i and z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.households.solution.economy import (
    Economy,
    innovations,
    output,
    steady_state,
    utility,
)
from rl_markets.envs.numerics.chebyshev import Interval
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.envs.numerics.splines import Splines

TFP_REACH = 4.0  # half-width of the productivity domain, in unconditional standard deviations
TFP_FLOOR = 0.02  # the least half-width, for an economy without shocks

HouseholdPolicy = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""(own capital, mean capital K, z), three arrays of one shape, to (chat, l)."""


@dataclass(frozen=True)
class Grid:
    """Domain of the deviator's problem, and the size of its basis.

    Capital is in multiples of its steady state. Raises ValueError for an empty range.
    """

    own_range: tuple[float, float] = (0.002, 15.0)  # of k_own; unused if the deviator is alone
    crowd_range: tuple[float, float] = (0.5, 2.0)  # of k_others
    own_order: int = 32  # splines in k_own
    crowd_order: int = 6  # polynomials in k_others
    tfp_order: int = 3  # polynomials in z
    quadrature: int = 7  # nodes of the expectation over z'

    def __post_init__(self) -> None:
        for name, (low, high) in (("own_range", self.own_range), ("crowd_range", self.crowd_range)):
            if not 0.0 < low < high:
                raise ValueError(f"{name} = {(low, high)!r}: expected 0 < low < high")


AMONG_OTHERS = Grid()
ALONE = Grid(crowd_range=(0.2, 4.0), crowd_order=17, tfp_order=6)


@dataclass(frozen=True)
class States:
    """N states, every array [N], and what does not depend on the deviator's actions."""

    k_own: FloatArray
    k_others: FloatArray
    z: FloatArray
    k_mean: FloatArray  # K
    chat_others: FloatArray
    l_others: FloatArray


@dataclass(frozen=True)
class Deviation:
    """The deviator's problem, with a value of P = own.order * crowd.order * tfp.order terms."""

    economy: Economy
    others: HouseholdPolicy
    weight: float  # of the deviator in the aggregates, w
    own: Splines | Interval  # of log(k_own + k_steady); a single constant if the deviator is alone
    crowd: Interval  # of log k_others
    tfp: Interval  # of z
    k_steady: float
    innovations: tuple[FloatArray, FloatArray]  # of z: nodes [Q], weights [Q]

    @classmethod
    def build(
        cls, economy: Economy, others: HouseholdPolicy, weight: float, grid: Grid
    ) -> Deviation:
        """The problem of a deviator with `weight` in the aggregates."""
        k_steady = steady_state(economy).k
        own_low, own_high = (log((multiple + 1.0) * k_steady) for multiple in grid.own_range)
        own: Splines | Interval
        if weight == 1.0:
            own = Interval(own_low, own_high, 1)
        else:
            own = Splines(own_low, own_high, grid.own_order)
        crowd_low, crowd_high = (log(multiple * k_steady) for multiple in grid.crowd_range)
        reach = max(TFP_REACH * economy.tfp_sd, TFP_FLOOR)
        return cls(
            economy=economy,
            others=others,
            weight=weight,
            own=own,
            crowd=Interval(crowd_low, crowd_high, grid.crowd_order),
            tfp=Interval(-reach, reach, grid.tfp_order, margin=1.0),
            k_steady=k_steady,
            innovations=innovations(economy, grid.quadrature),
        )

    def states(self, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike) -> States:
        """The states, raveled, with what the others do there.

        Alone, the deviator stands for the others.
        """
        k_i, k_o, tfp = (_ravel(x) for x in np.broadcast_arrays(k_own, k_others, z))
        if self.weight == 1.0:
            k_o = k_i
        k_mean = (1.0 - self.weight) * k_o + self.weight * k_i
        return States(k_i, k_o, tfp, k_mean, *actions_of(self.others, k_o, k_mean, tfp))

    def at(self, own: FloatArray, crowd: FloatArray, z: FloatArray) -> States:
        """The states with these coordinates, as `own`, `crowd` and `tfp` have them."""
        k_others = np.exp(crowd)
        k_own = k_others if self.weight == 1.0 else np.exp(own) - self.k_steady
        return self.states(k_own, k_others, z)

    def nodes(self) -> States:
        """The collocation nodes: N = P."""
        axes = (self.own.nodes(), self.crowd.nodes(), self.tfp.nodes())
        return self.at(*np.meshgrid(*axes, indexing="ij"))

    def play(
        self, at: States, chat: FloatArray, labour: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(utility, next own capital, next capital of the others) of the deviator's actions."""
        alpha = self.economy.alpha
        w = self.weight
        l_mean = (1.0 - w) * at.l_others + w * labour
        y = output(self.economy, at.k_mean, l_mean, at.z)
        wage = (1.0 - alpha) * y / l_mean
        gross_return = alpha * y / at.k_mean + 1.0 - self.economy.delta
        wealth = wage * labour + gross_return * at.k_own
        k_own = (1.0 - chat) * wealth
        if w < 1.0:
            wealth_others = wage * at.l_others + gross_return * at.k_others
            k_others = (1.0 - at.chat_others) * wealth_others
        else:
            k_others = k_own
        return utility(self.economy, chat * wealth, labour), k_own, k_others

    def returns(
        self, at: States, value: FloatArray
    ) -> Callable[[FloatArray, FloatArray], FloatArray]:
        """The Bellman equation's right-hand side at the N states, a function of the actions [N].

        Tomorrow's z does not depend on the actions, so the expectation over it is taken here, once.
        """
        shape = (self.own.order, self.crowd.order, self.tfp.order)
        expected = np.einsum("abc,nc->nab", value.reshape(shape), self._expected_basis_z(at.z))

        def total(chat: FloatArray, labour: FloatArray) -> FloatArray:
            reward, k_own, k_others = self.play(at, chat, labour)
            own, crowd = self._bases(k_own, k_others)
            # The sum over all P terms, one axis at a time: the crowd's, then the deviator's.
            by_own = np.matmul(expected, crowd[:, :, None])[:, :, 0]
            return np.asarray(reward + self.economy.beta * np.sum(by_own * own, axis=1))

        return total

    def evaluate(self, at: States, chat: FloatArray, labour: FloatArray) -> FloatArray:
        """[P] coefficients of the value of playing (chat, labour), given at the nodes, for ever."""
        reward, *next_capital = self.play(at, chat, labour)
        # V = reward + beta E V' is linear in the coefficients.
        today = self._product(*self._bases(at.k_own, at.k_others), self.tfp.basis(at.z))
        tomorrow = self._product(*self._bases(*next_capital), self._expected_basis_z(at.z))
        return np.asarray(np.linalg.solve(today - self.economy.beta * tomorrow, reward))

    def value(self, at: States, coefficients: FloatArray) -> FloatArray:
        """The value function with `coefficients` [P], at the N states."""
        own, crowd = self._bases(at.k_own, at.k_others)
        return np.asarray(self._product(own, crowd, self.tfp.basis(at.z)) @ coefficients)

    def leaving(self, at: States, chat: FloatArray, labour: FloatArray) -> float:
        """Share of the states from which the deviator or the others leave the domain of capital."""
        _, k_own, k_others = self.play(at, chat, labour)
        outside = np.abs(self.crowd.position(np.log(k_others))) > 1.0
        if self.weight < 1.0:
            outside |= np.abs(self.own.position(np.log(k_own + self.k_steady))) > 1.0
        return float(outside.mean())

    def _bases(self, k_own: FloatArray, k_others: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.own.basis(np.log(k_own + self.k_steady)), self.crowd.basis(np.log(k_others))

    def _expected_basis_z(self, z: FloatArray) -> FloatArray:
        """E of the basis in z', given z: [N, tfp.order]."""
        shocks, weights = self.innovations
        basis = self.tfp.basis(self.economy.rho * z[:, None] + shocks)
        return np.asarray(np.einsum("nqc,q->nc", basis, weights))

    @staticmethod
    def _product(own: FloatArray, crowd: FloatArray, tfp: FloatArray) -> FloatArray:
        """Row-wise outer product: [N, P]."""
        product = own[:, :, None, None] * crowd[:, None, :, None] * tfp[:, None, None, :]
        return product.reshape(len(own), -1)


def actions_of(
    policy: HouseholdPolicy, k_own: FloatArray, k_mean: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(chat, l) of `policy`, each [N].

    Raises ValueError unless both are strictly between 0 and 1 at every state.
    """
    actions = policy(k_own, k_mean, z)
    chat, labour = (np.broadcast_to(_ravel(action), z.shape) for action in actions)
    for name, action in (("chat", chat), ("l", labour)):
        if not np.all((action > 0.0) & (action < 1.0)):
            low = float(action.min())
            high = float(action.max())
            raise ValueError(
                f"policy's {name} in [{low!r}, {high!r}]: expected within (0, 1) at every state"
            )
    return chat, labour


def _ravel(values: ArrayLike) -> FloatArray:
    return np.ravel(np.asarray(values, dtype=np.float64))
