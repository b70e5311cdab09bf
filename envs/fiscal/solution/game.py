"""One period of the fiscal game at the nodes of the state space, given tomorrow's rules.

With tomorrow's rules, each K' has its c and its share s of what there is for the public good, see
`solution`; today's labour is a root of

    f(l) = b c l / (1-l) - (1-p_e)(1-alpha) [(1-s) Y(l) - s (1-delta) K]

f is convex, and f(0) > 0 if delta < 1: it has two roots or none. The solution takes the higher: the
only one at delta = 1 and in the limit theta -> 0. At the lower, high taxes and little work cause
each other; below it even less work is the best reply, so that where actions are bounded the least
work and a high tax may be best replies too. In states so rich that G would be a large part of
output there is no root: the tax and the work flee from each other to the edges of what is allowed.
The domain of capital ends before such states. Capital does not rise to them from below, so that
they do not matter to the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from scipy.special import expit, logit

from rl_markets.envs.fiscal.solution.economy import (
    QUADRATURE,
    TFP_FLOOR,
    TFP_REACH,
    FiscalEconomy,
    expected_basis,
    play,
)
from rl_markets.envs.households.solution.economy import innovations, labour_supply, output, utility
from rl_markets.envs.numerics.chebyshev import Interval, outer, product_nodes
from rl_markets.envs.numerics.checks import FloatArray

MISSING = 1e-8  # f / (b c) that counts as no root
MOST_TAXED = 0.95  # tax rate that stands for the missing reply, while the domain is sought


@dataclass(frozen=True)
class Rules:
    """What tomorrow's players do, and the government's value.

    Coefficients of polynomials in log K and z, all [capital.order, tfp.order].
    """

    log_c: FloatArray
    tax_odds: FloatArray
    value: FloatArray


@dataclass(frozen=True)
class Choice:
    """What today's players do at the nodes; all [N]."""

    log_k_next: FloatArray
    c: FloatArray
    l: FloatArray  # noqa: E741 (the paper's symbol)
    tau: FloatArray
    missing: FloatArray  # f / (b c) at l: 0 at a root, positive where there is none


