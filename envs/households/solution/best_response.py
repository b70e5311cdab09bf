"""The exact best response of one household to others that all play one frozen policy.

The problem is `deviation`'s, solved by Howard's policy iteration: the value of given actions is one
linear system, then the actions are improved at every node. The first actions are the frozen
policy's own, so that the gain from deviating, the optimum minus the frozen policy's value, comes
out of one approximation. It is what a trained policy's certificate reports: zero at every state
that is reached, for an equilibrium.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.households.solution.deviation import (
    ALONE,
    AMONG_OTHERS,
    Deviation,
    Grid,
    HouseholdPolicy,
    States,
    actions_of,
)
from rl_markets.envs.households.solution.economy import Economy
from rl_markets.envs.numerics.box import maximise
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

Actions = tuple[FloatArray, FloatArray]  # (chat, l)

BOUNDS = (0.01, 0.99)  # of both actions: the market's bounds
DAMPING = 0.6  # share of a full step
DAMPED_ITERATIONS = 40
DAMPED_TOLERANCE = 4e-4  # in utils: .002% of consumption
CHECKED_STATES = 1000  # off the nodes, for the reported errors


@final
@dataclass(frozen=True)
class BestResponse:
    """The deviator's optimum and the value of not deviating.

    States are arrays of broadcastable shapes. k_own, k_others: the deviator's and each other
    household's capital, the latter ignored when the deviator is the whole economy; z: log
    productivity. Trusted near k_own = k_others, inside the grid; the values of extreme inequality,
    which is rarely reached, are rough. A value is off by at most its error / (1 - beta).
    """

    iterations: int  # of Howard's policy iteration
    bellman_error: float  # of the optimum off the nodes, in utils
    frozen_error: float  # the same of the frozen policy's value
    leaving: float  # share of nodes from which the optimum or the frozen policy leaves the domain
    deviation: Deviation
    optimum: FloatArray  # [P] coefficients of its value
    frozen: FloatArray  # [P] of the frozen policy's value

    def value(self, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike) -> FloatArray:
        """Discounted utility of the best response."""
        return self._evaluate(self.optimum, k_own, k_others, z)

    def frozen_value(self, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike) -> FloatArray:
        """Discounted utility of playing the frozen policy instead."""
        return self._evaluate(self.frozen, k_own, k_others, z)

    def gain(self, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike) -> FloatArray:
        """Discounted utility gained by deviating from the frozen policy, in utils."""
        return self._evaluate(self.optimum - self.frozen, k_own, k_others, z)

    def gain_percent(self, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike) -> FloatArray:
        """The same as a permanent rise of consumption, in %."""
        gain = self.gain(k_own, k_others, z)
        return 100.0 * np.expm1((1.0 - self.deviation.economy.beta) * gain)

    def policy(
        self, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """The best response's (chat, l)."""
        at = self.deviation.states(k_own, k_others, z)
        objective = self.deviation.returns(at, self.optimum)
        chat, labour, _ = maximise(objective, len(at.z), BOUNDS)
        shape = np.broadcast_shapes(np.shape(k_own), np.shape(k_others), np.shape(z))
        return chat.reshape(shape), labour.reshape(shape)

    def _evaluate(
        self, coefficients: FloatArray, k_own: ArrayLike, k_others: ArrayLike, z: ArrayLike
    ) -> FloatArray:
        at = self.deviation.states(k_own, k_others, z)
        shape = np.broadcast_shapes(np.shape(k_own), np.shape(k_others), np.shape(z))
        return self.deviation.value(at, coefficients).reshape(shape)


