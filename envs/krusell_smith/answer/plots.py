"""The pictures of a Krusell-Smith certificate, learned beside exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rl_markets.envs.answer_key import Line, Plot
from rl_markets.envs.krusell_smith import solution as known
from rl_markets.envs.krusell_smith.answer.panel import Panel, SharePolicy
from rl_markets.envs.krusell_smith.answer.states import KrusellSmithEquilibrium

STATES = ("good", "bad")


def plots(
    answer: KrusellSmithEquilibrium,
    learned: SharePolicy,
    simulated: Panel,
    kinds: NDArray[np.int64],
) -> list[Plot]:
    """All pictures, of a learned policy and the economy that it makes.

    `kinds` are those of the simulated households in the answer, `[households]`.
    """
    all_plots = [
        *_policy_plots(answer, learned),
        _lorenz_plot(answer, simulated),
        _law_plot(answer, simulated),
    ]
    if len(answer.kinds) > 1:
        all_plots.append(_wealth_plot(answer, simulated, kinds))
    return all_plots


def _policy_plots(answer: KrusellSmithEquilibrium, learned: SharePolicy) -> list[Plot]:
    """Consumption share and propensity to consume over capital, in the good state at mean K."""
    multiples = np.exp(np.linspace(np.log(0.01), np.log(4.0), 60))
    x = multiples.tolist()
    k = answer.solution.mean_capital * multiples
    K = np.full(len(k), answer.solution.mean_effective_capital)
    zeros = np.zeros(len(k), np.int64)
    policies: tuple[tuple[SharePolicy, str, str], ...] = (
        (answer.exact, answer.name, "answer"),
        (learned, "learned", "ours"),
    )
    share_lines = []
    propensity_lines = []
    for e, job in enumerate(("employed", "unemployed")):
        for policy, who, style in policies:
            shares = policy(k, K, zeros, zeros + e, zeros + answer.first_type)
            propensities = answer.propensities(policy, k, e)
            share_lines.append(Line(f"{who}, {job}", x, shares.tolist(), style))
            propensity_lines.append(Line(f"{who}, {job}", x, propensities.tolist(), style))
    x_label = "capital / mean capital"
    return [
        Plot(
            "Consumption share of wealth",
            x_label,
            "share, employed and unemployed",
            share_lines,
            log_x=True,
        ),
        Plot(
            "Propensity to consume",
            x_label,
            "of a windfall; upper: unemployed",
            propensity_lines,
            log_x=True,
        ),
    ]


def _lorenz_plot(answer: KrusellSmithEquilibrium, simulated: Panel) -> Plot:
    people, held = known.lorenz(simulated.capital[-1, 0])
    every = max(1, len(people) // 200)
    exact_people, exact_held = answer.solution.lorenz()
    shown = np.linspace(0, len(exact_people) - 1, 200).astype(int)
    return Plot(
        "Lorenz curve of capital",
        "share of households",
        "share of capital",
        [
            Line("equality", [0.0, 1.0], [0.0, 1.0], "control"),
            Line(answer.name, exact_people[shown].tolist(), exact_held[shown].tolist(), "answer"),
            Line("learned", people[::every].tolist(), held[::every].tolist(), "ours"),
        ],
    )


def _law_plot(answer: KrusellSmithEquilibrium, simulated: Panel) -> Plot:
    """The first path's K' over K, as a cloud, and the answer's law over the same range."""
    K = simulated.K[:-1, 0]
    next_K = simulated.K[1:, 0]
    z = simulated.z[:-1, 0]
    lines = []
    for i, state in enumerate(STATES):
        now = z == i
        ends = np.array([K[now].min(), K[now].max()])
        exact = answer.solution.law(ends, i)
        lines.append(Line(f"learned, {state}", K[now].tolist(), next_K[now].tolist(), "points"))
        lines.append(Line(f"{answer.name}, {state}", ends.tolist(), exact.tolist(), "answer"))
    return Plot("Law of motion", "capital K", "K next quarter; upper: good state", lines)


def _wealth_plot(
    answer: KrusellSmithEquilibrium, simulated: Panel, kinds: NDArray[np.int64]
) -> Plot:
    """Cumulative distribution of capital, kind by kind."""
    edges = np.linspace(0, np.quantile(simulated.capital[-1], 0.99), 60)
    x = edges.tolist()
    grid = answer.solution.grids.histogram
    mass = answer.solution.simulation.mean.sum(1)
    lines = []
    for kind, kappa in enumerate(answer.kinds):
        exact = np.interp(edges, grid, np.cumsum(mass[kind]) / mass[kind].sum())
        lines.append(Line(f"{answer.name}, {kappa:g}", x, exact.tolist(), "answer"))
        own = simulated.capital[..., kinds == kind].ravel()
        below = np.searchsorted(np.sort(own), edges, side="right") / len(own)
        lines.append(Line(f"learned, {kappa:g}", x, below.tolist(), "ours"))
    return Plot(
        "Capital by type (right: higher kappa)", "capital", "share of the type below", lines
    )
