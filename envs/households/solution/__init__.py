"""Known answers of the household economy (arXiv 2510.12272).

Solutions of the representative household's problem, diagnostics of any policy, one household's
best response, the Nash rest point and the transition after growth.
"""

from rl_markets.envs.households.solution.best_response import BestResponse, best_response
from rl_markets.envs.households.solution.collocation import CollocationSolution, solve_collocation
from rl_markets.envs.households.solution.deviation import ALONE, AMONG_OTHERS, Grid, HouseholdPolicy
from rl_markets.envs.households.solution.diagnostics import (
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
from rl_markets.envs.households.solution.economy import (
    Economy,
    Policy,
    Solution,
    SteadyState,
    closed_form,
    steady_state,
)
from rl_markets.envs.households.solution.loglinear import LogLinear, solve_loglinear
from rl_markets.envs.households.solution.transition import (
    Transition,
    perfect_foresight,
    start_after_growth,
)
from rl_markets.errors import BlanchardKahnError

__all__ = [
    "ALONE",
    "AMONG_OTHERS",
    "BestResponse",
    "BlanchardKahnError",
    "CollocationSolution",
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
    "start_after_growth",
    "steady_state",
    "welfare",
]
