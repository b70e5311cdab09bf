"""One run of the comparison by number of households: trained, then looked at beside the known
answer.

`python -m benchmarks.results.comparison OUT.json EXPERIMENT.yaml [SECTION.FIELD=VALUE ...]`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rl_markets.experiment import Experiment, load
from rl_markets.quiet import quiet_ray
from rl_markets.store import write_text

RETURN_SEEDS = 4


def compare(experiment: Experiment) -> dict[str, Any]:
    """Policy error in %, discounted return and the best one, seconds of training."""
    quiet_ray()  # before Ray is imported for the first time
    import numpy as np

    from rl_markets.certificate.certify import EVALUATION_SEED
    from rl_markets.envs.households.answer.identical import HouseholdsAnswer
    from rl_markets.rllib.build import ray_session
    from rl_markets.training.trainer import Trainer

    with ray_session(experiment), Trainer(experiment) as trainer:
        for _ in trainer.rows():
            pass
        policies = trainer.policies()
    key = trainer.answer
    assert isinstance(key, HouseholdsAnswer)
    ours = key.state_policy(key.joined.policy(policies))
    errors = [float(error.mean()) for error in key.errors(ours)]
    seeds = [EVALUATION_SEED + i for i in range(RETURN_SEEDS)]
    mine, best = (key.returns(policy, seeds) for policy in (ours, key.exact))
    return {
        "share_error": errors[0],
        "labour_error": errors[1],
        "return": float(np.mean(mine)),
        "best_return": float(np.mean(best)),
        "training_seconds": trainer.seconds,
        "agent_steps": experiment.iterations * experiment.agent_steps_per_iteration,
    }


def main(out: str, file: str, overrides: list[str]) -> None:
    """Writes the figures of one run."""
    write_text(Path(out), json.dumps(compare(load(file, overrides)), indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
