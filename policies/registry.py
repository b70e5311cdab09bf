"""What the service must know of a learner before it is built. Imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from rl_markets.envs.registry import import_object


@dataclass(frozen=True)
class LearnerSpec:
    """A learning algorithm.

    Attributes:
        name: the name in experiment files.
        summary: one sentence for `rl-markets markets`.
        parameters: the pydantic model of `algorithm.parameters` in the experiment file.
        algorithm: import path `module:Class` of the RLlib `Algorithm`.
        learner: import path of the RLlib `Learner` that takes rollouts.
        module: import path of the `MarketModule` that acts and is trained.
        figures: name -> meaning of what the learner reports of each policy in each update.
    """

    name: str
    summary: str
    parameters: type[BaseModel]
    algorithm: str
    learner: str
    module: str
    figures: dict[str, str]

    def load(self) -> tuple[type[Any], type[Any], type[Any]]:
        """Imports the algorithm, learner and module classes (and with them ray)."""
        return import_object(self.algorithm), import_object(self.learner), import_object(self.module)
