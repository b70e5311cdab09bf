"""Which experiments are trained, over which seeds, and at which sizes learners are compared."""

from __future__ import annotations

from dataclasses import dataclass

FULL_DEPRECIATION = "households-full-depreciation"
RBC = "households-rbc"
LEARNERS = {
    "": "PPO",
    "-sac": "SAC",
    "-td3": "TD3",
    "-ddpg": "DDPG",
    "-analytic": "analytic gradient",
}
"""Suffix of an experiment's file -> its learner; each economy has a file for each."""

SEEDS = (0, 1, 2)
EXPERIMENTS = (
    *(f"{FULL_DEPRECIATION}{learner}" for learner in LEARNERS),
    *(f"{RBC}{learner}" for learner in LEARNERS),
    "households-3x3",
    "households-3x3-separate",
    "households-3x3-mixture",
    "krusell-smith",
    "krusell-smith-99",
    "krusell-smith-mild",
    "krusell-smith-strong",
    "fiscal-full-depreciation",
    "fiscal",
)
PRICING = (
    "pricing-gvr",
    "pricing-clearance",
    "pricing-points",
    "pricing-profit",
    "pricing-duopoly",
    "pricing-rival",
)
PICTURED = (
    *PRICING,
    RBC,
    f"{RBC}-analytic",
    "households-3x3",
    "krusell-smith",
    "krusell-smith-strong",
    "fiscal",
)
"""Experiments whose pictures are kept."""

SEASON = "pricing-gvr"
"""The experiment that is varied: other currencies, other rules of exploration."""
CURRENCIES = (1e-4, 0.01, 100.0)
"""Multiples of the experiment's own unit of money."""

ROWS = 1280
"""Agents in all worlds together, where learners are compared by the number of households."""
SIZES = (10, 100, 529)
"""Households n of the comparison, up to the paper's largest.

Twenty are in the experiments above, which train for longer.
"""
MANY = 10_000
MANY_BUDGETS = {"-analytic": 163_840_000}
"""Agent steps of the learners that are tried with so many households, in one world: ten minutes."""
BUDGETS = {
    "": 6_000_000,
    "-sac": 2_560_000,
    "-td3": 2_560_000,
    "-ddpg": 2_560_000,
    "-analytic": 16_384_000,
}
"""Agent steps of each learner in the comparison.

About half a minute for each, a minute for gradients through the market.
"""

LEARNER = "algorithm.parameters"
"""Where a file has its learner's parameters."""
PLAIN = (f"{LEARNER}.normalise=false",)
"""Without normalised values."""


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        experiment: name of the file in `tune_configs`.
        seed: of the run.
        overrides: `a.b=c`, beside the seed.
        certified: whether it ends with a certificate; else only policy errors and returns are
            measured.
        label: names its folder.
    """

    experiment: str
    seed: int
    overrides: tuple[str, ...] = ()
    certified: bool = True
    label: str = ""

    @property
    def folder(self) -> str:
        """Where it goes, below the folder of all."""
        return f"{self.label or self.experiment}/seed-{self.seed}"

    @property
    def settings(self) -> list[str]:
        """All overrides."""
        return [f"seed={self.seed}", *self.overrides]


@dataclass(frozen=True)
class Plan:
    """Everything that is trained.

    Attributes:
        seeds: of the certified experiments and of the comparison.
        sizes: households of the comparison.
        experiments: names.
        many: whether `MANY` households are tried, too, with the first seed.
        currencies: multiples of its own unit of money in which `SEASON` is varied.
    """

    seeds: tuple[int, ...]
    sizes: tuple[int, ...]
    experiments: tuple[str, ...] = (*EXPERIMENTS, *PRICING)
    many: bool = False
    currencies: tuple[float, ...] = CURRENCIES

    @property
    def certified(self) -> list[Run]:
        """The experiments as they are shipped."""
        return [Run(name, seed) for name in self.experiments for seed in self.seeds]

    @property
    def varied(self) -> list[Variation]:
        """One experiment in other currencies and by other rules; the not normalised must fail."""
        normalised = [Variation(f"currency x {c:g}", currency(c)) for c in self.currencies]
        not_normalised = [
            Variation(f"currency x {c:g}, not normalised", (*currency(c), *PLAIN))
            for c in self.currencies
        ]
        boltzmann = (
            *PLAIN,
            f"{LEARNER}.rule=boltzmann",
            f"{LEARNER}.exploration=500",
            f"{LEARNER}.final_exploration=50",
        )
        return [
            *normalised,
            *not_normalised,
            Variation("not normalised", PLAIN),
            Variation("eps-greedy", (f"{LEARNER}.rule=eps-greedy",)),
            Variation("boltzmann, not normalised", boltzmann),
            Variation("boltzmann, currency x 100, not normalised", (*currency(100.0), *boltzmann)),
        ]

    @property
    def variations(self) -> list[Run]:
        """The runs of all variations."""
        return [run for variation in self.varied for run in variation.runs(self.seeds)]

    @property
    def cells(self) -> list[Cell]:
        """Every learner on the economy with partial depreciation, by number of households."""
        cells = [Cell(n, learner, self.seeds) for n in self.sizes for learner in LEARNERS]
        if self.many:
            cells += [Cell(MANY, learner, self.seeds[:1]) for learner in MANY_BUDGETS]
        return cells

    @property
    def compared(self) -> list[Run]:
        """The runs of all cells."""
        return [run for cell in self.cells for run in cell.runs]


@dataclass(frozen=True)
class Variation:
    """One way to vary `SEASON`."""

    label: str
    overrides: tuple[str, ...]

    def runs(self, seeds: tuple[int, ...]) -> list[Run]:
        """One for each seed."""
        # the label as the name of a folder: its words, joined by hyphens
        words = "".join(c if c.isalnum() or c == "." else " " for c in self.label).split()
        label = f"varied/{'-'.join(words)}"
        return [Run(SEASON, seed, self.overrides, label=label) for seed in seeds]


def currency(unit: float) -> tuple[str, ...]:
    """Overrides that count `SEASON`'s money in another unit, which leaves demand as it was.

    Prices are multiplied by `unit`, and the slope of demand is divided by it.
    """
    market = "market.parameters"
    return f"{market}.list_price=[{1000 * unit:g}]", f"{market}.demand.slope=[{0.002 / unit:g}]"


@dataclass(frozen=True)
class Cell:
    """One learner at one number of households."""

    households: int
    learner: str
    seeds: tuple[int, ...]

    @property
    def runs(self) -> list[Run]:
        """One for each seed."""
        return [sized(self.learner, self.households, seed) for seed in self.seeds]


def sized(learner: str, households: int, seed: int) -> Run:
    """A run of the comparison: about `ROWS` agents in all worlds together, whatever the size."""
    worlds = max(1, round(ROWS / households))
    if households == MANY:
        steps = MANY_BUDGETS[learner]
    else:
        # in proportion to the agents that the rounding of worlds leaves
        steps = BUDGETS[learner] * worlds * households // ROWS
    overrides = (
        f"market.parameters.households={households}",
        f"market.worlds={worlds}",
        f"training.agent_steps={steps}",
    )
    label = f"by-size/{households}{learner or '-ppo'}"
    return Run(f"{RBC}{learner}", seed, overrides, certified=False, label=label)


FULL = Plan(SEEDS, SIZES, many=True)
QUICK = Plan(SEEDS[:1], SIZES, currencies=CURRENCIES[-1:])
"""Under half an hour on two cores; a part of `FULL`, so that its values are found there, too."""
