"""The known answer of the economy with a government: the Markov-perfect equilibrium.

How far learned policies are from it, and what they could still gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import AnswerKey, Assessment, Metric, Plot
from rl_markets.envs.fiscal import solution as known
from rl_markets.envs.fiscal.market import Fiscal
from rl_markets.envs.fiscal.parameters import FiscalParameters
from rl_markets.envs.households import economics
from rl_markets.envs.households.answer import rules
from rl_markets.envs.households.answer.pictures import rules_over_capital
from rl_markets.envs.households.market import ACTION_HIGH, ACTION_LOW, LOG_PRODUCTIVITY_SCALE
from rl_markets.envs.households.solution import Economy
from rl_markets.envs.market import Market, PolicyFunction
from rl_markets.envs.paths import PathDeviation
from rl_markets.errors import ConvergenceError

Array = NDArray[np.float64]
Rules = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(K, log A) -> (consumption share, labour, tax rate), at symmetric states."""

ACTIONS = ("consumption share", "labour", "tax rate")
HELD_OUT_CAPITAL = (0.5, 2.0)
"""Held-out capital, in multiples of the rest point's."""
HELD_OUT_SD = 2.0
"""Held-out productivity, in standard deviations either way."""
LIMITS = (1.0, 1.0, 5.0)
"""The certificate's limits of the three actions' errors, in %.

A tax rate that is 5 % off costs .005 % of consumption.
"""
GAIN_LIMIT = 0.05
"""The certificate's limit of gains, in % of consumption."""


@dataclass(frozen=True)
class _Candidate:
    name: str
    rules: Rules


