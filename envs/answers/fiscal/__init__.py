"""Known answers of households and a government that taxes them: the Markov-perfect equilibrium, and deviations."""

from ..households.economy import ConvergenceError
from .economy import (
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
from .government import government_gain
from .solution import FiscalSolution, solve

__all__ = [
    "Conduct",
    "ConvergenceError",
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
