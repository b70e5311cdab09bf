"""`rl-markets calibrate`: its options, and what it prints.

What computes is imported inside the functions: `--help` and `check` must import neither torch nor
ray, and the command line imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl_markets.errors import ExperimentError
from rl_markets.sales.options import Decimal, Separator, pairs, written
from rl_markets.sales.written import Written

if TYPE_CHECKING:
    from rich.table import Table

    from rl_markets.sales.calibration.calibrate import Calibration
    from rl_markets.sales.calibration.experiment import Setting

NAMES = ("linear", "exponential", "isoelastic", "logit")
SHOWN = 20
"""Products listed one by one."""

Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=NAME", help="what the file calls a column; may be repeated"),
]
Costs = Annotated[
    list[str] | None,
    typer.Option(metavar="[PRODUCT=]NUMBER", help="unit cost; may be repeated, for products"),
]
Instruments = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME", help="columns that move prices and not demand; needs --family"
    ),
]


def calibrate(
    file: Annotated[Path, typer.Argument(help="a log of sales, CSV or parquet")],
    out: Annotated[
        Path | None, typer.Option(help="the experiment file to write; left out, NAME.yaml")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite it")] = False,
    column: Columns = None,
    product: Annotated[
        list[str] | None, typer.Option(help="a product to keep; may be repeated; left out, all")
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="linear, exponential, isoelastic or logit; left out, the best"),
    ] = None,
    visitors: Annotated[
        float | None, typer.Option(min=1e-9, help="mean visitors of a store and period (logit)")
    ] = None,
    cost: Costs = None,
    stock: Annotated[
        int | None, typer.Option(min=1, help="units of each product for a season with a deadline")
    ] = None,
    periods: Annotated[
        int | None, typer.Option(min=1, help="periods of the season or episode")
    ] = None,
    instruments: Instruments = None,
    separator: Separator = None,
    decimal: Decimal = None,
    date_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="of its dates, such as %d.%m.%Y")
    ] = None,
    drop_refused: Annotated[
        bool,
        typer.Option("--drop-refused", help="leave out products that cannot be estimated"),
    ] = False,
) -> None:
    """Estimate demand from your own log of sales, and write an experiment with it."""
    name, setting = _checked(file, family, cost, stock, periods, instruments)
    target = out or Path(f"{name}.yaml")
    if target.exists() and not force:
        raise ExperimentError(
            f"{target}: exists already; --force overwrites it, --out names another"
        )
    how = written(separator, decimal, date_format)
    kept = Kept(pairs("--column", column), product or [], drop_refused)
    names = [z.strip() for z in instruments.split(",")] if instruments else []
    calibration = _estimated(file, kept, how, names, family, visitors)
    _write(target, name, calibration, setting)


@dataclass(frozen=True)
class Kept:
    """What of a log is looked at: its columns' names, products, and those that can be estimated."""

    columns: Mapping[str, str]
    products: Sequence[str]
    drop_refused: bool


def _estimated(
    file: Path,
    kept: Kept,
    how: Written,
    instruments: list[str],
    family: str | None,
    visitors: float | None,
) -> Calibration:
    """The demand that a log tells, saying what is going on."""
    # Here, so that `--help` imports none of it.
    from rl_markets.progress import console
    from rl_markets.sales.calibration.calibrate import by_instruments
    from rl_markets.sales.calibration.calibrate import calibrate as run
    from rl_markets.sales.calibration.checks import without_refused
    from rl_markets.sales.calibration.sales import read_sales

    say = console().print
    log = read_sales(file, kept.columns, kept.products, instruments, how, say)
    if kept.drop_refused:
        log = without_refused(log)
    say(f"{log.source}: {log.rows} rows of {len(log.products)} products; fitting demand")
    if instruments:
        return by_instruments(log, str(family), visitors)
    return run(log, family, visitors, drop_refused=kept.drop_refused, say=say)


