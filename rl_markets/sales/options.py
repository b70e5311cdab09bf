"""Options that the commands about logs share. Imports no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from rl_markets.errors import ExperimentError
from rl_markets.sales.written import Written

Separator = Annotated[
    str | None,
    typer.Option(metavar="CHARACTER", help="between the columns of a CSV file, or the word tab"),
]
Decimal = Annotated[
    str | None, typer.Option(metavar=".|,", help="what stands before decimals in a CSV file")
]


def written(separator: str | None, decimal: str | None, dates: str | None = None) -> Written:
    """How a CSV file is written, as options say."""
    return Written("\t" if separator == "tab" else separator, decimal, dates)


def pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """`left=right` options as a mapping.

    Raises:
        ExperimentError: one line, for what is no pair.
    """
    mapping = {}
    for pair in values or []:
        left, equals, right = pair.partition("=")
        if not (left and equals and right):
            raise ExperimentError(f"{option} {pair}: expected NAME=NAME, such as price=PRICE")
        mapping[left] = right
    return mapping
