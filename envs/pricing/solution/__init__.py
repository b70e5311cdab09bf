"""Known answers of prices: one product or many, with stock and rivals.

    A season           Season, gvr, perish, censored_transitions
    Its best prices    solve, evaluate, probabilities, fixed, open_loop, best_two_price, leftover,
                       stock_distribution; Solution, TwoPrices
    Markdown only      solve_markdown, evaluate_markdown, leftover_markdown; MarkdownSolution
    Logit demand       LogitMarket, catalogue, shares; GridMarket, level_grid
    Fit, then plan     simulate, fit, fit_log, plan, planned_season; SeasonLog, DemandFit

Solvers that iterate raise ConvergenceError. Bad arguments raise ValueError.
"""

from rl_markets.envs.pricing.solution.finite_horizon import (
    Solution,
    TwoPrices,
    best_two_price,
    evaluate,
    fixed,
    leftover,
    open_loop,
    probabilities,
    solve,
    stock_distribution,
)
from rl_markets.envs.pricing.solution.fit_then_plan import (
    DemandFit,
    SeasonLog,
    fit,
    fit_log,
    plan,
    planned_season,
    simulate,
)
from rl_markets.envs.pricing.solution.markdown import (
    MarkdownSolution,
    evaluate_markdown,
    leftover_markdown,
    solve_markdown,
)
from rl_markets.envs.pricing.solution.mnl import LogitMarket, catalogue, shares
from rl_markets.envs.pricing.solution.mnl_grid import GridMarket, level_grid
from rl_markets.envs.pricing.solution.season import Season, censored_transitions, gvr, perish

__all__ = [
    "DemandFit",
    "GridMarket",
    "LogitMarket",
    "MarkdownSolution",
    "Season",
    "SeasonLog",
    "Solution",
    "TwoPrices",
    "best_two_price",
    "catalogue",
    "censored_transitions",
    "evaluate",
    "evaluate_markdown",
    "fit",
    "fit_log",
    "fixed",
    "gvr",
    "leftover",
    "leftover_markdown",
    "level_grid",
    "open_loop",
    "perish",
    "plan",
    "planned_season",
    "probabilities",
    "shares",
    "simulate",
    "solve",
    "solve_markdown",
    "stock_distribution",
]
