"""The experiment file: read, checked, and what its names stand for. Imports neither torch nor
ray."""

from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.load import load, parse

__all__ = ["Experiment", "load", "parse"]
