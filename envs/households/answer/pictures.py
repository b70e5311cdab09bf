"""Pictures of what households (and a government) do, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rl_markets.envs.answer_key import Line, Plot
from rl_markets.envs.numerics.checks import FloatArray

StateRules = Callable[[FloatArray, FloatArray], tuple[FloatArray, ...]]
"""(capital, log productivity) `[states]` each -> an array `[states]` for each action."""


def rules_over_capital(
    actions: Sequence[str],
    exact: StateRules,
    ours: StateRules,
    *,
    name: str,
    rest: float,
    multiples: FloatArray,
    reach: float,
    x_label: str,
) -> list[Plot]:
    """A plot for each action over capital, at low, mean and high productivity.

    Args:
        actions: what the rules give, in their order.
        name: of the answer, whose rules are `exact`.
        rest: capital at rest, which `multiples` `[points]` are of.
        reach: log productivity either side of its mean.
    """
    capital = multiples * rest
    x = multiples.tolist()
    levels = []
    for z, label in ((-reach, "low A"), (0.0, "mean A"), (reach, "high A")):
        tfp = np.full_like(multiples, z)
        levels.append((label, exact(capital, tfp), ours(capital, tfp)))
    plots = []
    for i, action in enumerate(actions):
        lines = []
        for label, of_answer, learned in levels:
            lines.append(Line(f"{name}, {label}", x, of_answer[i].tolist(), "answer"))
            lines.append(Line(f"learned, {label}", x, learned[i].tolist(), "ours"))
        plots.append(Plot(action.capitalize(), x_label, action, lines, log_x=True))
    return plots
