"""What judges a market: its answer key, and the lines and pictures of a certificate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from rl_markets.envs.market import Market, Policy, PolicyFunction
from rl_markets.envs.numerics.statistics import share_of_stakes

DECISIONS_LIMIT = 50.0
"""What a certificate lets a policy lose of what the answer earns above the best simple rule, in %:
that rule must miss it."""


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
        who: whose value it is, where it is not everybody's: the worst agent, or where it is worst.
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
    who: str = ""

    @property
    def examined(self) -> bool:
        """False where there is a limit and no value to hold against it; the note says why."""
        return self.limit is None or not math.isnan(self.value)

    @property
    def passed(self) -> bool | None:
        """Whether the value is within its limit; None where there is no limit, or no value."""
        if self.limit is None or not self.examined:
            return None
        return bool(self.value <= self.limit)


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
    """What an answer key says of a profile of policies.

    Attributes:
        metrics: the lines.
        plots: the pictures.
        methods: controls that solve the problem in another way, and may pass: the exact answer, a
            good approximation of it. All others must miss a limit.
    """

    metrics: list[Metric]
    plots: list[Plot] = field(default_factory=list)
    methods: tuple[str, ...] = ()


def loss_of_decisions(
    value: float, best: float, simple: float, controls: Mapping[str, float], *, of: str, above: str
) -> list[Metric]:
    """The line that holds a loss against what deciding well is worth; none where it is nothing.

    A loss that is small beside all that is earned may be most of what there is to decide.

    Args:
        value: what the learned policy earns.
        best, simple: what the answer and the best rule that never changes earn.
        controls: name -> what it earns.
        of: what the decisions are, such as `pricing`.
        above: what the rule never changes, such as `price`.
    """
    if math.isnan(share_of_stakes(value, best, simple)):
        return []
    return [
        Metric(
            "shortfall/of_decisions",
            f"loss of what {of} can earn",
            share_of_stakes(value, best, simple),
            "%",
            answer=0.0,
            limit=DECISIONS_LIMIT,
            controls={n: share_of_stakes(v, best, simple) for n, v in controls.items()},
            note=f"of what the answer earns above the best {above} that never changes",
        )
    ]


class AnswerKey(ABC):
    """A market's known answer, and how far a profile of policies is from it.

    Attributes:
        name: of the answer.
        complete: whether `assess` itself says what each agent could gain, exactly, in every state
            of the market, against everybody as they play. Else the certificate looks in play.
    """

    name: str
    complete: bool = False

    def policies(self, market: Market) -> Mapping[str, PolicyFunction] | None:
        """The answer itself, group -> its policy of `market`'s observations, so that it is played.

        The certificate plays it in an agent's place against everybody else as they are: what is
        gained so is lost by what was learned, wherever the market goes. None where the answer is
        known at some states only.
        """
        return None

    def tolerance(self, group: str) -> float | None:
        """Discounted reward that an agent of `group` may leave on the table, in its whole life.

        None for a share of what the answer earns above a policy that knows nothing.
        """
        return None

    def against(self, fixed: Mapping[str, Policy]) -> AnswerKey | None:
        """The known answer where the groups of `fixed` do not learn but follow these policies.

        None, as long as a key does not say better: an equilibrium is no best response to a rule.
        """
        return None

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
