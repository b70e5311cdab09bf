"""The experiment file: read, checked, and what its names stand for.

Nothing here imports torch or ray, so that `--help` and `check` do not.
"""

from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.load import load, parse

__all__ = ["Experiment", "load", "parse"]
