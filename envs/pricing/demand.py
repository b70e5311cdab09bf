"""Families of demand behind one interface: mean units of every good, given all prices."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rl_markets.envs.pricing.parameters import PricingParameters


class Demand(ABC):
    """Mean demand of a period, before season and shock.

    Args:
        parameters: the market's.
        device, dtype: of the tensors.
    """

    def __init__(
        self, parameters: PricingParameters, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.parameters = parameters
        self.given = parameters.demand
        self.device = device
        self.dtype = dtype
        self.goods = parameters.firms * parameters.products

    def each(self, values: list[float]) -> Tensor:
        """One value for each good, `[goods]`."""
        return torch.tensor(self.parameters.goods(values), device=self.device, dtype=self.dtype)

    @abstractmethod
    def mean(
        self, price: Tensor, worth: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Mean units `[..., goods]`.

        Args:
            price: `[..., goods]`.
            worth: what customers see beyond quality and price `[..., goods]`: reference, age,
                points; in money of the logit, in units of the linear.
            present: bool `[..., goods]`, which goods are offered (logit).
        """

    def elasticities(self, price: Tensor) -> Tensor:
        """d log mean_i / d log p_j at `price` `[goods]`: `[goods, goods]`.

        Row i is of good i's demand; its own elasticity stands on the diagonal.
        """

        def log_mean(log_price: Tensor) -> Tensor:
            return torch.log(self.mean(torch.exp(log_price)))

        jacobian: Tensor = torch.autograd.functional.jacobian(log_mean, torch.log(price))
        return jacobian


class Linear(Demand):
    """max(0, size_i - slope_i p_i + cross sum_{j != i} p_j + worth_i)."""

    def __init__(
        self, parameters: PricingParameters, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(parameters, device, dtype)
        self.size = self.each(self.given.size)
        self.slope = self.each(self.given.slope)
        self.cross = self.given.cross

    def mean(
        self, price: Tensor, worth: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Units."""
        units = self.size - self.slope * price
        if self.cross:
            units = units + self.cross * (price.sum(-1, keepdim=True) - price)
        return (units if worth is None else units + worth).clamp_min(0)


class Exponential(Linear):
    """size_i e^(-slope_i p_i + cross sum_{j != i} p_j)."""

    def mean(
        self, price: Tensor, worth: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Units."""
        log_units = -self.slope * price
        if self.cross:
            log_units = log_units + self.cross * (price.sum(-1, keepdim=True) - price)
        return self.size * torch.exp(log_units)


class Isoelastic(Linear):
    """size_i p_i^(-slope_i) prod_{j != i} p_j^cross."""

    def mean(
        self, price: Tensor, worth: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Units."""
        log_price = torch.log(price)
        log_units = -self.slope * log_price
        if self.cross:
            log_units = log_units + self.cross * (log_price.sum(-1, keepdim=True) - log_price)
        return self.size * torch.exp(log_units)


class Logit(Demand):
    """Multinomial logit: visitors e^(u_i / mu) / (e^(a_0 / mu) + sum_j e^(u_j / mu)).

    The utility is u_i = a_i - p_i + worth_i, in money.
    """

    def __init__(
        self, parameters: PricingParameters, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(parameters, device, dtype)
        self.segments = [(1.0, self.each(self.given.quality), self.given.mu)]

    def mean(
        self, price: Tensor, worth: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Units; the outside option takes the rest of the visitors."""
        net = -price if worth is None else worth - price
        units = None
        for weight, quality, mu in self.segments:
            # In place, as these tensors are new.
            share = self._shares((quality + net).mul_(1 / mu), self.given.outside / mu, present)
            share = share.mul_(weight * self.given.visitors)
            units = share if units is None else units + share
        assert units is not None
        return units

    @staticmethod
    def _shares(utility: Tensor, outside: float, present: Tensor | None) -> Tensor:
        """Probabilities of buying; `utility` and `outside` are in units of mu."""
        if present is not None:
            utility = utility.masked_fill(~present, -torch.inf)
        # Less the largest of all, the outside option's included, no exponential overflows.
        top = utility.amax(-1, keepdim=True).clamp_min(outside)
        odds = torch.exp(utility - top)
        return odds / (torch.exp(outside - top) + odds.sum(-1, keepdim=True))


class Mixed(Logit):
    """Mixed logit: segments with qualities and tastes of their own."""

    def __init__(
        self, parameters: PricingParameters, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(parameters, device, dtype)
        self.segments = [
            (segment.weight, self.each(segment.quality), segment.mu)
            for segment in self.given.segments
        ]


FAMILIES: dict[str, type[Demand]] = {
    "linear": Linear,
    "exponential": Exponential,
    "isoelastic": Isoelastic,
    "logit": Logit,
    "mixed": Mixed,
}


def demand_of(parameters: PricingParameters, device: torch.device, dtype: torch.dtype) -> Demand:
    """The demand that the parameters describe."""
    return FAMILIES[parameters.demand.family](parameters, device, dtype)