def _write(target: Path, name: str, calibration: Calibration, setting: Setting) -> None:
    """The experiment's file, once it is known to be right."""
    from rl_markets.experiment import parse
    from rl_markets.sales.calibration.experiment import experiment, text

    data = experiment(name, calibration, setting)
    parse(data, str(target))  # refuses what the market would refuse, before anything is written
    _show(calibration)
    try:
        target.write_text(text(data, calibration), encoding="utf-8")
    except OSError as error:
        raise ExperimentError(f"{target}: cannot be written: {error.strerror}") from None
    typer.echo(f"wrote {target}: rl-markets train {target}")


def _checked(
    file: Path,
    family: str | None,
    cost: list[str] | None,
    stock: int | None,
    periods: int | None,
    instruments: str | None,
) -> tuple[str, Setting]:
    """The experiment's name, and what the log does not tell.

    Whatever can be refused before reading the log is refused here.
    """
    from rl_markets.sales.calibration.experiment import Setting  # here, since it imports torch

    if family is not None and family not in NAMES:
        raise ExperimentError(f"--family {family}: expected one of {', '.join(NAMES)}")
    if instruments and family is None:
        raise ExperimentError(f"--instruments: needs --family, one of {', '.join(NAMES)}")
    if stock is not None and periods is None:
        raise ExperimentError("--stock: needs --periods, the periods until the deadline")
    costs = cost or []
    of_product = pairs("--cost", [option for option in costs if "=" in option])
    of_all = [_cost(option, option) for option in costs if "=" not in option]
    if len(of_all) > 1:
        raise ExperimentError(
            f"--cost {of_all[1]:g}: expected one number for all products, or PRODUCT=NUMBER"
        )
    by_product = {name: _cost(f"{name}={number}", number) for name, number in of_product.items()}
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")[:80] or "calibrated"
    return name, Setting(by_product, of_all[0] if of_all else None, stock, periods)


def _cost(option: str, number: str) -> float:
    try:
        cost = float(number)
    except ValueError:
        cost = -1.0  # refused below
    if not 0 <= cost <= 1e12:
        raise ExperimentError(f"--cost {option}: expected a number of 0 or more")
    return cost


def _show(calibration: Calibration) -> None:
    """The families tried, the products' elasticities, and what to keep in mind."""
    from rl_markets.progress import console

    screen = console()
    screen.print(_families_table(calibration))
    screen.print(_products_table(calibration))
    more = len(calibration.log.products) - SHOWN
    if more > 0:
        screen.print(f"and {more} more products, in the file written")
    left_out = [f"{tried.name}: {tried.problem}" for tried in calibration.tried if tried.problem]
    for note in [*left_out, *calibration.notes]:
        screen.print(note)


def _families_table(calibration: Calibration) -> Table:
    from rich.table import Table

    table = Table(
        "family", "held-out log likelihood, a row", "mean elasticity", "95 % interval", "chosen"
    )
    for tried in calibration.tried:
        if tried.problem:
            continue
        mean, low, high = tried.elasticity
        likelihood = "not compared"
        if abs(tried.held_out) < float("inf"):  # neither infinite nor NaN
            likelihood = f"{tried.held_out:.4f}"
        chosen = "chosen" if tried.name == calibration.family else ""
        table.add_row(tried.name, likelihood, f"{mean:.2f}", f"{low:.2f} to {high:.2f}", chosen)
    return table


def _products_table(calibration: Calibration) -> Table:
    from rich.table import Table

    table = Table("product", "median price", "elasticity", "95 % interval")
    for i, name in enumerate(calibration.log.products[:SHOWN]):
        price = f"{calibration.price[i]:g}"
        elasticity = f"{calibration.elasticity[i]:.2f}"
        interval = f"{calibration.low[i]:.2f} to {calibration.high[i]:.2f}"
        table.add_row(name, price, elasticity, interval)
    return table
