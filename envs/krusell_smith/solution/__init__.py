"""Known answers of the Krusell-Smith economy, and statistics of any simulated economy."""

from rl_markets.envs.krusell_smith.solution.economy import (
    BAD,
    EMPLOYED,
    GOOD,
    KS98,
    UNEMPLOYED,
    Economy,
)
from rl_markets.envs.krusell_smith.solution.histogram import (
    Simulation,
    draw_states,
    equal_start,
    simulate,
    with_head_count,
)
from rl_markets.envs.krusell_smith.solution.household import Grids, solve_household
from rl_markets.envs.krusell_smith.solution.solution import Solution, solve
from rl_markets.envs.krusell_smith.solution.statistics import (
    LawOfMotion,
    den_haan,
    gini,
    law_of_motion,
    lorenz,
    top_share,
)

__all__ = [
    "BAD",
    "EMPLOYED",
    "GOOD",
    "KS98",
    "UNEMPLOYED",
    "Economy",
    "Grids",
    "LawOfMotion",
    "Simulation",
    "Solution",
    "den_haan",
    "draw_states",
    "equal_start",
    "gini",
    "law_of_motion",
    "lorenz",
    "simulate",
    "solve",
    "solve_household",
    "top_share",
    "with_head_count",
]
