"""What judges a market: its answer key, and the lines and pictures of a certificate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from rl_markets.envs.market import Policy


@dataclass(frozen=True)
class Metric:
    """One line of a certificate.

    Attributes:
        name: flat metric name, such as `policy_error/labour`.
        label: what a reader sees.
        value: the trained policy's value; NaN where it could not be computed.
        low, high: the interval over evaluation seeds, or None for a deterministic one.
        unit: such as `%`.
        answer: the known answer's own value, if there is one.
        controls: name of a control -> its value.
        limit: the certificate passes this line when `value <= limit`; None where the line only
            informs.
        note: how the value was computed, in a sentence.
    """

    name: str
    label: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    answer: float | None = None
    controls: dict[str, float] = field(default_factory=dict)
    limit: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the value is within its limit; None where there is no limit."""
        return None if self.limit is None else bool(self.value <= self.limit)


@dataclass(frozen=True)
class Line:
    """One curve of a plot: `style` is `ours`, `answer`, `control`, or `points` (ours, as a
    cloud).

    Where `upper` is given, the band from `y` up to it is filled instead.
    """

    label: str
    x: list[float]
    y: list[float]
    style: str
    upper: list[float] | None = None


@dataclass(frozen=True)
class Plot:
    """A picture of the report, as data: curves on one pair of axes."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Assessment:
    """What an answer key says of a profile of policies."""

    metrics: list[Metric]
    plots: list[Plot] = field(default_factory=list)


class AnswerKey(ABC):
    """A market's known answer, and how far a profile of policies is from it."""

    name: str

    @abstractmethod
    def distance(self, policies: Mapping[str, Policy]) -> float:
        """The distance shown while training: one number in per cent, 0 at the answer. Cheap
        (milliseconds)."""

    @abstractmethod
    def assess(
        self, policies: Mapping[str, Policy], untrained: Mapping[str, Policy], seeds: list[int]
    ) -> Assessment:
        """The certificate's values, each beside its controls; `untrained` is the control that must
        fail."""
