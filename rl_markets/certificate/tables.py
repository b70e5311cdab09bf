"""The certificate in words and rows: its sentence, its numbers as text, its judged lines."""

from __future__ import annotations

import math
from typing import NamedTuple

from rl_markets.certificate.document import Certificate
from rl_markets.envs.answer_key import Metric

MET = {True: "yes", False: "no", None: ""}
"""Whether a limit is met, in words."""


class SummaryRow(NamedTuple):
    """A judged line, as text."""

    label: str
    value: str
    limit: str
    met: str


def shown(value: float | str | None) -> str:
    """A value with three significant digits, from a thousand on in whole numbers.

    `NaN` stays itself, and None is nothing.
    """
    if value is None:
        return ""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if abs(number) < 5e-6:
        return "0"
    if 1e3 <= abs(number) < 1e9:
        return f"{number:,.0f}"
    return f"{number:.3g}" if abs(number) >= 1e-3 else f"{number:.1e}"


def verdict(certificate: Certificate) -> str:
    """The certificate in a sentence."""
    judged = len(certificate.judged)
    answer = certificate.answer
    if not judged:
        return "No answer is known for this parameterisation: nothing was judged against limits."
    if certificate.passed:
        return f"Certified: all {judged} judged figures are within their limits of the {answer}."
    missed = certificate.missed
    return (
        f"Not certified: {len(missed)} of {judged} judged figures miss their limits against the "
        f"{answer}: {'; '.join(_missed(metric) for metric in missed)}."
    )


def _missed(metric: Metric) -> str:
    return f"{metric.label} {shown(metric.value)} {metric.unit} (limit {shown(metric.limit)})"


def summary(certificate: Certificate) -> list[SummaryRow]:
    """The judged lines, for the terminal."""
    return [
        SummaryRow(m.label, f"{shown(m.value)} {m.unit}", shown(m.limit), MET[m.passed])
        for m in certificate.judged
    ]