@dataclass(frozen=True)
class Game:
    """One period of the game at the N = capital.order * tfp.order nodes.

    Tomorrow's productivity has Q nodes at each.
    """

    economy: FiscalEconomy
    capital: Interval
    tfp: Interval
    k: FloatArray  # [N]
    z: FloatArray  # [N]
    z_next: FloatArray  # [N, Q]
    weights: FloatArray  # [Q]
    basis: FloatArray  # [N, N] of today's states
    basis_z_next: FloatArray  # [N, Q, tfp.order]
    expected_z: FloatArray  # [N, tfp.order]: its mean over Q

    @classmethod
    def build(
        cls, economy: FiscalEconomy, capital: tuple[float, float], orders: tuple[int, int]
    ) -> Game:
        """The game on a domain of capital (low, high), with orders in capital and productivity."""
        core = economy.economy
        by_k = Interval(log(capital[0]), log(capital[1]), orders[0])
        reach = max(TFP_REACH * core.tfp_sd, TFP_FLOOR)
        by_z = Interval(-reach, reach, orders[1], margin=0.3)
        log_k, z = product_nodes(by_k, by_z)
        shocks, weights = innovations(core, QUADRATURE)
        z_next = core.rho * z[:, None] + shocks
        return cls(
            economy,
            capital=by_k,
            tfp=by_z,
            k=np.exp(log_k),
            z=z,
            z_next=z_next,
            weights=weights,
            basis=outer(by_k.basis(log_k), by_z.basis(z)),
            basis_z_next=by_z.basis(z_next),
            expected_z=expected_basis(economy, by_z, z),
        )

    def start(self, chat: FloatArray, labour: FloatArray, tau: FloatArray) -> Choice:
        """These actions [N], as a choice."""
        now = play(self.economy, self.k, self.z, chat, labour, tau)
        return Choice(np.log(now.k_next), now.c, labour, tau, np.zeros_like(tau))

    def rules(self, choice: Choice) -> Rules:
        """The rules through `choice`, and their value if they are kept for ever."""
        core = self.economy.economy
        # Where there is no reply, tau may come out above 1, which has no log odds.
        tau = np.where(choice.missing > MISSING, np.minimum(choice.tau, MOST_TAXED), choice.tau)
        g = tau * output(core, self.k, choice.l, self.z)
        now = utility(core, choice.c, choice.l) + self.economy.theta * np.log(g)
        later = outer(self.capital.basis(choice.log_k_next), self.expected_z)
        # V = now + beta E V' at the nodes: linear in the coefficients of V.
        value = np.asarray(np.linalg.solve(self.basis - core.beta * later, now), dtype=np.float64)
        at_nodes = np.stack([np.log(choice.c), logit(tau)], axis=1)
        log_c, odds = np.linalg.solve(self.basis, at_nodes).T
        shape = self.capital.order, self.tfp.order
        return Rules(log_c.reshape(shape), odds.reshape(shape), value.reshape(shape))

    def reply(self, rules: Rules, guess: Choice) -> Choice:
        """The equilibrium of today's choices, given tomorrow's `rules`.

        Newton's method in log K' at each node, with the slope by a small step.
        """
        log_k_next = guess.log_k_next
        for _ in range(30):
            gap = self._gap(rules, log_k_next)[0]
            step = 1e-6
            slope = (self._gap(rules, log_k_next + step)[0] - gap) / step
            # Bounded: far from the root, Newton's step may overshoot by much.
            move = np.clip(-gap / slope, -0.3, 0.3)
            log_k_next = log_k_next + move
            if np.max(np.abs(move)) < 1e-9:
                break
        return self._gap(rules, log_k_next)[1]

    def _gap(self, rules: Rules, log_k_next: FloatArray) -> tuple[FloatArray, Choice]:
        """(K' + c - a) / K [N] at these log K', and the choices that they lead to."""
        core = self.economy.economy
        c, share = self._tomorrow(rules, log_k_next)
        labour, missing = self._labour(c, share)
        y = output(core, self.k, labour, self.z)
        all_there_is = y + (1.0 - core.delta) * self.k
        gap = (np.exp(log_k_next) + c - (1.0 - share) * all_there_is) / self.k
        return gap, Choice(log_k_next, c, labour, share * all_there_is / y, missing)

    def _tomorrow(self, rules: Rules, log_k_next: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Today's consumption by the Euler equation, and the government's share s: [N] each.

        The share is that of the government's own first-order condition.
        """
        core = self.economy.economy
        # What tomorrow's players do at each K' and z', [N, Q].
        basis = self.capital.basis(log_k_next)
        k_next = np.exp(log_k_next)[:, None]
        c = np.exp(np.einsum("na,nqa->nq", basis @ rules.log_c, self.basis_z_next))
        tax_odds = np.einsum("na,nqa->nq", basis @ rules.tax_odds, self.basis_z_next)
        kept = self.economy.retention * (1.0 - expit(tax_odds))
        labour = labour_supply(core, c / kept, k_next, self.z_next)
        rental = core.alpha * output(core, k_next, labour, self.z_next) / k_next
        # 1 / c = beta E[ (1/c') ((1-p_e)(1-tau') r' + 1 - delta) ].
        marginal_value = core.beta * ((kept * rental + 1.0 - core.delta) / c) @ self.weights
        # s = theta / (m + theta), m = 1 + beta E dV(K', z') / dlog K'.
        slope = np.sum((self.capital.slopes(log_k_next) @ rules.value) * self.expected_z, axis=1)
        m = np.maximum(1.0 + core.beta * slope, 0.1)  # the floor is for wild steps
        return 1.0 / marginal_value, self.economy.theta / (m + self.economy.theta)

    def _labour(self, c: FloatArray, share: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The higher root of f, and 0: [N] each.

        Where f has no root, the l at which it is least, and f / (b c) there. Newton's method falls
        monotonically onto the root from the right, where labour is if s is the tax rate.
        """
        core = self.economy.economy
        alpha = core.alpha
        work = self.economy.retention * (1.0 - alpha) / (core.b * c)
        scale = work * (1.0 - share) * np.exp(self.z) * self.k**alpha
        fixed = work * share * (1.0 - core.delta) * self.k

        def f(labour: FloatArray) -> FloatArray:
            """f / (b c)."""
            odds = labour / (1.0 - labour)
            return np.asarray(odds - scale * labour ** (1.0 - alpha) + fixed)

        least = _least(scale * (1.0 - alpha), alpha)
        labour = labour_supply(core, c / (self.economy.retention * (1.0 - share)), self.k, self.z)
        for _ in range(60):
            slope = 1.0 / (1.0 - labour) ** 2 - (1.0 - alpha) * scale * labour**-alpha
            previous = labour
            # Not past the least of f, behind which the lower root lies.
            labour = np.maximum(labour - f(labour) / np.maximum(slope, 1e-12), least)
            if np.all(np.abs(labour - previous) <= 1e-13 * labour):
                break
        return labour, np.maximum(f(labour), 0.0)


def _least(scale: FloatArray, alpha: float) -> FloatArray:
    """The l in (0, 1) at which l^alpha / (1-l)^2 = scale.

    Newton's method in log odds, as for labour supply.
    """
    log_scale = np.log(scale)
    log_odds = np.where(log_scale > 0.0, log_scale / 2.0, log_scale / alpha)
    for _ in range(60):
        minus_log_leisure = np.logaddexp(0.0, log_odds)
        minus_log_labour = np.logaddexp(0.0, -log_odds)
        excess = 2.0 * minus_log_leisure - alpha * minus_log_labour - log_scale
        step = excess / (alpha + (2.0 - alpha) * expit(log_odds))
        log_odds = log_odds - step
        if np.all(np.abs(step) <= 1e-12 * (1.0 + np.abs(log_odds))):
            break
    return np.asarray(expit(log_odds))
