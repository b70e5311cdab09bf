"""Known answers of households and a government that taxes them.

The Markov-perfect equilibrium, and what the government could gain by deviating from any policy.
"""

from rl_markets.envs.fiscal.solution.economy import (
    Conduct,
    FiscalEconomy,
    FiscalRest,
    Period,
    TaxPolicy,
    closed_form,
    disposable,
    euler_errors,
    government_utility,
    labour_errors,
    play,
    rest_at,
    rest_point,
)
from rl_markets.envs.fiscal.solution.government import government_gain
from rl_markets.envs.fiscal.solution.solution import FiscalSolution, solve

__all__ = [
    "Conduct",
    "FiscalEconomy",
    "FiscalRest",
    "FiscalSolution",
    "Period",
    "TaxPolicy",
    "closed_form",
    "disposable",
    "euler_errors",
    "government_gain",
    "government_utility",
    "labour_errors",
    "play",
    "rest_at",
    "rest_point",
    "solve",
]
