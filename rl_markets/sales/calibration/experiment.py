"""The experiment file of a calibrated market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from rl_markets.envs.pricing.answer.kinds import has_answer
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.errors import ExperimentError
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.sales.calibration.calibrate import Calibration
from rl_markets.sales.calibration.log import Array, SalesLog

LEVELS = 9
LARGEST = 1e12
"""What the market takes as a size."""


@dataclass(frozen=True)
class Setting:
    """What a log does not tell.

    Attributes:
        cost: product -> its unit cost, in money.
        everything_costs: unit cost of the other products; None for what the log says.
        stock: units of each product at the start of a season; None for no deadline.
        periods: of the season or episode; None for 90.
    """

    cost: dict[str, float]
    everything_costs: float | None = None
    stock: int | None = None
    periods: int | None = None


def experiment(name: str, calibration: Calibration, setting: Setting) -> dict[str, Any]:
    """The experiment as plain data; levels lie where every product's price was seen.

    Args:
        name: of the experiment.
        calibration: the demand.
        setting: what the log does not tell.

    Raises:
        ExperimentError: one line: costs that are missing, prices that never overlap.
    """
    parameters = _market_parameters(calibration, setting)
    season = setting.stock is not None
    learner: dict[str, Any] = {
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-4,
        "updates": 16,
        "batch_size": 256,
        "capacity": 100_000,
    }
    if season:
        learner["averaging"] = 0.95
    products = len(calibration.log.products)
    data: dict[str, Any] = {
        "name": name,
        "summary": f"{calibration.family} demand calibrated to a log of sales of "
        f"{products} product(s)",
        "seed": 0,
        "market": {"name": "pricing", "worlds": 64, "parameters": parameters},
        "policies": {"seller": {"groups": ["seller"], "hidden": [64, 64], "activation": "relu"}},
        "algorithm": {"name": "dqn", "parameters": learner},
        "training": {"agent_steps": 640_000 if season else 320_000, "rollout_length": 16},
    }
    if _has_answer(parameters):  # it says what a deviator could gain: none need be trained
        data["certificate"] = {"deviation_agent_steps": 0}
    return data


def _market_parameters(calibration: Calibration, setting: Setting) -> dict[str, Any]:
    log = calibration.log
    list_price, levels = grid(log)
    season = setting.stock is not None
    parameters: dict[str, Any] = {
        "periods": setting.periods or 90,
        "deadline": season,
        "gamma": 1.0 if season else 0.99,
        "products": len(log.products),
        "list_price": rounded(list_price),
        "cost": rounded(costs(log, setting)),
        "demand": _demand(calibration),
    }
    of_season = {"stock": {"units": [setting.stock]}, "exploring_starts": 0.3}
    return parameters | (of_season if season else {}) | {"levels": [float(x) for x in levels]}


def _has_answer(parameters: dict[str, Any]) -> bool:
    """Whether the market has a known answer.

    Bad parameters have none, and are refused with the experiment.
    """
    try:
        return has_answer(PricingParameters.model_validate(parameters))
    except ValidationError:
        return False


def text(data: dict[str, Any], calibration: Calibration) -> str:
    """The file, with what is known of the numbers in it as comments."""
    log = calibration.log
    periods = len(np.unique(log.period))
    lines = [
        f"calibrated to {log.source}: {log.rows} rows, {periods} periods; "
        f"{calibration.family} demand"
    ]
    for i, name in enumerate(log.products):
        elasticity = calibration.elasticity[i]
        lines.append(
            f"product {i}: {name}, elasticity {elasticity:.2f} at {calibration.price[i]:g} "
            f"({calibration.low[i]:.2f} to {calibration.high[i]:.2f})"
        )
    # A line break in a product's name would end the comment.
    printable = (
        "".join(c if c.isprintable() else "?" for c in line)
        for line in [*lines, *calibration.notes]
    )
    return "".join(f"# {line}\n" for line in printable) + dump_yaml(data)


def grid(log: SalesLog) -> tuple[Array, Array]:
    """List prices [P], and nine multiples of them that all products saw.

    A list price lies in the middle of its product's observed prices. One price in a hundred at
    either end is left out: it may be a slip. Multiples are rounded inwards.

    Raises:
        ExperimentError: where a product's prices differ by next to nothing.
    """
    list_price = np.empty(len(log.products))
    reach = np.inf
    for i in range(len(log.products)):
        price = log.price[log.product == i]
        low = float(np.quantile(price, 0.01, method="higher"))
        high = float(np.quantile(price, 0.99, method="lower"))
        if low >= high:
            low = float(price.min())
            high = float(price.max())
        list_price[i] = float(f"{np.sqrt(low * high):.6g}")
        reach = min(reach, high / list_price[i], list_price[i] / low)
    levels = np.geomspace(1 / reach, reach, LEVELS)
    levels[LEVELS // 2] = 1.0  # exactly
    levels = np.where(levels < 1, np.ceil(levels * 1e6), np.floor(levels * 1e6)) / 1e6
    if not (np.diff(levels) > 0).all():
        raise ExperimentError(
            f"{log.source}: a product's prices differ by less than a millionth; "
            "expected wider prices"
        )
    return list_price, levels


def costs(log: SalesLog, setting: Setting) -> Array:
    """[P] unit costs: those given, else the log's means, weighted by sales.

    Raises:
        ExperimentError: where a product has neither, or one that was named is not in the log.
    """
    if unknown := [name for name in setting.cost if name not in log.products]:
        raise ExperimentError(f"--cost {unknown[0]}=...: {log.source} has no such product")
    unit_cost = np.empty(len(log.products))
    for i, name in enumerate(log.products):
        known = (log.product == i) & ~np.isnan(log.cost)
        if name in setting.cost:
            unit_cost[i] = setting.cost[name]
        elif setting.everything_costs is not None:
            unit_cost[i] = setting.everything_costs
        elif known.any():
            # The small number lets a product without sales have a mean, too.
            unit_cost[i] = np.average(log.cost[known], weights=log.sales[known] + 1e-9)
        else:
            raise ExperimentError(
                f"{log.source}: product {name}: no unit cost; give a column cost, "
                f"or --cost ({name}=NUMBER or one number for all; 0 to maximise revenue)"
            )
    return unit_cost


def _demand(calibration: Calibration) -> dict[str, Any]:
    """The market's section `demand`, as plain data of six significant digits."""
    demand = {
        name: rounded(value) if isinstance(value, np.ndarray) else value
        for name, value in calibration.demand.items()
    }
    if max(demand.get("size", [0.0])) > LARGEST:
        raise ExperimentError(
            f"{calibration.log.source}: {calibration.family} demand has a size beyond "
            f"{LARGEST:g} units at price 1; "
            "write prices in a larger unit, such as thousands, or choose another --family"
        )
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in demand.items()
    }


def rounded(values: Array) -> list[float]:
    """Six significant digits."""
    return [float(f"{v:.6g}") for v in values]
