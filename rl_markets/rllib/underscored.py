"""RLlib's members with a leading underscore that we touch, and why; to read when Ray moves.

Everything else that we use of RLlib is public. A test holds that each of these exists in the Ray
that is installed, and that the code of `policies` and `rllib` touches no others.
"""

from __future__ import annotations

UNDERSCORED: dict[str, dict[str, str]] = {
    "ray.rllib.algorithms.algorithm:Algorithm": {
        "_setup_logdir": "overridden: outside Tune no folder under ~/ray_results",
        "_storage": "set by Tune alone: tells whether Tune runs us",
        "_logdir": "where a Trainable writes; ours is a temporary folder outside Tune",
    },
    "ray.rllib.env.env_runner_group:EnvRunnerGroup": {
        "_worker_manager": "asks runners one by one, so that a dead one costs its fragment only",
    },
    "ray.rllib.core.learner.learner_group:LearnerGroup": {
        "_worker_manager": "asks whether the learners' processes still answer",
    },
    "ray.rllib.core.learner.learner:Learner": {
        "_weights_seq_no": "counts updates; runners ignore weights older than their own",
        "_optimizer_parameters": "optimizer -> its weights, for a fused step",
    },
    "ray.rllib.core.learner.torch.torch_learner:TorchLearner": {
        "_device": "where the learner's tensors live",
        "_make_modules_ddp_if_necessary": "overridden: gradients are averaged without DDP",
    },
    "ray.rllib.core.rl_module.rl_module:RLModule": {
        "_forward": "overridden: what RLlib's own tools call",
    },
    "ray.rllib.env.env_runner:EnvRunner": {
        "_seed": "the runner's own seed, from the experiment's and its number",
    },
    "ray.rllib.utils.checkpoints:Checkpointable": {
        "_check_component": "whether a part of the state was asked for",
        "_get_subcomponents": "which parts of the module's state were asked for",
    },
}
"""`module:Class` -> member -> why."""
