"""PPO as one writes it in JAX, without a library: an iteration is one compiled function.

It goes from the rollout to the epochs. What costs time is as ours: networks, rollout, advantages,
epochs, minibatches, clipping, the bootstrap where an episode is cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.speed.by_hand_jax import HIGH, LOW, Array, World, begin_all, compiled, observe, step
from rl_markets.envs.households.parameters import HouseholdsParameters

OBSERVATION = 7
ACTION = 2
"""Widths."""
LEARNING_RATE = 1e-3
BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-5
"""Adam's."""
CLIP = 0.2
"""Of probability ratios."""
LARGEST = 0.5
"""Norm of each network's gradient."""
TRACE = 0.95
"""Decay of advantages, lambda."""
LOG_STD = -0.5
"""Where the standard deviation starts, in logarithms."""

Layers = list[tuple[Array, Array]]
"""Weight `[in, out]` and bias of each layer."""

Weights = dict[str, Any]
"""`actor` (`net` and `log_std`) and `critic`."""


@dataclass(frozen=True)
class Shape:
    """How large an iteration is, which is known when it is compiled."""

    worlds: int
    steps: int
    epochs: int
    minibatches: int
    hidden: tuple[int, ...]


class Training(NamedTuple):
    """What an iteration goes on from.

    Attributes:
        weights, mean, square: the networks and Adam's two averages.
        count: gradient steps taken.
        world, seen: the worlds and their observations `[worlds, households, 7]`.
        key: of all that is random.
    """

    weights: Weights
    mean: Weights
    square: Weights
    count: Array
    world: World
    seen: Array
    key: Array


class Sampled(NamedTuple):
    """A rollout, each `[steps, worlds, households, ...]` but for `over`, `[steps, worlds]`.

    Attributes:
        seen, raw, log_prob: observations, actions before they are squashed, and their log density.
        rewards: times 1 - gamma, so that values are of a reward's size.
        values: of `seen`.
        over, final: where the clock cut an episode, and there the value of what was seen last.
    """

    seen: Array
    raw: Array
    log_prob: Array
    rewards: Array
    values: Array
    over: Array
    final: Array


class Rows(NamedTuple):
    """What gradient steps see, `[rows, ...]`."""

    seen: Array
    raw: Array
    log_prob: Array
    advantages: Array
    targets: Array


# -- networks --------------------------------------------------------------------------------------


def network(key: Array, sizes: Sequence[int], last_gain: float) -> Layers:
    """Orthogonal weights and zero biases."""
    gains = [math.sqrt(2)] * (len(sizes) - 2) + [last_gain]
    drawn = zip(jax.random.split(key, len(gains)), gains, pairwise(sizes), strict=True)
    return [
        (jax.nn.initializers.orthogonal(gain)(k, shape), jnp.zeros(shape[1]))
        for k, gain, shape in drawn
    ]


def forward(layers: Layers, x: Array) -> Array:
    """A multi-layer perceptron with tanh between its layers."""
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def value(weights: Weights, observations: Array) -> Array:
    """The critic, `[...]`."""
    return forward(weights["critic"], observations)[..., 0]