def best_response(
    economy: Economy,
    others: HouseholdPolicy,
    n: int,
    price_taking: bool,
    *,
    own: HouseholdPolicy | None = None,
    grid: Grid | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 14,
) -> BestResponse:
    """Solve the deviator's problem, and value the frozen policy for it.

    others: the policy of each of the n - 1 others.
    own: the frozen policy that the deviator would give up, by default the same.
    price_taking: the deviator ignores its weight in the aggregates, as one of infinitely many
    would; otherwise it knows that it is 1/n of them. One strategic household is the planner.
    grid: by default ALONE or AMONG_OTHERS; the reported errors tell whether it is fine enough.
    tolerance: largest change of the value at the nodes in the last iteration, in utils.

    Among others, where full steps do not settle, damped ones follow. Raises ValueError for n < 1 or
    frozen actions outside (0, 1), ConvergenceError if those do not settle either. They may not for
    a price taker facing a crowd far from equilibrium: with interest rates away from 1 / beta, to an
    atomistic deviator no amount of capital is enough, or little enough: any domain's end matters.
    """
    if n < 1:
        raise ValueError(f"n = {n!r}: expected at least 1 household")
    weight = 0.0 if price_taking else 1.0 / n
    grid = grid or (ALONE if weight == 1.0 else AMONG_OTHERS)
    game = Deviation.build(economy, others, weight, grid)
    frozen = others if own is None else own
    nodes = game.nodes()
    frozen_actions = actions_of(frozen, nodes.k_own, nodes.k_mean, nodes.z)
    frozen_value = game.evaluate(nodes, *frozen_actions)
    value, actions, iterations = _optimum(
        game, nodes, frozen_value, frozen_actions, tolerance, max_iterations
    )
    errors = _off_node_errors(game, frozen, value, frozen_value)
    leaving = max(game.leaving(nodes, *frozen_actions), game.leaving(nodes, *actions))
    return BestResponse(iterations, *errors, leaving, game, value, frozen_value)


def _optimum(
    game: Deviation,
    nodes: States,
    value: FloatArray,
    actions: Actions,
    tolerance: float,
    max_iterations: int,
) -> tuple[FloatArray, Actions, int]:
    """By full steps, and among others by damped ones where those do not settle."""
    try:
        return _iterate(game, nodes, value, actions, tolerance, max_iterations)
    except ConvergenceError:
        if game.weight == 1.0:
            raise
        return _iterate_damped(game, nodes, value, actions)


def _iterate(
    game: Deviation,
    nodes: States,
    value: FloatArray,
    actions: Actions,
    tolerance: float,
    max_iterations: int,
) -> tuple[FloatArray, Actions, int]:
    """Howard's policy iteration from a value and its actions: (value, actions, iterations)."""
    change = np.inf
    for iteration in range(1, max_iterations + 1):
        objective = game.returns(nodes, value)
        chat, labour, _ = maximise(objective, len(nodes.z), BOUNDS, start=actions)
        actions = chat, labour
        previous = value
        value = game.evaluate(nodes, chat, labour)
        change = float(np.max(np.abs(game.value(nodes, value - previous))))
        if change < tolerance:
            return value, actions, iteration
    raise ConvergenceError(
        f"policy iteration still moved the value by {change:.1e} after {max_iterations} steps"
    )


def _iterate_damped(
    game: Deviation, nodes: States, value: FloatArray, actions: Actions
) -> tuple[FloatArray, Actions, int]:
    """The same in smaller steps.

    For crowds at which full steps go back and forth at the edges of the grid. Settled when the mean
    value where everybody is equally rich, which is where gains are reported, has moved by less than
    DAMPED_TOLERANCE in each of three steps running.
    """
    crowd = np.exp(np.linspace(game.crowd.low, game.crowd.high, 9))
    alike = game.states(crowd, crowd, np.zeros_like(crowd))
    settled = 0
    for iteration in range(1, DAMPED_ITERATIONS + 1):
        objective = game.returns(nodes, value)
        best_chat, best_labour, _ = maximise(objective, len(nodes.z), BOUNDS, start=actions)
        chat = actions[0] + DAMPING * (best_chat - actions[0])
        labour = actions[1] + DAMPING * (best_labour - actions[1])
        actions = chat, labour
        previous = value
        value = game.evaluate(nodes, chat, labour)
        change = abs(float(np.mean(game.value(alike, value - previous))))
        settled = settled + 1 if change < DAMPED_TOLERANCE else 0
        if settled == 3:
            return value, actions, iteration
    raise ConvergenceError(
        f"damped policy iteration still moved the value by {change:.1e} after {iteration} steps"
    )


def _off_node_errors(
    game: Deviation, frozen: HouseholdPolicy, value: FloatArray, frozen_value: FloatArray
) -> tuple[float, float]:
    """Largest Bellman errors of the optimum and of the frozen policy's value, at random states."""
    rng = np.random.default_rng(0)
    domain = (game.own, game.crowd, game.tfp)
    at = game.at(*(rng.uniform(x.low, x.high, CHECKED_STATES) for x in domain))
    *_, best = maximise(game.returns(at, value), CHECKED_STATES, BOUNDS)
    frozen_actions = actions_of(frozen, at.k_own, at.k_mean, at.z)
    frozen_return = game.returns(at, frozen_value)(*frozen_actions)
    optimum_error = float(np.max(np.abs(best - game.value(at, value))))
    frozen_error = float(np.max(np.abs(frozen_return - game.value(at, frozen_value))))
    return optimum_error, frozen_error
