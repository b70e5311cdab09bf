"""Known answers of the household economy (arXiv 2510.12272): solutions, diagnostics, best response."""

from .best_response import BestResponse, best_response
from .collocation import CollocationSolution, solve_collocation
from .deviation import ALONE, AMONG_OTHERS, Grid, HouseholdPolicy
from .diagnostics import (
    Moment,
    PolicyFunction,
    Simulation,
    ValueFunction,
    consumption_equivalent,
    enact,
    euler_errors,
    generalised_responses,
    impulse_response,
    labour_errors,
    moments,
    simulate,
    welfare,
)
from .economy import ConvergenceError, Economy, Policy, Solution, SteadyState, closed_form, steady_state
from .loglinear import BlanchardKahnError, LogLinear, solve_loglinear
from .time_iteration import TimeIterationSolution, solve_time_iteration
from .transition import Transition, perfect_foresight, start_after_growth

__all__ = [
    "ALONE",
    "AMONG_OTHERS",
    "BestResponse",
    "BlanchardKahnError",
    "CollocationSolution",
    "ConvergenceError",
    "Economy",
    "Grid",
    "HouseholdPolicy",
    "LogLinear",
    "Moment",
    "Policy",
    "PolicyFunction",
    "Simulation",
    "Solution",
    "SteadyState",
    "TimeIterationSolution",
    "Transition",
    "ValueFunction",
    "best_response",
    "closed_form",
    "consumption_equivalent",
    "enact",
    "euler_errors",
    "generalised_responses",
    "impulse_response",
    "labour_errors",
    "moments",
    "perfect_foresight",
    "simulate",
    "solve_collocation",
    "solve_loglinear",
    "solve_time_iteration",
    "start_after_growth",
    "steady_state",
    "welfare",
]
