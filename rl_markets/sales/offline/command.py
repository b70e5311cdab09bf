"""`rl-markets offline`: its options, and what it prints.

What computes is imported inside the functions: `--help` and `check` must import neither torch nor
ray, and the command line imports this module.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl_markets.errors import ExperimentError
from rl_markets.sales.options import Decimal, Separator, pairs, written

if TYPE_CHECKING:
    from rl_markets.experiment import Experiment
    from rl_markets.policies.actors import NetworkActor
    from rl_markets.sales.offline.compare import Judged
    from rl_markets.sales.offline.estimators import Estimate


def offline(
    file: Annotated[
        Path, typer.Argument(help="a log of decisions with propensities, CSV or parquet")
    ],
    experiment: Annotated[
        Path, typer.Argument(help="the experiment file of the season that they were made in")
    ],
    alpha: Annotated[float, typer.Option(min=0, help="how conservatively CQL learns")] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="CQL's gradient steps")] = 6000,
    seed: Annotated[int, typer.Option(min=0, help="of CQL and of the bootstrap")] = 0,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=NAME", help="what the file calls a column; may be repeated"),
    ] = None,
    separator: Separator = None,
    decimal: Decimal = None,
    export: Annotated[
        Path | None, typer.Option(help="write CQL's network as an exported policy to this folder")
    ] = None,
) -> None:
    """Learn from logged decisions alone, and say what policies would earn and how sure that is."""
    from rl_markets.experiment import load
    from rl_markets.progress import console, counting
    from rl_markets.quiet import quiet_ray

    season_experiment = load(experiment, build=False)
    if export is not None and export.exists():
        raise ExperimentError(f"{export}: exists already; --export names another folder")
    quiet_ray()
    from rl_markets.sales.offline.compare import answer_of, compare, learn
    from rl_markets.sales.offline.cql import CQLSettings
    from rl_markets.sales.offline.log import read_decisions

    answer = answer_of(season_experiment, str(experiment))
    screen = console()
    how = written(separator, decimal)
    log = read_decisions(file, answer.season, pairs("--column", column), how, screen.print)
    settings = CQLSettings(alpha=alpha, gamma=answer.season.discount, steps=steps)
    with counting(screen, "CQL learns", steps) as done:
        actor, learned = learn(log, answer, settings, seed, done)
    screen.print("comparing policies by what the log says of each")
    _show(compare(log, answer, learned, seed), log.seasons, answer.optimum.total)
    if export is not None:
        _export(export, actor, season_experiment, seed)


def _export(folder: Path, actor: NetworkActor, experiment: Experiment, seed: int) -> None:
    from rl_markets import exported

    (group,) = experiment.groups
    spec = {
        "market": experiment.market.model_dump(mode="json"),
        "experiment": experiment.name,
        "digest": experiment.digest,
        "seed": seed,
        "policies": {group: {"groups": [group], "scripted": None}},
    }
    exported.export(folder, {group: actor}, spec)
    typer.echo(f"wrote {folder}")


def _show(judged: list[Judged], seasons: int, optimum: float) -> None:
    """A row for each policy; what was refused is said below."""
    from rich.table import Table

    from rl_markets.progress import console

    screen = console()
    estimators = list(judged[0].estimates)
    title = f"value of a season, from {seasons} logged ones"
    header = ("policy", "effective seasons", *estimators, "exact")
    table = Table(*header, title=title, title_justify="left")
    for policy in judged:
        estimates = (cell(policy.estimates[name]) for name in estimators)
        table.add_row(policy.name, f"{policy.effective:.1f}", *estimates, f"{policy.exact:,.0f}")
    screen.print(table)
    for line in (
        *_refusals(judged),
        f"exact: in the experiment's market, whose optimum is {optimum:,.0f}; "
        "brackets are 95 % bootstrap intervals",
        "logger: what it does is taken from its propensities, "
        "or counted where these depend on more than the choice",
        "model: censored Poisson demand fitted to the log; "
        "it holds as far as demand falls exponentially in the price",
    ):
        screen.print(line)


def cell(estimate: Estimate) -> str:
    """An estimate with its interval."""
    if math.isnan(estimate.value):
        return "refused"
    if math.isnan(estimate.low):
        return f"{estimate.value:,.0f}"
    return f"{estimate.value:,.0f}\n({estimate.low:,.0f} to {estimate.high:,.0f})"


def _refusals(judged: list[Judged]) -> list[str]:
    """A line for each policy and reason, with the estimators that it is the reason of."""
    lines = []
    for policy in judged:
        estimators_of: dict[str, list[str]] = {}
        for name, estimate in policy.estimates.items():
            if estimate.refused:
                estimators_of.setdefault(estimate.refused, []).append(name)
        for reason, estimators in estimators_of.items():
            lines.append(f"refused for {policy.name}: {', '.join(estimators)}: {reason}")
    return lines
