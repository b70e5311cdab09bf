"""The household answers against gEconpy, which derives the first-order conditions itself.

Runs where this DSGE package can be imported: pip install "rl-markets[dsge]". Measured with gEconpy
2.0.3, which then needed pymc-extras 0.6 and matplotlib below 3.11.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_markets.envs.households.solution import Economy, solve_loglinear, steady_state

try:
    import gEconpy  # type: ignore[import-not-found]
except Exception as error:  # its own dependencies break it with more than ImportError
    pytest.skip(f"gEconpy cannot be imported: {error!r}", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

MODEL = """
block HOUSEHOLD
{
    definitions
    {
        u[] = log(C[]) + b * log(1 - L[]);
    };
    controls
    {
        C[], L[], I[], K[];
    };
    objective
    {
        U[] = u[] + beta * E[][U[1]];
    };
    constraints
    {
        C[] + I[] = r[] * K[-1] + w[] * L[] : lambda[];
        K[] = (1 - delta) * K[-1] + I[] : q[];
    };
    calibration
    {
        beta = 0.95;
        delta = 0.025;
        b = 5.0;
    };
};

block FIRM
{
    controls
    {
        K[-1], L[];
    };
    objective
    {
        TC[] = -(r[] * K[-1] + w[] * L[]);
    };
    constraints
    {
        Y[] = A[] * K[-1] ^ alpha * L[] ^ (1 - alpha) : mc[];
    };
    identities
    {
        mc[] = 1;
    };
    calibration
    {
        alpha = 0.36;
    };
};

block PRODUCTIVITY
{
    identities
    {
        log(A[]) = rho * log(A[-1]) + epsilon[];
    };
    shocks
    {
        epsilon[];
    };
    calibration
    {
        rho = 0.9;
    };
};
"""

# Where the root search starts, far enough off to be no hint: gEconpy's own start does not converge.
ROUGH = {
    "A": 1.0, "C": 0.3, "I": 0.05, "K": 1.5, "L": 0.2, "TC": -0.35,
    "U": -40.0, "Y": 0.35, "lambda": 3.0, "q": 3.0, "r": 0.1, "w": 1.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = Path(tmp_path_factory.mktemp("gecon")) / "households.gcn"
    path.write_text(MODEL)
    return gEconpy.model_from_gcn(str(path), verbose=False)


@pytest.mark.parametrize("delta", [0.025, 0.05])
def test_steady_state_and_loglinear_policy(model: Any, delta: float) -> None:
    names = [variable.base_name for variable in model.variables]
    start = np.array([ROUGH[name] for name in names])
    rest = model.steady_state(
        how="root", verbose=False, progressbar=False, optimizer_kwargs={"x0": start}, delta=delta
    )
    assert rest.success
    economy = Economy(delta=delta)
    known = steady_state(economy)
    levels = {name: float(rest[f"{name}_ss"]) for name in ("K", "L", "Y", "C", "I", "r", "w")}
    expected = {
        "K": known.k,
        "L": known.l,
        "Y": known.y,
        "C": known.c,
        "I": known.i,
        "r": known.r,
        "w": known.w,
    }
    assert levels == pytest.approx(expected, abs=1e-7)

    transition, impact = model.solve_model(steady_state=rest, verbose=False, delta=delta)
    linear = solve_loglinear(economy)
    capital = names.index("K")
    productivity = names.index("A")
    for name, by_k, by_z in (("C", "c_k", "c_z"), ("L", "l_k", "l_z"), ("K", "k_k", "k_z")):
        row = names.index(name)
        assert transition[row, capital] == pytest.approx(getattr(linear, by_k), abs=1e-6)
        assert impact[row, 0] == pytest.approx(getattr(linear, by_z), abs=1e-6)
        assert transition[row, productivity] == pytest.approx(
            economy.rho * getattr(linear, by_z), abs=1e-6
        )
