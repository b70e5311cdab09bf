"""`rl-markets offline`: its options, and what it prints. Imports what computes only when it
runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration.command import pairs

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
    export: Annotated[
        Path | None, typer.Option(help="write CQL's network as an exported policy to this folder")
    ] = None,
) -> None:
    """Learn from logged decisions alone, and say what policies would earn and how sure that is."""
    from rl_markets.experiment import load
    from rl_markets.quiet import quiet_ray

    found = load(experiment)
    if export is not None and export.exists():
        raise ExperimentError(f"{export}: exists already; --export names another folder")
    quiet_ray()
    from rl_markets.sales.offline.compare import answer_of, compare, learn
    from rl_markets.sales.offline.cql import CQLSettings
    from rl_markets.sales.offline.log import read_decisions

    answer = answer_of(found, str(experiment))
    log = read_decisions(file, answer.season, pairs("--column", column))
    settings = CQLSettings(alpha=alpha, gamma=answer.season.discount, steps=steps)
    actor, learned = learn(log, answer, settings, seed)
    _show(compare(log, answer, learned, seed), log.seasons, answer.optimum.total)
    if export is not None:
        _export(export, actor, found, seed)


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
    names = list(judged[0].estimates)
    table = Table(
        "policy",
        "effective seasons",
        *names,
        "exact",
        title=f"value of a season, from {seasons} logged ones",
        title_justify="left",
    )
    for one in judged:
        figures = (cell(one.estimates[name]) for name in names)
        table.add_row(one.name, f"{one.effective:.1f}", *figures, f"{one.exact:,.0f}")
    screen.print(table)
    for line in (
        *_refusals(judged),
        f"exact: in the experiment's market, whose optimum is {optimum:,.0f}; brackets are 95 % "
        "bootstrap intervals",
        "logger: what it does is taken from its propensities, or counted where these depend on "
        "more than the choice",
        "model: censored Poisson demand fitted to the log; it holds as far as demand falls "
        "exponentially in the price",
    ):
        screen.print(line, highlight=False)


def cell(estimate: Estimate) -> str:
    """An estimate with its interval."""
    if estimate.value != estimate.value:
        return "refused"
    interval = (
        "" if estimate.low != estimate.low else f"\n({estimate.low:,.0f} to {estimate.high:,.0f})"
    )
    return f"{estimate.value:,.0f}{interval}"


def _refusals(judged: list[Judged]) -> list[str]:
    found: dict[str, None] = {}
    for one in judged:
        for reason in {e.refused: None for e in one.estimates.values() if e.refused}:
            which = ", ".join(name for name, e in one.estimates.items() if e.refused == reason)
            found[f"refused for {one.name}: {which}: {reason}"] = None
    return list(found)
