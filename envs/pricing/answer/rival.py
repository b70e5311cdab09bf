"""The known answer of one seller against a rival that follows a rule: the exact best response.

It holds while the rival is there, and after it has left.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from rl_markets.envs.answer_key import AnswerKey, Assessment, Line, Metric, Plot
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.numerics.decision_process import DecisionProcess
from rl_markets.envs.numerics.statistics import optimality_gap
from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.pricing.rivals import FLOOR

Array = NDArray[np.float64]

LIMIT = 2.0
"""What the certificate lets a policy lose against the best response, in %."""
RECOVERY = 20.0
"""Periods after the rival has left in which the price must be within one level of the optimum."""
SHOWN = 40
"""Periods that the pictures show."""
NEVER = 10**9
"""Stands for a period that no play reaches."""
CYCLES = 840
"""Periods whose mean stands for all later ones: whole cycles of up to eight levels."""


class RivalAnswer(AnswerKey):
    """One product, logit demand, a rival who answers the seller's last price with one of its own.

    Both post at once, so that the seller's last level is the state:

        V(i) = max_j profit(p_j, rival(p_i)) + gamma V(j)

    After the rival has left, every period is the same. What policies are worth is summed over mean
    demand, without noise.
    """

    def __init__(self, parameters: PricingParameters) -> None:
        p = self.parameters = parameters
        self.name = "best response to the rival"
        (self.group,) = parameters.sellers
        (self.rival,) = parameters.rivals
        own_list, self.rival_list = p.goods(p.list_price)
        self.cost, self.rival_cost = p.goods(p.cost)
        self.prices = own_list * np.array(p.levels)
        quality = np.array(p.goods(p.demand.quality))
        cost = np.array([self.cost, self.rival_cost])
        mu = p.demand.mu
        outside = p.demand.outside
        self.both = known.LogitMarket(quality, cost, mu, np.array([0, 1]), outside)
        self.alone = known.LogitMarket(quality[:1], cost[:1], mu, np.array([0]), outside)

    def answers(self, price: Array) -> Array:
        """The rival's next price to the seller's last one."""
        floor = FLOOR * self.rival_cost
        rule = self.rival.rule
        step = self.rival.step
        if rule == "fixed":
            return np.full_like(price, self.rival_list)
        if rule == "cost-plus":
            return np.full_like(price, self.rival_cost * (1 + self.rival.markup))
        lower = price * (1 if rule == "match-lowest" else 1 - step)
        within = np.maximum(np.minimum(lower, self.rival_list), floor)
        if rule == "undercut-and-reset":
            return np.where(lower < floor, self.rival_list, within)
        return within

    def profit(self, price: Array, rival: Array | None) -> Array:
        """Mean profit of a period; prices broadcast, and `rival` is None once it has left."""
        visitors = self.parameters.demand.visitors
        net = (1 - self.parameters.fee) * price - self.cost
        if rival is None:
            return visitors * net * self.alone.shares(price[..., None])[..., 0]
        prices = np.stack(np.broadcast_arrays(price, rival), -1)
        return visitors * net * self.both.shares(prices)[..., 0]

    @cached_property
    def rewards(self) -> Array:
        """Profit of level j after level i, `[levels, levels]`."""
        return self.profit(self.prices[None, :], self.answers(self.prices)[:, None])

    @cached_property
    def best(self) -> tuple[NDArray[np.int64], Array]:
        """The best next level after each level, and its value."""
        levels = len(self.prices)
        # The level that is chosen is the next state.
        moves = np.broadcast_to(np.eye(levels), (levels, levels, levels))
        process = DecisionProcess(self.rewards, moves, self.parameters.gamma)
        policy = process.best()
        return policy, process.values(policy)

    @cached_property
    def after(self) -> int:
        """The best level once the rival has left."""
        return int(self.profit(self.prices, None).argmax())

    # -- play --------------------------------------------------------------------------------------

    @torch.no_grad()
    def play(self, policy: PolicyFunction, *, leaves: bool) -> tuple[Array, Array]:
        """Prices of the seller and the rival from every level, `[periods, starts]` each.

        They are long enough for nothing to count after.

        Args:
            policy: of the seller.
            leaves: whether the rival has just left, after having met the seller's start; its price
                is then NaN.
        """
        gamma = self.parameters.gamma
        horizon = min(4000, max(2 * CYCLES, int(np.ceil(np.log(1e-5) / np.log(gamma)))))
        market = self._everywhere(leaves)
        observations = market.observe(market.state)[self.group]
        own = []
        theirs = []
        for _ in range(horizon):
            step = market.step({self.group: policy(observations)})
            observations = step.observations[self.group]
            posted = market.state["price"].double().numpy()
            own.append(posted[:, 0])
            theirs.append(np.full(len(posted), np.nan) if leaves else posted[:, 1])
        return np.stack(own), np.stack(theirs)

    def _everywhere(self, leaves: bool) -> Pricing:
        """A market with a world for each level, the seller's last price, without an end."""
        p = self.parameters
        period_of_leaving = 0
        if leaves:
            period_of_leaving = 1
        elif self.rival.leaves:
            # The seller sees whether there is a rival that may leave: this one may, and never does.
            period_of_leaving = NEVER
        rival = self.rival.model_copy(update={"leaves": period_of_leaving})
        p = p.model_copy(update={"rivals": [rival], "exploring_starts": 0.0})
        market = Pricing(p, worlds=len(self.prices))
        market.truncate_after(None)
        market.reset(0)
        start = np.stack([self.prices, self.answers(self.prices)], -1)
        market.state["price"] = torch.tensor(start, dtype=torch.float32)
        market.state["period"] = torch.full_like(market.state["period"], int(leaves))
        return market

    def worth(self, policy: PolicyFunction) -> float:
        """Discounted mean profit, the mean over starts, while the rival is there."""
        own, theirs = self.play(policy, leaves=False)
        gamma = self.parameters.gamma
        paid = self.profit(own, theirs).mean(1)
        # What then goes round for ever.
        rest = gamma ** len(paid) / (1 - gamma) * paid[-CYCLES:].mean()
        return float(gamma ** np.arange(len(paid)) @ paid + rest)

    def optimality_gap(self, value: float) -> float:
        """What is lost against the best response, in %."""
        return optimality_gap(value, float(self.best[1].mean()))

    def recovery(self, policy: PolicyFunction) -> float:
        """Periods after the rival has left until the price is near the optimum for good.

        Near is within one level, from every start; NaN for never.
        """
        own, _ = self.play(policy, leaves=True)
        levels = np.abs(own[..., None] - self.prices).argmin(-1)
        away = np.flatnonzero((np.abs(levels - self.after) > 1).any(1))
        recovered = int(away[-1]) + 1 if len(away) else 0
        return float(recovered) if recovered < len(own) else float("nan")

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """What the policy loses against the best response, in %."""
        return self.optimality_gap(self.worth(policies[self.group]))

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Loss while the rival is there, and recovery after it has left."""
        ours = policies[self.group]
        controls = self._controls() | {"untrained network": untrained[self.group]}
        worth = {name: self.worth(policy) for name, policy in controls.items()}
        value = self.worth(ours)
        best = float(self.best[1].mean())
        metrics = [
            Metric(
                "shortfall",
                "loss against the best response to the rival",
                self.optimality_gap(value),
                "%",
                answer=0.0,
                limit=LIMIT,
                controls={n: self.optimality_gap(v) for n, v in worth.items()},
                note="discounted mean profit from every first price, without noise",
            ),
            Metric("value", "discounted profit", value, "money", answer=best, controls=worth),
            Metric(
                "best_response_gain/exact",
                "best-response gain of the seller, exact",
                best - value,
                "money",
                answer=0.0,
            ),
        ]
        if self.rival.leaves:
            metrics.append(self._recovered(ours, controls))
        shown = (False, True) if self.rival.leaves else (False,)
        return Assessment(metrics, [self._figure(ours, leaves) for leaves in shown])

    def _recovered(self, ours: PolicyFunction, controls: dict[str, PolicyFunction]) -> Metric:
        return Metric(
            "recovery",
            "periods to recover once the rival has left",
            self.recovery(ours),
            answer=0.0,
            limit=RECOVERY,
            controls={name: self.recovery(policy) for name, policy in controls.items()},
            note="until the price is within one level of the optimum without a rival, "
            "from every price before",
        )

    def _controls(self) -> dict[str, PolicyFunction]:
        """The best level that never changes, and the best for today against the rival's last."""
        constant = int(self.rewards.diagonal().argmax())
        own_list = self.prices[0] / self.parameters.levels[0]

        def fixed(observations: torch.Tensor) -> torch.Tensor:
            return torch.full((*observations.shape[:-1], 1), constant)

        def myopic(observations: torch.Tensor) -> torch.Tensor:
            # The second entry is the rival's last price over the seller's list price.
            theirs = observations[..., 1].double().numpy() * own_list
            profits = self.profit(self.prices, theirs[..., None])
            return torch.as_tensor(profits.argmax(-1))[..., None]

        return {"best fixed price": fixed, "best for today": myopic}

    def _figure(self, policy: PolicyFunction, leaves: bool) -> Plot:
        """The first periods from the lowest price."""
        own, theirs = self.play(policy, leaves=leaves)
        x = list(map(float, range(min(SHOWN, len(own)))))
        lines = [Line("learned", x, own[: len(x), 0].tolist(), "ours")]
        if leaves:
            lines.append(Line("optimal", x, [float(self.prices[self.after])] * len(x), "answer"))
            return Plot("Price after the rival has left", "period", "price", lines)
        best_response, _ = self.best
        level = 0
        optimal = []
        for _ in x:
            level = int(best_response[level])
            optimal.append(float(self.prices[level]))
        lines += [
            Line("optimal", x, optimal, "answer"),
            Line("the rival", x, theirs[: len(x), 0].tolist(), "control"),
        ]
        return Plot("Price against the rival", "period", "price", lines)
