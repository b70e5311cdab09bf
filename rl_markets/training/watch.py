"""What tells early that a run goes wrong, in a line each with what to change."""

from __future__ import annotations

import math
from collections import deque

from rl_markets.experiment import Experiment
from rl_markets.training.metrics import Row

WINDOW = 20
"""Iterations whose mean counts."""
LOOKS = 5
"""Looks at the known answer in a row that must be worse than the best one."""
RISE = 1.5
"""So many times the best distance, and..."""
LEAST_RISE = 2.0
"""...so much above it, in %, is a rise."""
AT_BOUNDS = 0.5
"""Share of actions close to a bound that is too large."""
LOST_ENTROPY = 6.0
"""Nats below its first value, in the first half of training, at which entropy has collapsed."""
LEFT_ENTROPY = 0.01
"""Likewise the share of its first value that is left where choices are discrete."""

ADVICE = {
    "value_explained": "raise critic_learning_rate or epochs, or lower gae_lambda",
    "critic_explained": "raise critic_learning_rate or critic_steps",
}
"""Metric of a critic -> what to change where it explains nothing."""


class Watch:
    """Looks at every row of metrics, and says each thing once.

    Args:
        experiment: that is trained.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._recent: dict[str, deque[float]] = {}
        self._first: dict[str, float] = {}
        self._distances: list[float] = []
        self._said: set[str] = set()

    def look(self, row: Row) -> list[str]:
        """What is wrong as of this row and was not said before."""
        iteration = int(row["iteration"])
        lines = {}
        for name, value in row.items():
            policy, _, metric = name.partition("/")
            if not metric:
                continue
            self._first.setdefault(name, value)
            recent = self._recent.setdefault(name, deque(maxlen=WINDOW))
            recent.append(value)
            line = self._wrong(metric, name, iteration) if len(recent) == WINDOW else None
            if line is not None:
                lines[name] = f"iteration {iteration}, policy {policy}: {line}"
        rising = self._rising(row["distance"])
        if rising is not None:
            lines["distance"] = f"iteration {iteration}: {rising}"
        new = {name: line for name, line in lines.items() if name not in self._said}
        self._said |= new.keys()
        return list(new.values())

    def _wrong(self, metric: str, name: str, iteration: int) -> str | None:
        """What a metric's recent mean says."""
        mean = sum(self._recent[name]) / WINDOW
        if metric in ADVICE and mean < 0:
            return (
                f"the critic explains nothing of its targets ({metric} {mean:.2g}, mean of "
                f"{WINDOW} iterations); {ADVICE[metric]}"
            )
        if metric == "saturated" and mean > AT_BOUNDS:
            return (
                f"{mean:.0%} of actions are at a bound of their box; lower learning_rate, or see "
                "whether observations are of order one"
            )
        if metric == "entropy" and 2 * iteration < self.experiment.iterations:
            first = self._first[name]
            if mean < first - LOST_ENTROPY or (first > 0 and 0 <= mean < LEFT_ENTROPY * first):
                return (
                    f"entropy collapsed from {first:.2g} to {mean:.2g} nats; raise entropy_weight, "
                    "log_std or target_entropy, or lower learning_rate"
                )
        return None

    def _rising(self, distance: float) -> str | None:
        """Whether the distance from the known answer has risen for good."""
        if not math.isfinite(distance):
            return None
        self._distances.append(distance)
        best = min(self._distances)
        worst_allowed = max(RISE * best, best + LEAST_RISE)
        if len(self._distances) <= LOOKS or min(self._distances[-LOOKS:]) <= worst_allowed:
            return None
        return (
            f"the distance from the answer rose from {best:.2g} % to {distance:.2g} %; lower "
            "learning_rate, or final_learning_rate"
        )
