"""The certificate in words and rows: its sentence, its numbers as text, its judged lines."""

from __future__ import annotations

import math
from typing import NamedTuple

from rl_markets.certificate.document import Certificate
from rl_markets.envs.answer_key import Metric

MET = {True: "yes", False: "no", None: "?"}
"""Whether a limit is met, in words; of a line without a value nobody knows."""


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
    missed = certificate.missed
    if missed:
        lines = "; ".join(_missed(metric) for metric in missed)
        return (
            f"Not certified: {len(missed)} of {judged} judged figures miss their limits: {lines}."
        )
    if certificate.answer is None:
        return f"Not examined against an answer, as none is known here. {_held(certificate)}"
    if certificate.unexamined:
        lines = "; ".join(_unexamined(metric) for metric in certificate.unexamined)
        return f"Not examined: {lines}. {_held(certificate)}"
    if not judged:
        return f"Not examined: the {certificate.answer} judges nothing."
    answer = certificate.answer
    words = f"Certified: all {judged} judged figures are within their limits of the {answer}."
    return " ".join([words, *_weakness(certificate)])


def _missed(metric: Metric) -> str:
    where = f" ({metric.who})" if metric.who else ""
    value = f"{shown(metric.value)} {metric.unit}".strip()
    return f"{metric.label} {value}, limit {shown(metric.limit)}{where}"


def _unexamined(metric: Metric) -> str:
    return f"{metric.label} could not be told ({metric.note})"


def _held(certificate: Certificate) -> str:
    """What was examined, where that is not enough for a certificate."""
    held = [metric for metric in certificate.judged if metric.passed]
    if not held:
        return "Nothing was judged against limits."
    return f"What could be examined holds: {'; '.join(_missed(metric) for metric in held)}."


def _weakness(certificate: Certificate) -> list[str]:
    """A sentence where the certificate's own controls pass."""
    passing = certificate.passing_controls
    if not passing:
        return []
    return [f"Its limits tell little: {' and '.join(passing)} would pass, too."]


def _label(metric: Metric) -> str:
    return f"{metric.label}: {metric.who}" if metric.who else metric.label


def summary(certificate: Certificate) -> list[SummaryRow]:
    """The judged lines, for the terminal."""
    return [
        SummaryRow(_label(m), f"{shown(m.value)} {m.unit}", shown(m.limit), MET[m.passed])
        for m in certificate.judged
    ]
