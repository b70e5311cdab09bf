"""Parameters of the Krusell-Smith economy that are refused, each by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.errors import ExperimentError
from rl_markets.experiment import load

CHAIN = KrusellSmithParameters().employment


def _chain(z: int, next_z: int, rows: Any) -> Any:
    changed = [[[list(row) for row in block] for block in blocks] for blocks in CHAIN]
    changed[z][next_z] = rows
    return changed


REFUSED = {
    "rows": (
        {"employment": _chain(1, 0, [[0.9, 0.2], [0.5, 0.5]])},
        r"employment\[1\]\[0\]: expected rows that add up to 1",
    ),
    "another rate": (
        {"employment": _chain(0, 1, [[0.95, 0.05], [0.25, 0.75]])},
        r"employment\[0\]\[1\]: leads to unemployment 0.078, expected 0.1",
    ),
    "rates": (
        {"unemployment": [0.05, 0.10]},
        r"employment\[0\]\[0\]: leads to unemployment .*, expected 0.05",
    ),
    "all unemployed": ({"unemployment": [0.04, 1.0]}, "unemployment: expected rates below 1"),
    "probability": ({"persistence": 1.5}, "persistence"),
    "types": (
        {"capital_productivity": [0.9, 1.0, 1.1]},
        "capital_productivity: 3 types do not divide 50 households",
    ),
    "interval": ({"initial_capital": [5.0, 4.0]}, "initial_capital: expected low <= high"),
    "conduct": ({"conduct": "strategic"}, "conduct"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_parameters_are_refused_by_name(case: str) -> None:
    change, message = REFUSED[case]
    with pytest.raises(ValidationError, match=message):
        KrusellSmithParameters(**change)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "market.parameters.capital_productivity=[0.9, 1.0, 1.1]",
            "capital_productivity: 3 types do not divide 50",
        ),
        ("market.parameters.unemployment=[0.05, 0.1]", "employment[0][0]: leads to unemployment"),
        ("market.parameters.employment=[[1, 0], [0, 1]]", "market.parameters.employment"),
        ("market.parameters.persistence=2", "market.parameters.persistence"),
    ],
)
def test_an_experiment_with_bad_parameters_is_one_line(override: str, message: str) -> None:
    from tests.support.experiment_files import FILES

    path = next(file for file in FILES if file.stem == "krusell-smith")
    with pytest.raises(ExperimentError) as caught:
        load(path, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
