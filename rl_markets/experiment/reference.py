"""The reference of experiment files, made from the fields themselves: `python -m
rl_markets.experiment.reference`."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rl_markets.envs.registry import LEARNERS, MARKETS, find, names
from rl_markets.experiment.columns import MAX_ROWS, Column
from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.sections import (
    AlgorithmSection,
    CertificateSection,
    MarketSection,
    PolicySection,
    TrainingSection,
)

_HEAD = """# Experiment files

Made by `python -m rl_markets.experiment.reference > docs/experiments.md`; a test keeps it true.
Unknown fields are errors, values are not converted, and `-o section.field=value` overrides any of
them on the command line.
"""

_COLUMNS = f"""Any list of numbers under `market.parameters` may be left to a file, such as draws
from a distribution:

```yaml
market:
  name: households
  parameters:
    households: 20
    capital_productivity: {{file: types.csv, column: kappa}}
    labour_productivity: {{file: types.csv, column: lambda}}
```

with a `types.csv` beside the experiment file:

```csv
# drawn from a log-normal
kappa,lambda
0.92,1.1
0.98,1.0

1.01,0.7
1.09,1.2
```

The file is UTF-8 text with commas and a header line; blank lines and lines that start with `#` are
skipped, and each of at most {MAX_ROWS:,} rows has as many cells as the header. It is read when the
experiment file is: runners, checkpoints and the run's own `experiment.yaml` hold the numbers, and a
run goes on when the file has changed or is gone. It works on the command line, too, again relative
to the experiment file's folder:
`-o market.parameters.capital_productivity='{{file: types.csv, column: kappa}}'`.
"""


def reference() -> str:
    """The reference as Markdown."""
    parts = [_HEAD, _table("The file", Experiment)]
    sections: list[tuple[str, type[BaseModel]]] = [
        ("market", MarketSection),
        ("policies.NAME", PolicySection),
        ("algorithm", AlgorithmSection),
        ("training", TrainingSection),
        ("certificate", CertificateSection),
    ]
    parts += [_table(f"`{name}`", model) for name, model in sections]
    parts.append(_table("Lists from files", Column) + "\n" + _COLUMNS)
    for group, title in ((MARKETS, "market.parameters"), (LEARNERS, "algorithm.parameters")):
        for name in names(group):
            spec = find(group, name)
            if not spec.parameters.__module__.startswith("rl_markets."):
                continue  # somebody else's, whose own documentation it is
            parts.append(_table(f"`{title}` of `{name}`", spec.parameters, spec.summary))
    return "\n".join(parts)


def _table(title: str, model: type[BaseModel], summary: str = "") -> str:
    lines = [
        f"## {title}",
        "",
        summary or (model.__doc__ or "").strip().splitlines()[0],
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [_row(name, field) for name, field in model.model_fields.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return f"| `{name}` | section | | {(field.annotation.__doc__ or '').strip()} |"
    default = "" if field.is_required() else _shown(field.get_default(call_default_factory=True))
    return (
        f"| `{name}` | {_type(field.annotation)}{_bounds(field)} | {default} | "
        f"{field.description or ''} |"
    )


def _shown(value: Any) -> str:
    if value is PydanticUndefined or value in ("", {}):
        return ""
    return "`null`" if value is None else f"`{list(value) if isinstance(value, tuple) else value}`"


def _type(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (list, tuple):
        inner = _type(arguments[0])
        return (
            f"list of {inner}" if origin is list else f"[{', '.join(_type(a) for a in arguments)}]"
        )
    if origin is dict:
        return "mapping"
    if arguments:  # optional
        return " or ".join(_type(a) for a in arguments)
    names = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(annotation, "section")


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [
        f"{sign} {getattr(m, name):g}"
        for m in field.metadata
        for name, sign in signs.items()
        if getattr(m, name, None) is not None
    ]
    return ", " + ", ".join(found) if found else ""


if __name__ == "__main__":
    print(reference(), end="")
