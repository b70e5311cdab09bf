"""The known answer of one seller against a rival that follows a rule: the exact best response.

It holds while the rival is there, and after it has left.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import (
    AnswerKey,
    Assessment,
    Line,
    Metric,
    Plot,
    loss_of_decisions,
)
from rl_markets.envs.market import Market, PolicyFunction
from rl_markets.envs.numerics.decision_process import DecisionProcess
from rl_markets.envs.numerics.statistics import optimality_gap
from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.pricing.rivals import FLOOR

Array = NDArray[np.float64]
Choices = NDArray[np.int64]

LIMIT = 2.0
"""What the certificate lets a policy lose against the best response, in %."""
SHOWN = 40
"""Periods that the pictures show."""
PRESENT = 3
"""Column of the observation that says whether the product is sold elsewhere, too."""
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
        self.complete = True
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
        policy = self.process.best()
        return policy, self.process.values(policy)

    @cached_property
    def after(self) -> int:
        """The best level once the rival has left."""
        return int(self.profit(self.prices, None).argmax())

    # -- play --------------------------------------------------------------------------------------

    @torch.no_grad()
    def table(self, policy: PolicyFunction, *, leaves: bool) -> Choices:
        """The level that a policy posts after each pair of levels, `[before, last]`.

        The rival's last price, which the seller sees, answers the level before its last one.

        Args:
            policy: of the seller.
            leaves: whether the rival has just left.
        """
        market = self._everywhere(leaves)
        market.step({self.group: policy(market.observe(market.state)[self.group])})
        own = market.state["price"][:, :1].double().numpy()
        levels = len(self.prices)
        return np.asarray(np.abs(own - self.prices).argmin(1).reshape(levels, levels))

    def play(self, table: Choices) -> Choices:
        """Levels that the seller posts, `[periods, starts]`, until nothing counts any more.

        It starts at each level, which it has posted twice.
        """
        gamma = self.parameters.gamma
        horizon = min(4000, max(2 * CYCLES, int(np.ceil(np.log(1e-5) / np.log(gamma)))))
        before = last = np.arange(len(self.prices))
        levels = []
        for _ in range(horizon):
            following = table[before, last]
            before = last
            last = following
            levels.append(last)
        return np.stack(levels)

    def _everywhere(self, leaves: bool) -> Pricing:
        """A market with a world for each pair of levels that the seller posted, without an end."""
        p = self.parameters
        period_of_leaving = 0
        if leaves:
            period_of_leaving = 1
        elif self.rival.leaves:
            # The seller sees whether there is a rival that may leave: this one may, and never does.
            period_of_leaving = NEVER
        rival = self.rival.model_copy(update={"leaves": period_of_leaving})
        p = p.model_copy(update={"rivals": [rival], "exploring_starts": 0.0})
        before, last = np.meshgrid(self.prices, self.prices, indexing="ij")
        market = Pricing(p, worlds=before.size)
        market.truncate_after(None)
        market.reset(0)
        start = np.stack([last.ravel(), self.answers(before.ravel())], -1)
        market.state["price"] = torch.tensor(start, dtype=torch.float32)
        market.state["period"] = torch.full_like(market.state["period"], int(leaves))
        return market

    @cached_property
    def process(self) -> DecisionProcess:
        """While the rival is there: the level that is chosen is the next state."""
        levels = len(self.prices)
        moves = np.broadcast_to(np.eye(levels), (levels, levels, levels))
        return DecisionProcess(self.rewards, moves, self.parameters.gamma)

    def worth(self, policy: PolicyFunction) -> float:
        """Discounted mean profit, the mean over starts, while the rival is there."""
        levels = self.play(self.table(policy, leaves=False))
        before = np.concatenate([np.arange(len(self.prices))[None], levels[:-1]])
        return self._discounted(self.rewards[before, levels].mean(1))

    def optimality_gap(self, value: float) -> float:
        """What is lost against the best response, in %."""
        return optimality_gap(value, float(self.best[1].mean()))

    def recovery(self, policy: PolicyFunction) -> float:
        """What is lost once the rival has left, in % of what can then be earned.

        Discounted mean profit from every price before, against the best price without a rival.
        """
        levels = self.play(self.table(policy, leaves=True))
        paid = self._discounted(self.profit(self.prices[levels], None).mean(1))
        best = float(self.profit(self.prices, None).max()) / (1 - self.parameters.gamma)
        return optimality_gap(paid, best)

    def _discounted(self, paid: Array) -> float:
        """The value of what is paid period by period, the last of which go round for ever."""
        gamma = self.parameters.gamma
        rest = gamma ** len(paid) / (1 - gamma) * paid[-CYCLES:].mean()
        return float(gamma ** np.arange(len(paid)) @ paid + rest)

    def policies(self, market: Market) -> dict[str, PolicyFunction]:
        """The best response at the last price, while the rival is there and afterwards."""
        own_list = self.prices[0] / self.parameters.levels[0]
        best, _ = self.best

        def act(observations: Tensor) -> Tensor:
            seen = observations.double().cpu().numpy()
            level = np.abs(own_list * seen[..., :1] - self.prices).argmin(-1)
            choice = best[level]
            if self.rival.leaves:
                choice = np.where(seen[..., PRESENT] > 0, choice, self.after)
            return torch.from_numpy(choice)[..., None]

        return {self.group: act}

    def tolerance(self, group: str) -> float:
        """The limit of what the discounted profit may lack, in money."""
        return LIMIT / 100 * abs(float(self.best[1].mean()))

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
            *loss_of_decisions(
                value,
                best,
                worth["best fixed price"],
                worth,
                of="answering the rival",
                above="price",
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
            "loss once the rival has left",
            self.recovery(ours),
            "%",
            answer=0.0,
            limit=LIMIT,
            controls={name: self.recovery(policy) for name, policy in controls.items()},
            note="discounted mean profit from every price before, against the best price without a "
            "rival",
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
        own = self.prices[self.play(self.table(policy, leaves=leaves))]
        x = list(map(float, range(min(SHOWN, len(own)))))
        lines = [Line("learned", x, own[: len(x), 0].tolist(), "ours")]
        if leaves:
            lines.append(Line("optimal", x, [float(self.prices[self.after])] * len(x), "answer"))
            return Plot("Price after the rival has left", "period", "price", lines)
        before = np.concatenate([self.prices[:1], own[: len(x) - 1, 0]])
        theirs = self.answers(before)
        best_response, _ = self.best
        level = 0
        optimal = []
        for _ in x:
            level = int(best_response[level])
            optimal.append(float(self.prices[level]))
        lines += [
            Line("optimal", x, optimal, "answer"),
            Line("the rival", x, theirs.tolist(), "control"),
        ]
        return Plot("Price against the rival", "period", "price", lines)