class FiscalAnswer(AnswerKey):
    """Closed form at full depreciation (delta = 1), projection otherwise; see `fiscal.solution`.

    Households who learn from samples feel their own effect on the schedule, so that the answer
    depends on n where the schedule is progressive.
    """

    def __init__(self, parameters: FiscalParameters) -> None:
        p = self.parameters = parameters
        self.economy = known.FiscalEconomy(
            Economy(alpha=p.alpha, beta=p.beta, delta=p.delta, b=p.b, rho=p.rho, sigma=p.sigma),
            theta=p.theta,
            progressivity=p.progressivity,
            households=p.households,
            conduct="strategic",
        )
        self.name = "closed form" if p.delta == 1 else "Markov-perfect equilibrium"

    @cached_property
    def exact(self) -> Rules:
        """The known answer."""
        if self.parameters.delta == 1:
            return _constant(*known.closed_form(self.economy))
        return self.solution.actions

    @cached_property
    def solution(self) -> known.FiscalSolution:
        """By projection; a second or two, once."""
        return known.solve(self.economy)

    # -- the answer as policies --------------------------------------------------------------------

    def policies(self, market: Market) -> dict[str, PolicyFunction]:
        """The answer as policies of what each group observes.

        Off the symmetric states households are linear in wealth (see `households.answer.rules`):
        exact for a flat rate, close for a progressive one.
        """
        return {"households": self._household_rule, "government": self._government_rule}

    def _household_rule(self, observations: Tensor) -> Tensor:
        k, K, z = rules.told(observations, "log")
        share, labour, tau = (x.reshape(K.shape) for x in self.exact(K.ravel(), z.ravel()))
        return rules.linear_in_wealth(self.economy.economy, share, labour, k, K, z, kept=1 - tau)

    def _government_rule(self, observations: Tensor) -> Tensor:
        columns = observations.double().cpu().numpy()
        K = np.exp(2 * columns[..., 0])
        z = columns[..., 1] / LOG_PRODUCTIVITY_SCALE
        tau = self.exact(K.ravel(), z.ravel())[2].reshape(K.shape)
        return torch.from_numpy(np.clip(tau, ACTION_LOW, ACTION_HIGH)).float()[..., None]

    def tolerance(self, group: str) -> float:
        """What a permanent rise of consumption by the limit is worth, in utils."""
        return economics.utility_of(GAIN_LIMIT, self.parameters.beta)

    @cached_property
    def rest(self) -> float:
        """The answer's capital at rest."""
        if self.parameters.delta == 1:
            return known.rest_at(self.economy, known.closed_form(self.economy)[2]).k
        return self.solution.rest.k

    # -- policies as functions of the state --------------------------------------------------------

    @torch.no_grad()
    def act(
        self, policies: Mapping[str, PolicyFunction], K: Array, z: Array
    ) -> tuple[Array, Array, Array]:
        """What learned policies do at symmetric states.

        Last period's labour, which households also observe but which moves nothing, is what the
        answer works.

        Returns:
            shares and labours `[households, states]`, tax rates `[states]`.
        """
        labour = self.exact(K, z)[1]
        own, hours, tfp = (
            torch.tensor(x, dtype=torch.float32).reshape(-1, 1) for x in (K, labour, z)
        )
        alike = Fiscal.household_features(own, own, hours, hours, tfp)
        households = alike.expand(-1, self.parameters.households, -1)
        actions = policies["households"](households).double().numpy()
        tau = policies["government"](Fiscal.government_features(own, tfp, torch.zeros(1)))
        return actions[..., 0].T, actions[..., 1].T, tau[:, 0, 0].double().numpy()

    def rules(self, policies: Mapping[str, PolicyFunction]) -> Rules:
        """Learned policies at symmetric states.

        The mean where households differ in what they learned.
        """

        def mean(K: Array, z: Array) -> tuple[Array, Array, Array]:
            share, labour, tau = self.act(policies, K, z)
            return share.mean(0), labour.mean(0), tau

        return mean

    @cached_property
    def reach(self) -> tuple[float, float]:
        """Held-out capital in multiples of the rest point, (low, high).

        Less far up where the answer ends before, as it may.
        """
        low, high = HELD_OUT_CAPITAL
        if self.parameters.delta < 1:
            high = min(high, 0.95 * self.solution.capital_range[1] / self.rest)
        return low, high

    @cached_property
    def held_out(self) -> tuple[Array, Array]:
        """States that no policy was trained on in particular, `[states]` each.

        A grid over capital and log productivity.
        """
        low, high = (np.log(multiple * self.rest) for multiple in self.reach)
        reach = HELD_OUT_SD * self.economy.economy.tfp_sd
        capital = np.exp(np.linspace(low, high, 41))
        K, z = np.meshgrid(capital, np.linspace(-reach, reach, 9), indexing="ij")
        return K.ravel(), z.ravel()

    def errors(self, actions: tuple[Array, Array, Array]) -> Array:
        """Relative errors of share, labour and tax rate, in %: `[3, states]`.

        Where households differ, the mean of their own errors, so that opposite ones do not cancel.

        Args:
            actions: at the held-out states, as from `act` or `rules`.
        """
        errors = []
        for learned, exact in zip(actions, self.exact(*self.held_out), strict=True):
            by_household = np.atleast_2d(100 * np.abs(learned / exact - 1))
            errors.append(by_household.mean(0))
        return np.array(errors)

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """The largest of the three actions' mean relative errors at the held-out states, in %."""
        return float(self.errors(self.act(policies, *self.held_out)).mean(1).max())

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Policy errors of both groups, and what each could still gain."""
        ours = self.rules(policies)
        controls = [*self._controls(), _Candidate("untrained network", self.rules(untrained))]
        metrics = [
            *self._policy_errors(self.errors(self.act(policies, *self.held_out)), controls),
            self._government_gain(ours, controls),
            self._path_gain(policies, "households", GAIN_LIMIT),
            self._path_gain(policies, "government", None),
            Metric(
                "capital_at_rest",
                "capital at rest",
                self._rest(ours),
                answer=self.rest,
                controls={c.name: self._rest(c.rules) for c in controls},
                note="where capital stays without shocks",
            ),
        ]
        return Assessment(metrics, self._plots(ours), methods=("exact",))

    def _controls(self) -> list[_Candidate]:
        """A government that only looks at today, the best constant actions, the exact answer."""
        # Best for today at full depreciation: the maximum of log(1 - tau) + theta log tau.
        today = self.parameters.theta / (1 + self.parameters.theta)
        share, labour, tau = self.exact(np.array([self.rest]), np.zeros(1))
        constant = _constant(share[0], labour[0], tau[0])

        def myopic(K: Array, z: Array) -> tuple[Array, Array, Array]:
            share, labour, _ = self.exact(K, z)
            return share, labour, np.full_like(share, today)

        return [
            _Candidate("constant actions", constant),
            _Candidate("myopic government", myopic),
            _Candidate("exact", self.exact),
        ]

    def _policy_errors(self, mine: Array, controls: list[_Candidate]) -> list[Metric]:
        theirs = {c.name: self.errors(c.rules(*self.held_out)) for c in controls}
        low, high = self.reach
        note = (
            f"relative to the answer, mean over capital in [{low:.2g}, {high:.2g}] "
            "of its rest point, productivity within 2 sd"
        )
        metrics = []
        for i, action in enumerate(ACTIONS):
            key = f"policy_error/{action.replace(' ', '_')}"
            mean = Metric(
                key,
                f"error of the {action}, mean",
                float(mine[i].mean()),
                "%",
                answer=0.0,
                limit=LIMITS[i],
                controls={name: float(errors[i].mean()) for name, errors in theirs.items()},
                note=note,
            )
            largest = Metric(
                f"{key}/max",
                f"error of the {action}, largest",
                float(mine[i].max()),
                "%",
                answer=0.0,
                controls={name: float(errors[i].max()) for name, errors in theirs.items()},
            )
            metrics += [mean, largest]
        return metrics

    def _government_gain(self, ours: Rules, controls: list[_Candidate]) -> Metric:
        """By a dynamic programme of the government against the frozen households."""
        K = self.rest * np.geomspace(*self.reach, 9)

        def gain(rules: Rules) -> float:
            try:
                utils = known.government_gain(self.economy, *_split(rules), K, np.zeros_like(K))
            except ConvergenceError:
                return float("nan")
            return economics.consumption_equivalent(float(np.mean(utils)), self.parameters.beta)

        return Metric(
            "best_response_gain/exact/government",
            "best-response gain of the government, exact",
            gain(ours),
            "% of consumption",
            answer=0.0,
            limit=GAIN_LIMIT,
            controls={c.name: gain(c.rules) for c in controls},
            note="dynamic programme of the government against the frozen households, "
            "mean over the held-out capital",
        )

    def _path_gain(
        self, policies: Mapping[str, PolicyFunction], group: str, limit: float | None
    ) -> Metric:
        """By the best path of actions of one agent of `group`.

        It starts where the learned economy rests.
        """
        beta = self.parameters.beta
        without_shocks = {"sigma": 0.0, "initial_dispersion": 0.0, "episode_length": 10**6}
        calm = self.parameters.model_copy(update=without_shocks)
        market = Fiscal(calm, worlds=1, dtype=torch.float64, stagger=False)
        market.reset(0)
        state = dict(market.state)
        # As in `act`: last period's labour is observed, but moves nothing.
        K = self._rest(self.rules(policies))
        labour = float(self.exact(np.array([K]), np.zeros(1))[1][0])
        for name, value in (("capital", K), ("labour", labour), ("log_productivity", 0.0)):
            state[name] = torch.full_like(state[name], value)
        deviation = PathDeviation(market, policies, group, torch.tensor([0]), beta)
        gain = economics.consumption_equivalent(float(deviation.gains(state)[0]), beta)
        who = "a household" if group == "households" else f"the {group}"
        return Metric(
            f"best_response_gain/path/{group}",
            f"best-response gain of {who}, without shocks",
            gain,
            "% of consumption",
            answer=0.0,
            limit=limit,
            note="the best path of actions from where the learned economy rests, all others frozen",
        )

    def _rest(self, rules: Rules) -> float:
        """Capital at rest without shocks; NaN where these rules find no rest."""
        try:
            return known.rest_point(self.economy, *_split(rules)).k
        except ConvergenceError:
            return float("nan")

    def _plots(self, ours: Rules) -> list[Plot]:
        """All three actions over capital, at low, mean and high productivity."""
        return rules_over_capital(
            ACTIONS,
            self.exact,
            ours,
            name=self.name,
            rest=self.rest,
            multiples=np.geomspace(*self.reach, 80),
            reach=HELD_OUT_SD * self.economy.economy.tfp_sd,
            x_label="capital / rest point",
        )


def _constant(share: float, labour: float, tau: float) -> Rules:
    """These actions at every state."""

    def rules(K: Array, z: Array) -> tuple[Array, Array, Array]:
        return np.full_like(K, share), np.full_like(K, labour), np.full_like(K, tau)

    return rules


def _split(
    rules: Rules,
) -> tuple[Callable[[Array, Array], tuple[Array, Array]], Callable[[Array, Array], Array]]:
    """The rules of households, and that of their government."""

    def households(K: Array, z: Array) -> tuple[Array, Array]:
        share, labour, _ = rules(K, z)
        return share, labour

    def government(K: Array, z: Array) -> Array:
        return rules(K, z)[2]

    return households, government


def answer_key(parameters: FiscalParameters) -> AnswerKey | None:
    """The Markov-perfect equilibrium: closed form at full depreciation, projection otherwise.

    None where none is found.
    """
    key = FiscalAnswer(parameters)
    try:
        return key if key.rest > 0 else None
    except ConvergenceError:
        return None
