"""Propensities that contradict the decisions beside them.

A propensity is the probability with which a choice was made where it was made. So at one decision
point, a period with a stock, those of different choices sum to 1 at most; a choice is made about as
often as its propensity says; and the mean of 1 / propensity over the decisions for a choice, 0 for
all others, is 1 at most (it is the mean weight of a policy that always makes that choice).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

IMPOSSIBLE = 1e-6
"""A decision is refused that was to be expected in fewer of such logs."""
SURE = 5.0
"""Standard errors by which frequencies must differ from propensities."""
FEWEST = 30
"""Decisions at one point of which frequencies are compared."""
ROUNDED = 1e-3
"""By which propensities at one point may sum to more than 1: logs round."""


def contradiction(
    point: Index, choice: Index, propensity: Array
) -> tuple[NDArray[np.bool_], str] | None:
    """The rows that cannot be, and what was to be expected instead; None where all may be.

    Args:
        point: [R] number of the decision point, a period with a stock.
        choice: [R] that was made there.
        propensity: [R] of it.
    """
    rows = len(choice)
    if not rows:
        return None
    rare = propensity < IMPOSSIBLE / rows
    if rare.any():
        return rare, f"one that lets it happen in a log of {rows:,} decisions"
    options = Options(point, choice, propensity)
    return options.more_than_one() or options.unlike_frequencies() or options.mean_weights()


class Options:
    """Decisions for the same choice at the same point, [O] of them.

    Args as for `contradiction`.
    """

    def __init__(self, point: Index, choice: Index, propensity: Array) -> None:
        pairs, option = np.unique(np.stack([point, choice]), axis=1, return_inverse=True)
        self.point = pairs[0]
        self.of_row = option.reshape(-1)
        self.row_choice = choice
        self.propensity = propensity
        self.count = np.bincount(self.of_row)
        self.low = np.full(len(self.point), np.inf)
        self.high = np.zeros(len(self.point))
        np.minimum.at(self.low, self.of_row, propensity)
        np.maximum.at(self.high, self.of_row, propensity)
        self.visits = np.bincount(self.point, self.count)[self.point]

    def more_than_one(self) -> tuple[NDArray[np.bool_], str] | None:
        """Whether the smallest propensities of different choices at a point sum to more than 1."""
        total = np.bincount(self.point, self.low)[self.point]
        wrong = (total > 1 + ROUNDED)[self.of_row]
        if not wrong.any():
            return None
        first = self.of_row[int(wrong.argmax())]
        choices = int((self.point == self.point[first]).sum())
        return wrong, (
            f"less: the {choices} different choices in that period with that stock have "
            f"propensities that sum to {total[first]:.3g}, and not to 1 at most"
        )

    def unlike_frequencies(self) -> tuple[NDArray[np.bool_], str] | None:
        """Whether a choice was made far more or less often than its propensity at a point says."""
        constant = self.high - self.low < 1e-6
        expected = self.visits * self.low
        error = np.sqrt(expected * (1 - np.minimum(self.low, 1)))
        far = np.abs(self.count - expected) > SURE * error + 1
        odd = constant & far & (self.visits >= FEWEST)
        wrong = odd[self.of_row]
        if not wrong.any():
            return None
        first = self.of_row[int(wrong.argmax())]
        return wrong, (
            f"about {self.count[first] / self.visits[first]:.2g}: that choice was made in "
            f"{self.count[first]:,} of {self.visits[first]:,.0f} decisions in that period with "
            "that stock"
        )

    def mean_weights(self) -> tuple[NDArray[np.bool_], str] | None:
        """Whether a policy that always makes one choice would have a mean weight above 1."""
        rows = len(self.propensity)
        for choice in np.unique(self.row_choice):
            made = self.row_choice == choice
            weight = np.where(made, 1 / self.propensity, 0.0)
            mean = float(weight.mean())
            error = float(weight.std()) / rows**0.5
            if rows >= FEWEST and mean - 1 > SURE * error:
                return made, (
                    f"larger ones for choice {choice}: it was made in {made.sum():,} of {rows:,} "
                    f"decisions, and weights of 1 / propensity have a mean of {mean:.3g}, "
                    "not 1 at most"
                )
        return None