def log_density(weights: Weights, mean: Array, raw: Array) -> Array:
    """Gaussian, summed over the action's dimensions."""
    log_std = weights["actor"]["log_std"]
    z = (raw - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.square(z).sum(-1) - (log_std + 0.5 * math.log(2 * math.pi)).sum()


def to_action(raw: Array) -> Array:
    """Squashed into [0, 1], and clamped."""
    return jnp.clip(jax.nn.sigmoid(raw), LOW, HIGH)


def start(p: HouseholdsParameters, shape: Shape, seed: int) -> Training:
    """Fresh networks and worlds."""
    actor_key, critic_key, worlds_key, key = jax.random.split(jax.random.key(seed), 4)
    # a small last gain: the first actions hardly depend on what is observed
    net = network(actor_key, [OBSERVATION, *shape.hidden, ACTION], 0.01)
    critic = network(critic_key, [OBSERVATION, *shape.hidden, 1], 1.0)
    weights = {"actor": {"net": net, "log_std": jnp.full(ACTION, LOG_STD)}, "critic": critic}
    mean = jax.tree.map(jnp.zeros_like, weights)
    # a copy: the compiled iteration takes its arguments over, and no buffer may be given twice
    square = jax.tree.map(jnp.copy, mean)
    world = begin_all(p, shape.worlds, worlds_key)
    count = jnp.float32(0)
    return Training(weights, mean, square, count, world, jax.vmap(observe)(world), key)


# -- an iteration ----------------------------------------------------------------------------------


def iterate(p: HouseholdsParameters, shape: Shape, training: Training) -> tuple[Training, Array]:
    """A rollout and the epochs on it; gives the mean loss, too."""
    training, sampled = lax.scan(lambda t, _: sample(p, t), training, length=shape.steps)
    return learn(shape, training, prepare(p, training, sampled))


def sample(p: HouseholdsParameters, training: Training) -> tuple[Training, Sampled]:
    """A period in every world by the present policy."""
    weights = training.weights
    observations = training.seen
    key, noise_key, step_key = jax.random.split(training.key, 3)
    mean = forward(weights["actor"]["net"], observations)
    raw = mean + jnp.exp(weights["actor"]["log_std"]) * jax.random.normal(noise_key, mean.shape)
    stepped = step(p, step_key, training.world, to_action(raw))
    values = value(weights, observations)
    # the critic is asked about last observations only in the steps that have some
    final = lax.cond(
        stepped.over.any(),
        lambda: value(weights, jax.vmap(observe)(stepped.last)),
        lambda: jnp.zeros_like(values),
    )
    log_prob = log_density(weights, mean, raw)
    rewards = (1 - p.beta) * stepped.rewards
    sampled = Sampled(observations, raw, log_prob, rewards, values, stepped.over, final)
    return training._replace(world=stepped.world, seen=stepped.seen, key=key), sampled


def prepare(p: HouseholdsParameters, training: Training, sampled: Sampled) -> Rows:
    """Generalised advantages (Schulman et al. 2016), normalised, and the critic's targets."""
    over = sampled.over[..., None]
    bootstrap = value(training.weights, training.seen)[None]
    next_values = jnp.concatenate([sampled.values[1:], bootstrap])
    # the clock cuts an episode, it does not end it: the value of its last observation stands in
    next_values = jnp.where(over, sampled.final, next_values)
    delta = sampled.rewards + p.beta * next_values - sampled.values
    decay = jnp.broadcast_to(p.beta * TRACE * (1 - over), delta.shape)

    def back(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = now
        advantage = delta + decay * later
        return advantage, advantage

    # from the last period to the first
    _, advantages = lax.scan(back, jnp.zeros_like(delta[0]), (delta, decay), reverse=True, unroll=8)
    normal = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    columns = (sampled.seen, sampled.raw, sampled.log_prob, normal, advantages + sampled.values)
    return Rows(*(x.reshape(-1, *x.shape[3:]) for x in columns))


def learn(shape: Shape, training: Training, rows: Rows) -> tuple[Training, Array]:
    """`epochs` passes over the rows in random order, in equal minibatches."""

    def epoch(training: Training, _: None) -> tuple[Training, Array]:
        key, order_key = jax.random.split(training.key)
        order = jax.random.permutation(order_key, len(rows.advantages))
        order = order.reshape(shape.minibatches, -1)
        minibatches = jax.tree.map(lambda x: x[order], rows)
        training, losses = lax.scan(descend, training._replace(key=key), minibatches)
        return training, losses

    training, losses = lax.scan(epoch, training, length=shape.epochs)
    return training, losses.mean()


def loss(weights: Weights, rows: Rows) -> Array:
    """The clipped surrogate, and half the mean squared error of the values."""
    mean = forward(weights["actor"]["net"], rows.seen)
    ratio = jnp.exp(log_density(weights, mean, rows.raw) - rows.log_prob)
    unclipped = ratio * rows.advantages
    surrogate = jnp.minimum(unclipped, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * rows.advantages)
    return 0.5 * jnp.square(value(weights, rows.seen) - rows.targets).mean() - surrogate.mean()


def descend(training: Training, rows: Rows) -> tuple[Training, Array]:
    """A step of Adam (Kingma and Ba 2015) along the gradients, each network's clipped."""
    batch_loss, gradients = jax.value_and_grad(loss)(training.weights, rows)
    gradients = {name: clipped(part) for name, part in gradients.items()}
    count = training.count + 1
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, training.mean, gradients)
    square = jax.tree.map(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, training.square, gradients)
    rate = LEARNING_RATE / (1 - BETA1**count)
    unbias = 1 / (1 - BETA2**count)

    def adam_step(w: Array, m: Array, s: Array) -> Array:
        return w - rate * m / (jnp.sqrt(s * unbias) + EPSILON)

    weights = jax.tree.map(adam_step, training.weights, mean, square)
    next_training = training._replace(weights=weights, mean=mean, square=square, count=count)
    return next_training, batch_loss


def clipped(gradients: Any) -> Any:
    """Scaled to a norm of at most `LARGEST`."""
    norm = jnp.sqrt(sum(jnp.square(g).sum() for g in jax.tree.leaves(gradients)))
    return jax.tree.map(lambda g: g / jnp.maximum(norm / LARGEST, 1), gradients)


class Trainer:
    """PPO: each call is an iteration, one compiled function.

    Attributes:
        training: where it is.
        loss: of the last iteration.
        compile_seconds: wall-clock.
    """

    def __init__(self, p: HouseholdsParameters, shape: Shape, seed: int = 0) -> None:
        self.units = shape.worlds * shape.steps * p.households
        self.loss = math.nan
        self.training = start(p, shape, seed)
        iteration = partial(iterate, p, shape)
        # donated: weights, averages and worlds are written in place
        self.iterate, self.compile_seconds = compiled(iteration, self.training, donate_argnums=0)

    def __call__(self) -> int:
        """Agent steps sampled and learned from."""
        self.training, loss = self.iterate(self.training)
        self.loss = float(loss)
        return self.units
