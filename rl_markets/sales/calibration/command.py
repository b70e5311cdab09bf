"""`rl-markets calibrate`: its options, and what it prints. Imports what computes only when it
runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl_markets.errors import ExperimentError

if TYPE_CHECKING:
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
) -> None:
    """Estimate demand from your own log of sales, and write an experiment with it."""
    name, setting = _checked(file, family, cost, stock, periods, instruments)
    target = out or Path(f"{name}.yaml")
    if target.exists() and not force:
        raise ExperimentError(
            f"{target}: exists already; --force overwrites it, --out names another"
        )
    from rl_markets.experiment import parse
    from rl_markets.sales.calibration.calibrate import by_instruments
    from rl_markets.sales.calibration.calibrate import calibrate as run
    from rl_markets.sales.calibration.experiment import experiment, text
    from rl_markets.sales.calibration.sales import read_sales

    named = [z.strip() for z in instruments.split(",")] if instruments else []
    log = read_sales(file, pairs("--column", column), product or (), named)
    found = (
        by_instruments(log, str(family), visitors) if instruments else run(log, family, visitors)
    )
    data = experiment(name, found, setting)
    parse(data, str(target))
    _show(found)
    try:
        target.write_text(text(data, found), encoding="utf-8")
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
    """The experiment's name, and what the log does not tell; whatever can be refused before reading
    is."""
    from rl_markets.sales.calibration.experiment import Setting

    if family is not None and family not in NAMES:
        raise ExperimentError(f"--family {family}: expected one of {', '.join(NAMES)}")
    if instruments and family is None:
        raise ExperimentError(f"--instruments: needs --family, one of {', '.join(NAMES)}")
    if stock is not None and periods is None:
        raise ExperimentError("--stock: needs --periods, the periods until the deadline")
    each = pairs("--cost", [c for c in cost or [] if "=" in c])
    everything = [_cost(c, c) for c in cost or [] if "=" not in c]
    if len(everything) > 1:
        raise ExperimentError(
            f"--cost {everything[1]:g}: expected one number for all products, or PRODUCT=NUMBER"
        )
    by_product = {name: _cost(f"{name}={number}", number) for name, number in each.items()}
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")[:80] or "calibrated"
    return name, Setting(by_product, everything[0] if everything else None, stock, periods)


def _cost(option: str, number: str) -> float:
    try:
        found = float(number)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1e12:
        raise ExperimentError(f"--cost {option}: expected a number of 0 or more")
    return found


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`left=right` options as a mapping; ExperimentError, one line, for what is none."""
    found = {}
    for pair in given or []:
        left, equals, right = pair.partition("=")
        if not (left and equals and right):
            raise ExperimentError(f"{option} {pair}: expected NAME=NAME, such as price=PRICE")
        found[left] = right
    return found


def _show(found: Calibration) -> None:
    """The families tried, the products' elasticities, and what to keep in mind."""
    from rich.table import Table

    from rl_markets.progress import console

    screen = console()
    families = Table(
        "family", "held-out log likelihood, a row", "mean elasticity", "95 % interval", "chosen"
    )
    for tried in found.tried:
        value, low, high = tried.elasticity
        if not tried.problem:
            likelihood = (
                f"{tried.held_out:.4f}" if abs(tried.held_out) < float("inf") else "not compared"
            )
            chosen = "chosen" if tried.name == found.family else ""
            families.add_row(
                tried.name, likelihood, f"{value:.2f}", f"{low:.2f} to {high:.2f}", chosen
            )
    products = Table("product", "median price", "elasticity", "95 % interval")
    for i, name in enumerate(found.log.products[:SHOWN]):
        interval = f"{found.low[i]:.2f} to {found.high[i]:.2f}"
        products.add_row(name, f"{found.price[i]:g}", f"{found.elasticity[i]:.2f}", interval)
    for shown in (families, products):
        screen.print(shown)
    if len(found.log.products) > SHOWN:
        screen.print(
            f"and {len(found.log.products) - SHOWN} more products, in the file written",
            highlight=False,
        )
    left_out = [f"{tried.name}: {tried.problem}" for tried in found.tried if tried.problem]
    for note in [*left_out, *found.notes]:
        screen.print(note, highlight=False)
