"""The household economy as one writes it in JAX: a world as pure functions.

`vmap` goes over worlds, `lax.scan` over time. Written apart from the market, as `by_hand` is, and
checked against it in the tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rl_markets.envs.households.parameters import HouseholdsParameters

Array = Any
"""A `jax.Array`; the type checker does without JAX."""

LOW = 0.01
HIGH = 0.99
"""Bounds of both actions."""


class World(NamedTuple):
    """A world's state; of many worlds, each leads with `[worlds]`.

    Attributes:
        k, l: capital and labour, `[households]`.
        z: log productivity.
        clock: periods since the episode began.
    """

    k: Array
    l: Array  # noqa: E741 - labour
    z: Array
    clock: Array


class Stepped(NamedTuple):
    """What a step of all worlds gives.

    Attributes:
        world: the next state, of a new episode where one ended.
        seen: its observations, `[worlds, households, 7]`.
        rewards: `[worlds, households]`.
        over: `[worlds]`, whether the clock cut the episode.
        last: the state before new episodes began.
    """

    world: World
    seen: Array
    rewards: Array
    over: Array
    last: World


class Carry(NamedTuple):
    """What the market alone carries from step to step."""

    key: Array
    world: World
    seen: Array
    rewards: Array


def begin(p: HouseholdsParameters, key: Array) -> World:
    """A new episode: one level of capital for all, log-uniform, and any labour.

    Productivity is from its stationary distribution.
    """
    capital_key, labour_key, productivity_key = jax.random.split(key, 3)
    low, high = jnp.log(jnp.array(p.starts))
    k = jnp.exp(jax.random.uniform(capital_key, minval=low, maxval=high))
    labour = jax.random.uniform(labour_key, minval=LOW, maxval=HIGH)
    z = p.sigma / (1 - p.rho**2) ** 0.5 * jax.random.normal(productivity_key)
    return World(jnp.full(p.households, k), jnp.full(p.households, labour), z, jnp.int32(0))


def observe(world: World) -> Array:
    """Observations `[households, 7]`: the market's `log` features; households are alike."""
    log_k = jnp.log(world.k)
    log_l = jnp.log(world.l)
    log_K = jnp.log(world.k.mean())
    log_L = jnp.log(world.l.mean())
    zero = jnp.zeros_like(log_k)  # added to what all households share, for its shape
    own_and_shared = [log_k - log_K, zero + log_K / 2, log_l - log_L, zero + log_L]
    return jnp.stack([*own_and_shared, zero + 10 * world.z, zero, zero], -1)


def advance(
    p: HouseholdsParameters, world: World, actions: Array, innovation: Array
) -> tuple[World, Array]:
    """A period: actions `[households, 2]` and a standard normal number to state and rewards."""
    share, labour = jnp.clip(actions, LOW, HIGH).T
    K = world.k.mean()
    L = labour.mean()
    y = jnp.exp(world.z) * (K / L) ** p.alpha
    wealth = (1 - p.alpha) * y * labour + (p.alpha * y * L / K + 1 - p.delta) * world.k
    c = share * wealth
    rewards = jnp.log(c) + p.b * jnp.log(1 - labour)
    k = wealth - c
    z = p.rho * world.z + p.sigma * innovation
    return World(k, labour, z, world.clock + 1), rewards


def restarted(p: HouseholdsParameters, key: Array, world: World, over: Array) -> World:
    """New episodes where `over` says so, `[worlds]`."""
    fresh = jax.vmap(partial(begin, p))(jax.random.split(key, len(over)))

    def select(over: Array, fresh: World, world: World) -> World:
        selected: World = jax.tree.map(partial(jnp.where, over), fresh, world)
        return selected

    worlds: World = jax.vmap(select)(over, fresh, world)
    return worlds


def step(p: HouseholdsParameters, key: Array, world: World, actions: Array) -> Stepped:
    """A period in every world: actions `[worlds, households, 2]`."""
    innovation_key, start_key = jax.random.split(key)
    innovation = jax.random.normal(innovation_key, world.z.shape)
    last, rewards = jax.vmap(partial(advance, p))(world, actions, innovation)
    over = last.clock >= p.episode_length
    # Both branches under `vmap`, as is often written, would draw new episodes in every step: twice
    # the time.
    next_world = lax.cond(over.any(), lambda: restarted(p, start_key, last, over), lambda: last)
    return Stepped(next_world, jax.vmap(observe)(next_world), rewards, over, last)


def begin_all(p: HouseholdsParameters, worlds: int, key: Array) -> World:
    """Fresh episodes; clocks are spread, so that worlds do not end together."""
    worlds_key, clocks_key = jax.random.split(key)
    fresh: World = jax.vmap(partial(begin, p))(jax.random.split(worlds_key, worlds))
    return fresh._replace(clock=jax.random.randint(clocks_key, (worlds,), 0, p.episode_length))


def play(p: HouseholdsParameters, carry: Carry, actions: Array) -> Carry:
    """Plays actions `[steps, worlds, households, 2]`, one after the other.

    Observations and rewards are carried from step to step: the compiler would drop those that
    nobody reads.
    """

    def period(carry: Carry, actions: Array) -> tuple[Carry, None]:
        key, step_key = jax.random.split(carry.key)
        stepped = step(p, step_key, carry.world, actions)
        return Carry(key, stepped.world, stepped.seen, stepped.rewards), None

    last: Carry = lax.scan(period, carry, actions)[0]
    return last


class Player:
    """The market alone: each call plays `steps` periods near the steady state, compiled as one."""

    def __init__(self, p: HouseholdsParameters, worlds: int, steps: int) -> None:
        self.units = worlds * steps * p.households
        worlds_key, key = jax.random.split(jax.random.key(0))
        world = begin_all(p, worlds, worlds_key)
        self.carry = Carry(key, world, jax.vmap(observe)(world), jnp.zeros_like(world.k))
        self.actions = jnp.tile(jnp.array([0.16, 0.13]), (steps, worlds, p.households, 1))
        self.play, self.compile_seconds = compiled(partial(play, p), self.carry, self.actions)

    def __call__(self) -> int:
        """Agent steps played."""
        # JAX returns before it has computed: without the wait, only the call would be timed
        self.carry = jax.block_until_ready(self.play(self.carry, self.actions))
        return self.units


def compiled(
    function: Callable[..., Any], *arguments: Any, **options: Any
) -> tuple[Callable[..., Any], float]:
    """A function compiled for arguments such as these, and the wall-clock seconds that it took."""
    started = time.perf_counter()
    executable = jax.jit(function, **options).lower(*arguments).compile()
    return executable, time.perf_counter() - started
