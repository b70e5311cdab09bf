"""The analytic learner's gradients and targets against finite differences and each other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import State, TensorMarket
from tests.support.horizons import DOUBLE, GAMMA, analytic, played, shocks
from tests.support.orchard import Orchard, OrchardParameters, orchard_experiment
from tests.support.replaying import Held

pytestmark = pytest.mark.usefixtures("ray_once")


def small_market(**parameters: Any) -> Households:
    """Four worlds of three households in double precision."""
    return Households(
        HouseholdsParameters(households=3, delta=1.0, **parameters), worlds=4, **DOUBLE
    )


# -- the learner's gradients -----------------------------------------------------------------------


def doubled(learner: Any, market: TensorMarket, policies: tuple[str, ...] = ("household",)) -> Any:
    """The same learner in double precision, on a market of that precision.

    Networks are moved off their symmetric start.
    """
    for policy in policies:
        module = learner.networks(policy).double()
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for weight in module.parameters():
                weight += 0.2 * torch.randn(weight.shape, generator=generator, **DOUBLE)
    learner._market_of(market.worlds)  # joins the policies' groups
    learner.market = market
    learner.fixed = {}
    return learner


def acting(actor: Any) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """The actor as a rule of all households."""
    return lambda obs: {"households": actor.act(obs["households"])}


def slopes(
    learner: Any, state: State, policy: str = "household"
) -> tuple[list[Tensor], Any, tuple[Tensor, ...]]:
    """What the actor descends along, and what led to it; nothing moves."""
    at = learner.generator.get_state()
    unrolled = learner._unroll(learner.market, state)
    learner.generator.set_state(at)
    gradient: list[Tensor] = []

    def keep(policy: str, *names: str) -> None:
        for name in names:
            weights, _, _ = learner.parts(policy)[name]
            if name == "actor":
                gradient.extend(w.grad.clone() for w in weights)
            for weight in weights:
                weight.grad = None

    objective, gradients = learner._differentiate(policy, unrolled, keep=True)
    optimizer_step = learner.optimizer_step
    learner.optimizer_step = keep
    before = copy.deepcopy(learner.networks(policy).state_dict())
    learner._improve(policy, unrolled, objective, gradients, renormalize=False)
    learner.networks(policy).load_state_dict(before)
    learner.optimizer_step = optimizer_step
    return gradient, unrolled, gradients[len(gradient) :]


@pytest.mark.parametrize("critic", ["co-state", "value"])
def test_the_actors_gradient_is_the_finite_difference_of_the_objective(
    held: Held, critic: str
) -> None:
    """Of -(1 - gamma) mean J in one weight of each tensor, with the same shocks.

    The co-state at the end is held.
    """
    learner = held.learner(analytic(critic=critic))
    market = small_market(
        conduct="cooperative", initial_dispersion=0.3, initial_capital=(0.01, 0.1)
    )
    doubled(learner, market)
    state = market.initial_state(4, torch.Generator().manual_seed(2))
    noise = shocks(market, 4, learner.generator)
    gradients, unrolled, _ = slopes(learner, state)
    module = learner.networks("household")
    fixed_end = module.target(unrolled.observations["households"][4]).detach()

    @torch.no_grad()
    def loss() -> float:
        states, rewards = played(market, state, noise, acting(module.actor))
        total = sum(GAMMA**t * r["households"] for t, r in enumerate(rewards))
        if critic == "co-state":
            end = fixed_end * torch.log(states[-1]["capital"])
        else:
            end = module.target(market.observe(states[-1])["households"])
        return -(1 - GAMMA) * float((total + GAMMA**4 * end).mean())

    assert len(gradients) == len(list(module.actor.parameters()))
    for weight, gradient in zip(module.actor.parameters(), gradients, strict=True):
        place = int(gradient.abs().argmax())
        flat = weight.data.view(-1)
        ends = []
        for step in (1e-5, -1e-5):
            flat[place] += step
            ends.append(loss())
            flat[place] -= step
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(gradient.flatten()[place]) == pytest.approx(slope, rel=1e-5)


def check_discounted(targets: Tensor, rewards: Tensor, end: Tensor) -> None:
    """Targets [4, worlds, households] are the rewards that follow, and the value of the end."""
    for t in range(4):
        earned = sum(GAMMA ** (s - t) * rewards[s] for s in range(t, 4))
        slow = earned + GAMMA ** (4 - t) * end
        torch.testing.assert_close(targets[t], slow, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def check_co_states(
    targets: Tensor, learner: Any, market: Households, state: State, end: Tensor
) -> None:
    """Targets are finite differences in log capital of the rewards that follow, and of the end."""
    noise = shocks(market, 4, learner.generator)
    act = acting(learner.networks("household").actor)
    states, _ = played(market, state, noise, act)
    for t in (0, 3):
        ends = []
        for step in (1e-5, -1e-5):
            k = states[t]["capital"].clone()
            k[1, 2] *= torch.exp(torch.tensor(step, **DOUBLE))
            after, rewards = played(market, {**states[t], "capital": k}, noise[t:], act)
            earned = sum(GAMMA**s * float(r["households"].sum()) for s, r in enumerate(rewards))
            kept = float((end * torch.log(after[-1]["capital"])).sum())
            ends.append(earned + GAMMA ** (4 - t) * kept)
        assert float(targets[t][1, 2]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_the_critics_targets_are_co_states_and_discounted_rewards(held: Held) -> None:
    for critic in ("co-state", "value"):
        learner = held.learner(analytic(critic=critic))
        market = small_market(conduct="cooperative", initial_capital=(0.01, 0.1))
        doubled(learner, market)
        state = market.initial_state(4, torch.Generator().manual_seed(2))
        _, unrolled, nudged = slopes(learner, state)
        obs, targets = learner._critic_data("household", unrolled, nudged)
        assert torch.equal(obs, torch.stack(unrolled.observations["households"][:4]))
        end = learner.networks("household").target(unrolled.observations["households"][4]).detach()
        if critic == "value":
            check_discounted(targets, torch.stack(unrolled.rewards["households"]).detach(), end)
        else:
            check_co_states(targets, learner, market, state, end)


def test_separate_policies_that_are_alike_have_the_shared_ones_gradient_between_them(
    held: Held,
) -> None:
    """Each has that of its own objective: their mean is the shared policy's."""
    shared, stacked = (
        held.learner(analytic(conduct="price-taking", separate=s)) for s in (False, True)
    )
    market = small_market(initial_dispersion=0.3)
    doubled(shared, market)
    doubled(stacked, market)
    one = shared.networks("household")
    many = stacked.networks("household")
    with torch.no_grad():
        for name in ("actor", "critic", "target"):
            alone = getattr(one, name)
            stack = getattr(many, name)
            for mine, theirs in zip(alone.parameters(), stack.parameters(), strict=True):
                value = mine.T[None] if mine.dim() == 2 else mine[None, None]
                theirs.copy_(value.expand_as(theirs))
    state = market.initial_state(4, torch.Generator().manual_seed(2))
    stacked.generator.set_state(shared.generator.get_state())
    together, _, _ = slopes(shared, state)
    apart, _, _ = slopes(stacked, state)
    for mine, theirs in zip(together, apart, strict=True):
        mean = theirs.mean(0)
        mean = mean.T if mine.dim() == 2 else mean[0]
        torch.testing.assert_close(mean, mine, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(theirs[0], theirs[1], rtol=1e-3), (
            "households differ, and so do their gradients"
        )


# -- several policies ------------------------------------------------------------------------------


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("critic", ["co-state", "value"])
def test_a_policys_gradient_does_not_see_that_another_has_moved(held: Held, critic: str) -> None:
    """Two policies learn from one horizon.

    The second one's gradient is that of the profile which was played.
    """
    data = orchard_experiment()
    data["algorithm"]["parameters"] |= {
        "critic": critic,
        "learning_rate": 0.5,
        "gradient_clip": 1e3,
    }
    learner = held.learner(data)
    alone = held.learner(data)
    market = Orchard(OrchardParameters(), worlds=6, **DOUBLE)
    for x in (learner, alone):
        doubled(x, market, ("grower", "merchant"))
    state = market.initial_state(6, torch.Generator().manual_seed(3))
    expected, _, _ = slopes(alone, state, "merchant")
    gradients: dict[str, list[Tensor]] = {}
    optimizer_step = learner.optimizer_step

    def note(policy: str, *names: str) -> None:
        if "actor" in names:
            actor = learner.networks(policy).actor
            gradients[policy] = [w.grad.clone() for w in actor.parameters()]
        optimizer_step(policy, *names)

    learner.optimizer_step = note
    learner.states = {name: value[None] for name, value in state.items()}
    learner.learn({"grower": None, "merchant": None})
    assert list(gradients) == ["grower", "merchant"]
    after, before = (x.networks("grower").actor.net[0].weight for x in (learner, alone))
    assert float((after - before).detach().abs().max()) > 0.1, "the first policy has moved far"
    for mine, theirs in zip(gradients["merchant"], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("critic", ["co-state", "value"])
def test_objective_and_critic_leave_out_what_comes_after_the_end(held: Held, critic: str) -> None:
    data = orchard_experiment(market={"name": "orchard", "worlds": 6, "parameters": {"ends": 3}})
    data["algorithm"]["parameters"]["critic"] = critic
    learner = held.learner(data)
    market = Orchard(OrchardParameters(ends=3), worlds=6, **DOUBLE)
    doubled(learner, market, ("grower", "merchant"))
    state = market.initial_state(6, torch.Generator().manual_seed(3))
    unrolled = learner._unroll(market, state)
    lasting = torch.stack([a.double() for a in unrolled.alive["growers"]])
    total = sum(0.9**t * lasting[t] * r for t, r in enumerate(unrolled.rewards["growers"]))
    torch.testing.assert_close(learner._objective("grower", unrolled), total)
    assert not lasting[3].any(), "nobody is left to have a value in the end"
    assert 0 < lasting[1:3].mean() < 1
    _, gradients = learner._differentiate("grower", unrolled, keep=True)
    module = learner.networks("grower")
    nudged = gradients[len(list(module.actor.parameters())) :]
    obs, targets = learner._critic_data("grower", unrolled, nudged)
    alive = learner._alive("grower", unrolled)
    assert torch.equal(alive.double(), lasting[:3])
    spoiled = targets + 1e3 * (1 - alive)
    start = copy.deepcopy(module.state_dict())
    weights = []
    for aims in (targets, spoiled):
        module.load_state_dict(start)
        learner.get_optimizer("grower", "critic").state.clear()
        learner._critic_steps("grower", obs, aims, alive)
        weights.append([w.detach().clone() for w in module.critic.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True)), (
        "the critic learns of no state after the end"
    )
    untrained = [start[f"critic.{n}"] for n, _ in module.critic.named_parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(weights[0], untrained, strict=True))


@pytest.mark.parametrize("critic", ["co-state", "value"])
def test_two_halves_of_a_rollout_have_the_gradient_of_the_whole_between_them(
    held: Held, critic: str
) -> None:
    """What two learners average: of the actor, and of the critic.

    Without shocks, as each draws its own.
    """
    data = analytic(critic=critic)
    data["market"]["parameters"]["sigma"] = 0.0
    learner = held.learner(data)
    rollout = held.algorithms[0].env_runner_group.local_env_runner.sample()[0]
    size = rollout.SHARES
    gradients: list[dict[str, list[Tensor]]] = []
    for shard in (rollout, rollout[: size // 2], rollout[size // 2 :]):
        by_part: dict[str, list[Tensor]] = {"actor": [], "critic": []}

        def note(policy: str, *names: str, by_part: dict[str, list[Tensor]] = by_part) -> None:
            for name in names:
                weights, _, _ = learner.parts(policy)[name]
                by_part[name] += [w.grad.clone() for w in weights]
                for weight in weights:
                    weight.grad = None

        learner.optimizer_step = note
        learner.states = shard.states
        learner.networks("household").critic.updates.zero_()
        learner.moments = lambda x: (torch.zeros(()), torch.ones(()))
        learner._weights_seq_no = 1
        learner.learn(shard.fragments)
        assert learner.market.worlds == shard.states["capital"].shape[1]
        gradients.append(by_part)
    assert [len(by_part["actor"]) for by_part in gradients] == [2 * 4, 2 * 4, 2 * 4], (
        "two starts of a horizon, four tensors"
    )
    for name in ("actor", "critic"):
        for whole, first, second in zip(*(by_part[name] for by_part in gradients), strict=True):
            torch.testing.assert_close((first + second) / 2, whole, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gradients[1]["actor"][0], gradients[2]["actor"][0], rtol=1e-2)
