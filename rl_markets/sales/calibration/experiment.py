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
from rl_markets.sales.calibration.sales import Array, SalesLog

LEVELS = 9
LARGEST = 1e12
"""What the market takes as a size."""


@dataclass(frozen=True)
class Setting:
    """What a log does not tell: unit costs by product (None for the log's own), units at the start,
    and periods."""

    cost: dict[str, float]
    everything_costs: float | None = None
    stock: int | None = None
    periods: int | None = None


def experiment(name: str, found: Calibration, setting: Setting) -> dict[str, Any]:
    """The experiment as plain data; levels lie where every product's price was seen.

    Raises:
        ExperimentError: one line: costs that are missing, prices that never overlap.
    """
    list_price, levels = grid(found.log)
    season = setting.stock is not None
    parameters: dict[str, Any] = {
        "periods": setting.periods or 90,
        "deadline": season,
        "gamma": 1.0 if season else 0.99,
    }
    parameters |= {"products": len(found.log.products), "list_price": rounded(list_price)}
    parameters |= {"cost": rounded(costs(found.log, setting)), "demand": _demand(found)}
    if season:
        parameters["stock"] = {"units": [setting.stock]}
        parameters["exploring_starts"] = 0.3
    parameters["levels"] = [float(x) for x in levels]
    learner = {
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-4,
        "updates": 16,
        "batch_size": 256,
        "capacity": 100_000,
    }
    exact = _has_answer(parameters)  # it then says what a deviator could gain
    return {
        "name": name,
        "summary": f"{found.family} demand calibrated to a log of sales of "
        f"{len(found.log.products)} product(s)",
        "seed": 0,
        "market": {"name": "pricing", "worlds": 64, "parameters": parameters},
        "policies": {"seller": {"groups": ["seller"], "hidden": [64, 64], "activation": "relu"}},
        "algorithm": {
            "name": "dqn",
            "parameters": learner | ({"averaging": 0.95} if season else {}),
        },
        "training": {"agent_steps": 640_000 if season else 320_000, "rollout_length": 16},
        **({"certificate": {"deviation_agent_steps": 0}} if exact else {}),
    }


def _has_answer(parameters: dict[str, Any]) -> bool:
    """Whether the market has a known answer; bad parameters have none, and are refused with the
    experiment."""
    try:
        return has_answer(PricingParameters.model_validate(parameters))
    except ValidationError:
        return False


def text(data: dict[str, Any], found: Calibration) -> str:
    """The file, with what is known of the numbers in it."""
    lines = [
        f"calibrated to {found.log.source}: {found.log.rows} rows, "
        f"{len(np.unique(found.log.period))} periods; "
        f"{found.family} demand"
    ]
    for i, name in enumerate(found.log.products):
        lines.append(
            f"product {i}: {name}, elasticity {found.elasticity[i]:.2f} at {found.price[i]:g} "
            f"({found.low[i]:.2f} to {found.high[i]:.2f})"
        )
    printable = (
        "".join(c if c.isprintable() else "?" for c in line) for line in [*lines, *found.notes]
    )
    return "".join(f"# {line}\n" for line in printable) + dump_yaml(data)


def grid(log: SalesLog) -> tuple[Array, Array]:
    """List prices [P], in the middle of each product's observed prices, and nine multiples of them
    that all products saw.

    One price in a hundred at either end is left out: it may be a slip. Multiples are rounded
        inwards.
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
    levels[LEVELS // 2] = 1.0
    levels = np.where(levels < 1, np.ceil(levels * 1e6), np.floor(levels * 1e6)) / 1e6
    if not (np.diff(levels) > 0).all():
        raise ExperimentError(
            f"{log.source}: a product's prices differ by less than a millionth; expected wider "
            "prices"
        )
    return list_price, levels


def costs(log: SalesLog, setting: Setting) -> Array:
    """[P] unit costs: those given, else the log's means, weighted by sales."""
    if unknown := [name for name in setting.cost if name not in log.products]:
        raise ExperimentError(f"--cost {unknown[0]}=...: {log.source} has no such product")
    found = np.empty(len(log.products))
    for i, name in enumerate(log.products):
        mine = (log.product == i) & ~np.isnan(log.cost)
        if name in setting.cost or setting.everything_costs is not None:
            given = setting.cost.get(name, setting.everything_costs)
            found[i] = 0.0 if given is None else given
        elif mine.any():
            found[i] = np.average(log.cost[mine], weights=log.sales[mine] + 1e-9)
        else:
            raise ExperimentError(
                f"{log.source}: product {name}: no unit cost; give a column cost, or --cost "
                f"({name}=NUMBER or one number "
                "for all; 0 to maximise revenue)"
            )
    return found


def _demand(found: Calibration) -> dict[str, Any]:
    demand = {k: rounded(v) if isinstance(v, np.ndarray) else v for k, v in found.demand.items()}
    if max(demand.get("size", [0.0])) > LARGEST:
        raise ExperimentError(
            f"{found.log.source}: {found.family} demand has a size beyond {LARGEST:g} units at "
            "price 1; write prices in a "
            "larger unit, such as thousands, or choose another --family"
        )
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in demand.items()}


def rounded(values: Array) -> list[float]:
    """Six significant digits."""
    return [float(f"{v:.6g}") for v in values]
