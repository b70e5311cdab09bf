"""Logs of sales and decisions with odd cells, columns and encodings: a line, or an answer."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from rl_markets.sales.calibration.calibrate import by_instruments, calibrate
from rl_markets.sales.calibration.sales import read_sales
from rl_markets.sales.offline.compare import answer_of
from rl_markets.sales.offline.log import read_decisions
from tests.attack.judge import Case
from tests.support.experiment_files import FILES
from tests.support.selling import drawn

Rows = list[dict[str, Any]]

CELLS: tuple[Any, ...] = (
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e308", "1e-308", "1e400", "9" * 400, "1,5"),
    *("1.5.2", "0x1f", "1_000", "\u0661", "[/b]", "a\0b", "\U0001f600", "'"),
    *("2026-02-31", "2026-W01-1", "31.12.2026", "12/31/2026", "20260101", "-0", "+5", "1e5", '"'),
)
SEPARATORS = (",", ";", "\t", "|", " ")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1")


def cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Random changes of a good log, written in many ways."""
    for _ in range(count):
        seed = generator.random()
        attempt = generator.choice((_sales, _sales, _instruments, _decisions))
        yield Case("data files", f"{attempt.__name__[1:]}, draw {seed:.9f}", partial(attempt, seed))


def _sales(seed: float) -> str:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as home:
        log = read_sales(_written(Path(home), _changed(_good(draw), draw), draw))
    found = calibrate(log)
    if not np.isfinite(found.elasticity).all():
        raise AssertionError(f"elasticity {found.elasticity}")
    return f"{found.family} demand"


def _instruments(seed: float) -> str:
    draw = random.Random(seed)
    rows = _good(draw)
    kind = draw.choice(("constant", "copy", "price", "huge", "nan", "fine"))
    for row in rows:
        noise = draw.random()
        row["z"] = noise
        row["y"] = {
            "constant": 1.0,
            "copy": noise,
            "price": row["price"],
            "huge": 1e300 * noise,
            "nan": "nan",
            "fine": draw.random(),
        }[kind]
    with tempfile.TemporaryDirectory() as home:
        log = read_sales(_written(Path(home), rows, draw), instruments=["z", "y"])
    found = by_instruments(log, "exponential", None)
    if not np.isfinite(found.elasticity).all():
        raise AssertionError(f"elasticity {found.elasticity}")
    return f"{kind} instrument"


def _decisions(seed: float) -> str:
    from tests.support.seasons import BROAD, logged

    draw = random.Random(seed)
    path = next(path for path in FILES if path.stem == "pricing-gvr")
    from rl_markets.experiment import load

    answer = answer_of(load(path), str(path))
    log = logged(answer.season, 5, 1, BROAD)
    rows = []
    periods, seasons = log.action.shape
    for season in range(seasons):
        for period in range(periods):
            if log.stock[period, season] == 0:
                break
            choice = int(log.action[period, season])
            rows.append(
                {
                    "season": season,
                    "period": period,
                    "stock": int(log.stock[period, season]),
                    "choice": choice,
                    "price": float(answer.season.prices[choice]),
                    "sales": int(log.sales[period, season]),
                    "reward": float(log.reward[period, season]),
                    "propensity": float(log.propensity[period, season]),
                }
            )
    with tempfile.TemporaryDirectory() as home:
        read = read_decisions(_written(Path(home), _changed(rows, draw), draw), answer.season)
    return f"{read.seasons} seasons"


def _good(draw: random.Random) -> Rows:
    slope = 0.004

    def mean(price: Any) -> Any:
        return 60 * np.exp(-slope * price)

    options: dict[str, Any] = {"periods": draw.choice((12, 40)), "products": draw.choice((1, 3))}
    rows = drawn(mean, stores=draw.choice((1, 2)), seed=draw.randrange(9), **options)
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _changed(rows: Rows, draw: random.Random) -> Rows:
    """Odd cells, doubled, lost and shuffled rows, columns of another scale or name."""
    rows = [dict(row) for row in rows]
    for _ in range(draw.choice((0, 1, 1, 3))):
        row = draw.choice(rows)
        row[draw.choice(list(row))] = draw.choice(CELLS)
    kind = draw.randrange(9)
    column = draw.choice(list(rows[0]))
    if kind == 0:
        rows += [dict(draw.choice(rows))]
    elif kind == 1:
        del rows[draw.randrange(len(rows)) :]
    elif kind == 2:
        draw.shuffle(rows)
    elif kind == 3:
        factor = draw.choice((1e300, 1e-300, 1e30, -1.0, 0.0, 1e15))
        for row in rows:
            if isinstance(row[column], int | float):
                row[column] *= factor
    elif kind == 4:
        name = draw.choice(("", "price", "[/wrong]", "x" * 5000, "a\nb", "\u202e"))
        rows = [{(name if key == column else key): v for key, v in row.items()} for row in rows]
    elif kind == 5:
        for row in rows:
            row[column] = draw.choice(CELLS)
    elif kind == 6 and "product" in rows[0]:
        for row in rows:
            row["product"] = draw.choice(("[/wrong]", "x" * 3000, "$\\frac{1}$", "a,b;c", "\u2028"))
            row["period"] = len(row) + draw.randrange(10**9)
    return rows


def _written(home: Path, rows: Rows, draw: random.Random) -> Path:
    if draw.random() < 0.3 and rows:
        return _parquet(home / draw.choice(("log.parquet", "[b].pq")), rows, draw)
    path = home / draw.choice(("log.csv", "[b].csv", "lo g.csv"))
    text = io.StringIO()
    if rows:
        separator = draw.choice((*SEPARATORS, *15 * (",",)))
        writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    content = text.getvalue()
    if draw.random() < 0.05:
        content = content.replace(".", ",")
    encoding = draw.choice((*ENCODINGS, *9 * ("utf-8",)))
    data = content.encode(encoding, errors="replace")
    if draw.random() < 0.1:
        data = data[: draw.randrange(len(data) + 1)] + bytes([draw.randrange(256)]) * 3
    path.write_bytes(data)
    return path


def _parquet(path: Path, rows: Rows, draw: random.Random) -> Path:
    """Types that a column of a parquet file may have; pages that are broken."""
    column = draw.choice(list(rows[0]))
    change: Callable[[Any], Any] = draw.choice(
        (
            lambda value: value,
            lambda value: None,
            lambda value: [value],
            lambda value: {"a": value},
            lambda value: decimal.Decimal("1.5"),
            lambda value: datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC),
            lambda value: datetime.date(2026, 1, 1),
            lambda value: datetime.time(1),
            lambda value: b"\xff\x00",
            lambda value: True,
            lambda value: 2**62,
            lambda value: float("nan"),
        )
    )
    changed = [{**row, column: change(row[column])} for row in rows]
    names = list(rows[0])
    try:
        table = pyarrow.table({n: pyarrow.array([row.get(n) for row in changed]) for n in names})
    except (pyarrow.ArrowException, OverflowError):  # cells of several types are no column
        table = pyarrow.table({n: pyarrow.array([str(r.get(n)) for r in changed]) for n in names})
    parquet.write_table(table, path)
    if draw.random() < 0.3:
        content = bytearray(path.read_bytes())
        for _ in range(draw.choice((1, 10, 100))):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
    return path
