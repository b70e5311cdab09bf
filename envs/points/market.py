"""The points programme as a market: customers with balances, and a ledger in whole points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.market import AgentGroup, State, TensorMarket, Transition
from rl_markets.envs.points.parameters import PointsParameters

LEDGER = ("issued", "redeemed", "expired", "outstanding")
"""Points of each customer since the episode began.

Always issued = redeemed + expired + outstanding.
"""


class Points(TensorMarket):
    """Customers with balances of points, and a seller who decides for each of them.

    Each visit the seller offers a rate r (and a price p); a customer with balance b buys with
    probability

        1 / (1 + exp(-(a - p + kappa r p + reward 1[b full]) / mu)),

    pays p less the reward if his balance is full, and gets r p points. Then the balance expires
    with probability `expiry`.

    Action: `MultiDiscrete`, the rate's index, then the price's if there is a choice.
    Observation `[2]`: the share of a full balance, and whether it is full.
    Reward: cash, or on accrual cash less the change of the provision for points outstanding: over
    an episode both add up to the same but for the provision that is left.
    """

    def __init__(
        self,
        parameters: PointsParameters,
        *,
        worlds: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        stagger: bool = True,
    ) -> None:
        super().__init__(
            worlds=worlds, episode_length=parameters.visits, device=device, stagger=stagger
        )
        p = self.parameters = parameters
        self.dtype = dtype
        self.rates, self.prices = (
            torch.tensor(x, device=self.device, dtype=dtype) for x in (p.rates, p.prices)
        )
        self.joint = len(p.prices) > 1
        observation = gym.spaces.Box(0.0, 1.0, (2,), np.float32)
        action = gym.spaces.MultiDiscrete([len(p.rates)] * (2 if self.joint else 1))
        self.groups = {"seller": AgentGroup(p.customers, observation, action)}

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """New customers, without points.

        A share `exploring_starts` of them brings some, which count as issued.
        """
        p = self.parameters
        size = (worlds, p.customers)
        options: Any = {"generator": generator, "device": self.device}
        none = torch.zeros(size, dtype=torch.int64, device=self.device)
        held = none
        if p.exploring_starts:
            explores = torch.rand(size, **options) < p.exploring_starts
            points = p.unit * torch.randint(p.reward // p.unit + 1, size, **options)
            held = torch.where(explores, points, none)
        held_at_start = {"issued": held, "outstanding": held}
        return {name: held_at_start.get(name, none).clone() for name in LEDGER}

    def draw_noise(self, generator: torch.Generator) -> State:
        """Uniform draws for purchase, rounding and expiry."""
        size = (self.worlds, self.parameters.customers)
        options: Any = {"generator": generator, "device": self.device, "dtype": self.dtype}
        return {name: torch.rand(size, **options) for name in ("buys", "rounds", "expires")}

    def offer(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Rate and price of the actions `[..., branches]`."""
        rate = self.rates[actions[..., 0]]
        return rate, self.prices[actions[..., 1]] if self.joint else self.prices.expand_as(rate)

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """Offer, buy, redeem, grant, expire."""
        p = self.parameters
        rate, price = self.offer(actions["seller"])
        before = state["outstanding"]
        full = before >= p.reward
        utility = p.quality - price + p.kappa * rate * price + p.reward * full
        bought = noise["buys"] < torch.sigmoid(utility / p.mu)
        redeemed = torch.where(bought & full, p.reward, 0)
        # Up or down at random, right on average; .07 * 1000 is 70, whatever rounding says.
        exact = rate * price / p.unit
        units = torch.floor(exact + 1e-4)
        units = units + (noise["rounds"] < (exact - units)).to(self.dtype)
        # Points beyond a full balance are lost.
        granted = torch.minimum((units * p.unit).long(), p.reward - (before - redeemed))
        issued = torch.where(bought, granted, 0)
        balance = before - redeemed + issued
        expired = torch.where(noise["expires"] < p.expiry, balance, 0)
        after = balance - expired
        flows = {"issued": issued, "redeemed": redeemed, "expired": expired}
        next_state = {name: state[name] + points for name, points in flows.items()}
        next_state["outstanding"] = after
        reward = bought * (price - p.cost) - redeemed
        if p.accounting == "accrual":
            # Set aside as points are issued, released as they are redeemed or expire.
            reward = reward - p.provision * (after - before)
        return Transition(next_state, {"seller": reward.to(self.dtype)})

    def observe(self, state: State) -> dict[str, Tensor]:
        """The share of a full balance, and whether it is full."""
        share = state["outstanding"] / self.parameters.reward
        return {"seller": torch.stack([share, (share >= 1).to(share.dtype)], -1).float()}

    def in_units(self, gain: float) -> tuple[float, str]:
        """Discounted reward is money."""
        return gain, "money a customer"
