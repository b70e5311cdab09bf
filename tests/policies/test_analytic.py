"""The analytic learner against loops and finite differences: horizons, co-states, gradients, ends
of episodes, bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from rl_markets.envs.deviation import DEVIATOR, DifferentiableDeviation, deviation
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import Owned, State, TensorMarket
from rl_markets.errors import RunFailedError
from rl_markets.experiment import load, parse
from rl_markets.policies.analytic.unroll import unroll
from rl_markets.training.run_folder import RunFolder, read_rows
from rl_markets.training.session import TrainingSession
from rl_markets.training.trainer import parameter_hash
from tests.support.experiment_files import FILES, refusal
from tests.support.orchard import Orchard, OrchardParameters, orchard_experiment, plant
from tests.support.replaying import Held
from tests.support.running import tiny

pytestmark = pytest.mark.usefixtures("ray_once")

GAMMA = 0.95
HORIZON = 3
DOUBLE: Any = {"dtype": torch.float64}


def analytic(
    households: int = 3, separate: bool = False, conduct: str = "cooperative", **parameters: Any
) -> Any:
    """The tiny experiment, learned by gradients through its dynamics."""
    data = tiny(
        policies={"household": {"groups": ["households"], "hidden": [8], "separate": separate}}
    )
    data["market"]["parameters"] |= {
        "households": households,
        "conduct": conduct,
        "initial_dispersion": 0.3,
    }
    data["algorithm"] = {"name": "analytic", "parameters": {"horizon": 4, **parameters}}
    return data


def household_market(n: int, conduct: str, worlds: int = 2) -> Households:
    kappa = [0.9, 1.0, 1.2][:n]
    p = HouseholdsParameters(
        households=n, conduct=conduct, capital_productivity=kappa, initial_dispersion=0.3
    )
    return Households(p, worlds=worlds, **DOUBLE)


def rule(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """Smooth functions of what is observed."""
    x = seen["households"]
    return {
        "households": torch.stack(
            [0.3 + 0.1 * torch.tanh(x[..., 0] + x[..., 1]), 0.2 + 0.05 * torch.tanh(x[..., 3])], -1
        )
    }


def played(
    market: TensorMarket,
    state: State,
    noise: list[State],
    act: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> tuple[list[State], list[dict[str, Tensor]]]:
    """A plain loop: the states, and the rewards in between."""
    states = [state]
    rewards = []
    for shocks in noise:
        moved = market.transition(states[-1], act(market.observe(states[-1])), shocks)
        states.append(moved.state)
        rewards.append(moved.rewards)
    return states, rewards


def shocks(market: TensorMarket, periods: int, generator: torch.Generator) -> list[State]:
    """What the generator draws next; it is left where it was."""
    at = generator.get_state()
    drawn = [market.draw_noise(generator) for _ in range(periods)]
    generator.set_state(at)
    return drawn


# -- unrolling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "conduct"), [(3, "cooperative"), (1, "strategic")])
def test_a_horizon_is_a_plain_loop_and_its_co_states_are_finite_differences(
    n: int, conduct: str
) -> None:
    """lambda_t = gamma^-t dJ / d log k_t, with J the sum over households whose gradients leave
    nothing out."""
    market = household_market(n, conduct)
    generator = torch.Generator().manual_seed(4)
    state = market.initial_state(2, generator)
    noise = shocks(market, HORIZON, generator)
    found = unroll(market, state, HORIZON, rule, generator, {"households": Owned("capital")})
    states, rewards = played(market, state, noise, rule)
    for t in range(HORIZON):
        torch.testing.assert_close(
            found.rewards["households"][t], rewards[t]["households"], rtol=1e-12, atol=1e-12
        )
    for t in range(HORIZON + 1):
        seen = market.observe(states[t])["households"]
        torch.testing.assert_close(
            found.observations["households"][t], seen, rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(
            found.global_states[t], market.observe_globally(states[t]), rtol=1e-12, atol=1e-12
        )
        assert torch.equal(found.alive["households"][t], torch.ones(2, n))
    torch.testing.assert_close(found.owned["households"], states[-1]["capital"])
    assert found.everybody

    worth = torch.linspace(0.5, 2.0, n, **DOUBLE)

    def objective(rewards: list[dict[str, Tensor]], k: Tensor) -> Tensor:
        return (
            sum(GAMMA**t * r["households"].sum() for t, r in enumerate(rewards))
            + GAMMA**HORIZON * (worth * torch.log(k)).sum()
        )

    total = objective(
        [{"households": r} for r in found.rewards["households"]], found.owned["households"]
    )
    slopes = torch.autograd.grad(total, found.nudges["households"])
    step = 1e-5
    for t in range(HORIZON):
        for world in range(2):
            for i in range(n):
                ends = []
                for sign in (1, -1):
                    k = states[t]["capital"].clone()
                    k[world, i] *= torch.exp(torch.tensor(sign * step, **DOUBLE))
                    after, earned = played(market, {**states[t], "capital": k}, noise[t:], rule)
                    ends.append(objective([*rewards[:t], *earned], after[-1]["capital"]))
                assert float(slopes[t][world, i]) == pytest.approx(
                    float(ends[0] - ends[1]) / (2 * step), rel=1e-6
                )


def test_states_that_were_given_are_left_alone() -> None:
    market = household_market(3, "strategic")
    generator = torch.Generator().manual_seed(4)
    market.reset(0)
    state = {name: value.clone() for name, value in market.state.items()}
    unroll(market, market.state, 2, rule, generator, {"households": Owned("capital")})
    assert all(torch.equal(value, market.state[name]) for name, value in state.items())
    assert not any(value.requires_grad for value in market.state.values())


def _orchard(**parameters: Any) -> tuple[Orchard, State, torch.Generator]:
    market = Orchard(OrchardParameters(**parameters), worlds=6, **DOUBLE)
    generator = torch.Generator().manual_seed(1)
    state = market.initial_state(6, generator)
    return market, state | {"age": torch.arange(6, **DOUBLE)[:, None] % 3}, generator


def orchard_rule(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    return {group: 0.5 + 0.2 * torch.tanh(x.sum(-1, keepdim=True)) for group, x in seen.items()}


def test_rewards_after_an_agents_end_do_not_count() -> None:
    """Worlds of age 0, 1, 2 end when they are 4; in each of them the second grower leaves at 3."""
    market, state, generator = _orchard(ends=4, leaves=3)
    noise = shocks(market, 4, generator)
    age = state["age"][:, 0]
    assert age.unique().tolist() == [0, 1, 2]
    found = unroll(market, state, 4, orchard_rule, generator, {})
    _, rewards = played(market, state, noise, orchard_rule)
    assert not found.everybody
    assert found.nudges == found.owned == {}
    for t in range(4):
        world = (age + t < 4).double()[:, None]  # has not ended before this period
        second = (age + t < 3).double()[:, None]
        growers = torch.cat((world, second), -1)
        assert torch.equal(found.alive["growers"][t].double(), growers)
        torch.testing.assert_close(found.rewards["growers"][t], growers * rewards[t]["growers"])
        torch.testing.assert_close(found.rewards["merchants"][t], world * rewards[t]["merchants"])
    assert not found.alive["merchants"][4].any(), "all four years have passed everywhere"
    assert float(found.rewards["growers"][3].abs().sum()) > 0


def test_what_happens_after_the_end_has_no_gradient() -> None:
    market, state, generator = _orchard(ends=3)
    price = [torch.full((6, 1, 1), 0.4, **DOUBLE).requires_grad_() for _ in range(4)]
    calls = iter(price)

    def act(seen: dict[str, Tensor]) -> dict[str, Tensor]:
        return orchard_rule(seen) | {"merchants": next(calls)}

    found = unroll(market, state, 4, act, generator, {"growers": Owned("trees")})
    total = (
        torch.stack(found.rewards["growers"]).sum()
        + (found.alive["growers"][-1] * found.owned["growers"].log()).sum()
    )
    gradients = torch.autograd.grad(total, price, allow_unused=True, materialize_grads=True)
    for t, gradient in enumerate(gradients):
        counts = state["age"][:, 0] + t < 3
        assert torch.equal(gradient[:, 0, 0] != 0, counts), t


# -- the learner's gradients -----------------------------------------------------------------------


def doubled(learner: Any, market: TensorMarket, policies: tuple[str, ...] = ("household",)) -> Any:
    """The same learner in double precision on a market of that precision; networks off their
    symmetric start."""
    for policy in policies:
        module = learner.networks(policy).double()
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for weight in module.parameters():
                weight += 0.2 * torch.randn(weight.shape, generator=generator, **DOUBLE)
    learner.market = market
    learner.fixed = {}
    return learner


def slopes(
    learner: Any, state: State, policy: str = "household"
) -> tuple[list[Tensor], Any, tuple[Tensor, ...]]:
    """What the actor descends along, and what led to it; nothing moves."""
    at = learner.generator.get_state()
    unrolled = learner._unroll(learner.market, state)
    learner.generator.set_state(at)
    found: list[Tensor] = []

    def keep(policy: str, *names: str) -> None:
        for name in names:
            weights, _, _ = learner.parts(policy)[name]
            if name == "actor":
                found.extend(w.grad.clone() for w in weights)
            for weight in weights:
                weight.grad = None

    objective, gradients = learner._differentiate(policy, unrolled, keep=True)
    optimizer_step = learner.optimizer_step
    learner.optimizer_step = keep
    before = copy.deepcopy(learner.networks(policy).state_dict())
    learner._improve(policy, unrolled, objective, gradients, renormalize=False)
    learner.networks(policy).load_state_dict(before)
    learner.optimizer_step = optimizer_step
    return found, unrolled, gradients[len(found) :]


@pytest.mark.parametrize("critic", ["co-state", "value"])
def test_the_actors_gradient_is_the_finite_difference_of_the_objective(
    held: Held, critic: str
) -> None:
    """Of -(1 - gamma) mean J in one weight of each tensor, with the same shocks; the co-state at
    the end is held."""
    learner = held.learner(analytic(critic=critic))
    market = Households(
        HouseholdsParameters(
            households=3,
            delta=1.0,
            conduct="cooperative",
            initial_dispersion=0.3,
            initial_capital=(0.01, 0.1),
        ),
        worlds=4,
        **DOUBLE,
    )
    doubled(learner, market)
    state = market.initial_state(4, torch.Generator().manual_seed(2))
    noise = shocks(market, 4, learner.generator)
    found, unrolled, _ = slopes(learner, state)
    module = learner.networks("household")
    fixed_end = module.target(unrolled.observations["households"][4]).detach()

    def loss() -> float:
        with torch.no_grad():
            states, rewards = played(
                market,
                state,
                noise,
                lambda seen: {"households": module.actor.act(seen["households"])},
            )
            total = sum(GAMMA**t * r["households"] for t, r in enumerate(rewards))
            last = market.observe(states[-1])["households"]
            end = (
                fixed_end * torch.log(states[-1]["capital"])
                if critic == "co-state"
                else module.target(last)
            )
            return -(1 - GAMMA) * float((total + GAMMA**4 * end).mean())

    assert len(found) == len(list(module.actor.parameters()))
    for weight, gradient in zip(module.actor.parameters(), found, strict=True):
        place = int(gradient.abs().argmax())
        flat = weight.data.view(-1)
        ends = []
        for step in (1e-5, -1e-5):
            flat[place] += step
            ends.append(loss())
            flat[place] -= step
        assert float(gradient.flatten()[place]) == pytest.approx(
            (ends[0] - ends[1]) / 2e-5, rel=1e-5
        )


def test_the_critics_targets_are_co_states_and_discounted_rewards(held: Held) -> None:
    for critic in ("co-state", "value"):
        learner = held.learner(analytic(critic=critic))
        market = Households(
            HouseholdsParameters(
                households=3, delta=1.0, conduct="cooperative", initial_capital=(0.01, 0.1)
            ),
            worlds=4,
            **DOUBLE,
        )
        doubled(learner, market)
        state = market.initial_state(4, torch.Generator().manual_seed(2))
        _, unrolled, nudged = slopes(learner, state)
        seen, targets = learner._critic_data("household", unrolled, nudged)
        assert torch.equal(seen, torch.stack(unrolled.observations["households"][:4]))
        end = learner.networks("household").target(unrolled.observations["households"][4]).detach()
        rewards = torch.stack(unrolled.rewards["households"]).detach()
        if critic == "value":
            for t in range(4):
                slow = (
                    sum(GAMMA ** (s - t) * rewards[s] for s in range(t, 4)) + GAMMA ** (4 - t) * end
                )
                torch.testing.assert_close(targets[t], slow, rtol=1e-9, atol=1e-9)
            continue
        noise = shocks(market, 4, learner.generator)
        actor = learner.networks("household").actor

        def act(seen: dict[str, Tensor], actor: Any = actor) -> dict[str, Tensor]:
            return {"households": actor.act(seen["households"])}

        with torch.no_grad():
            states, _ = played(market, state, noise, act)
            for t in (0, 3):
                ends = []
                for step in (1e-5, -1e-5):
                    k = states[t]["capital"].clone()
                    k[1, 2] *= torch.exp(torch.tensor(step, **DOUBLE))
                    after, earned = played(market, {**states[t], "capital": k}, noise[t:], act)
                    gained = sum(
                        GAMMA**s * float(r["households"].sum()) for s, r in enumerate(earned)
                    )
                    ends.append(
                        gained
                        + GAMMA ** (4 - t) * float((end * torch.log(after[-1]["capital"])).sum())
                    )
                assert float(targets[t][1, 2]) == pytest.approx(
                    (ends[0] - ends[1]) / 2e-5, rel=1e-5
                )


def test_separate_policies_that_are_alike_have_the_shared_ones_gradient_between_them(
    held: Held,
) -> None:
    """Each has that of its own objective: their mean is the shared policy's."""
    shared, stacked = (
        held.learner(analytic(conduct="price-taking", separate=s)) for s in (False, True)
    )
    market = Households(
        HouseholdsParameters(households=3, delta=1.0, initial_dispersion=0.3), worlds=4, **DOUBLE
    )
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
    (together, _, _) = slopes(shared, state)
    (apart, _, _) = slopes(stacked, state)
    for mine, theirs in zip(together, apart, strict=True):
        mean = theirs.mean(0)
        torch.testing.assert_close(
            mean.T if mine.dim() == 2 else mean[0], mine, rtol=1e-9, atol=1e-12
        )
        assert not torch.allclose(theirs[0], theirs[1], rtol=1e-3), (
            "households differ, and so do their gradients"
        )


# -- several policies ------------------------------------------------------------------------------


@pytest.fixture
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)


@pytest.mark.usefixtures("_planted")
@pytest.mark.parametrize("critic", ["co-state", "value"])
def test_a_policys_gradient_does_not_see_that_another_has_moved(held: Held, critic: str) -> None:
    """Two policies learn from one horizon; the second one's gradient is that of the profile which
    was played."""
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
    seen: dict[str, list[Tensor]] = {}
    optimizer_step = learner.optimizer_step

    def note(policy: str, *names: str) -> None:
        if "actor" in names:
            seen[policy] = [w.grad.clone() for w in learner.networks(policy).actor.parameters()]
        optimizer_step(policy, *names)

    learner.optimizer_step = note
    learner.states = {name: value[None] for name, value in state.items()}
    learner.learn({"grower": None, "merchant": None})
    assert list(seen) == ["grower", "merchant"]
    moved = (
        learner.networks("grower").actor.net[0].weight
        - alone.networks("grower").actor.net[0].weight
    )
    assert float(moved.detach().abs().max()) > 0.1, "the first policy has moved far"
    for mine, theirs in zip(seen["merchant"], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("_planted")
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
    seen, targets = learner._critic_data(
        "grower", unrolled, gradients[len(list(module.actor.parameters())) :]
    )
    alive = learner._alive("grower", unrolled)
    assert torch.equal(alive.double(), lasting[:3])
    spoiled = targets + 1e3 * (1 - alive)
    start = copy.deepcopy(module.state_dict())
    found = []
    for aims in (targets, spoiled):
        module.load_state_dict(start)
        learner.get_optimizer("grower", "critic").state.clear()
        learner._critic_steps("grower", seen, aims, alive)
        found.append([w.detach().clone() for w in module.critic.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)), (
        "the critic learns of no state after the end"
    )
    assert any(
        not torch.equal(a, b)
        for a, b in zip(
            found[0],
            [start[f"critic.{n}"] for n, _ in module.critic.named_parameters()],
            strict=True,
        )
    )


# -- deviations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("conduct", "periods"), [("cooperative", 3), ("strategic", 1)])
def test_a_deviators_gradient_is_the_finite_difference_of_its_reward(
    conduct: str, periods: int
) -> None:
    """The others' answer to it in later periods is differentiated too."""
    inner = household_market(3, conduct)
    market = deviation(
        inner, {"households": lambda seen: rule({"households": seen})["households"]}, "households"
    )
    assert isinstance(market, DifferentiableDeviation)
    generator = torch.Generator().manual_seed(6)
    state = inner.initial_state(2, generator)
    noise = shocks(market, periods, generator)  # type: ignore[arg-type]

    def reward(first: Tensor) -> Tensor:
        chosen = iter([first] + [torch.full((2, 1, 2), 0.3, **DOUBLE)] * (periods - 1))
        _, rewards = played(market, state, noise, lambda _: {DEVIATOR: next(chosen)})  # type: ignore[arg-type]
        assert rewards[0][DEVIATOR].shape == (2, 1)
        return sum(GAMMA**t * r[DEVIATOR].sum() for t, r in enumerate(rewards))  # type: ignore[return-value]

    first = torch.full((2, 1, 2), 0.25, **DOUBLE).requires_grad_()
    (gradient,) = torch.autograd.grad(reward(first), first)
    for place in range(4):
        step = 1e-6 * (torch.arange(4) == place).double().view(2, 1, 2)
        slope = float(reward(first.detach() + step) - reward(first.detach() - step)) / 2e-6
        assert float(gradient.flatten()[place]) == pytest.approx(slope, rel=1e-6)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_planted")
def test_a_co_state_needs_something_that_is_owned(tmp_path: Path) -> None:
    data = orchard_experiment(
        market={"name": "orchard", "worlds": 6, "parameters": {"owned": False}}
    )
    run = TrainingSession(RunFolder.create(parse(data, "test"), tmp_path), Console(quiet=True))
    with pytest.raises(RunFailedError) as failure:
        run.train()
    assert "does not say what an agent of group 'growers' owns" in str(failure.value)
    assert "algorithm.parameters.critic: value" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_market_without_gradients_is_refused_before_anything_starts() -> None:
    path = next(file for file in FILES if file.stem == "pettingzoo-cournot")
    overrides = ["algorithm={name: analytic, parameters: {gamma: 0.9}}"]
    message = refusal(lambda: load(path, overrides), path)
    assert "algorithm.name = 'analytic': takes gradients through the market" in message
    assert "'pettingzoo' is not differentiable" in message


def test_a_horizon_must_divide_the_rollout() -> None:
    message = refusal(
        lambda: parse(analytic(horizon=3), "here"), "here: algorithm.parameters.horizon = 3"
    )
    assert "expected a divisor of training.rollout_length = 8" in message
    assert parse(analytic(horizon=8), "here")


def test_all_policies_share_the_horizon() -> None:
    data = analytic()
    data["policies"]["household"]["parameters"] = {"horizon": 2}
    message = refusal(lambda: parse(data, "here"), "here: policies.household.parameters.horizon")
    assert "all policies share it" in message


# -- runs ------------------------------------------------------------------------------------------


def trainer(folder: Path, data: dict[str, Any]) -> TrainingSession:
    return TrainingSession(RunFolder.create(parse(data, "test"), folder), Console(quiet=True))


def hashed(
    run: TrainingSession, checkpoint: Path | None = None, spoil: Callable[[Any], None] | None = None
) -> str:
    """Trains and hashes all parameters."""
    hashes = []
    write = run.trainer.save
    restore = run.trainer.restore

    def note(folder: Path) -> None:
        write(folder)
        hashes.append(parameter_hash(run.trainer.algorithm))

    def spoiled(path: Path, source: object) -> None:
        restore(path)
        if spoil is not None:
            spoil(run.trainer.algorithm.learner_group._learner)

    run.trainer.save = note  # type: ignore[method-assign]
    run.trainer.restore = spoiled
    run.train(checkpoint)
    return hashes[-1]


@pytest.mark.parametrize(("critic", "separate"), [("co-state", False), ("value", True)])
def test_a_resumed_run_ends_in_the_same_bytes(tmp_path: Path, critic: str, separate: bool) -> None:
    """Generator, slow critic and running average of the actor go on where they were."""
    run = trainer(tmp_path, analytic(critic=critic, separate=separate))
    expected = hashed(run)

    def again(spoil: Callable[[Any], None] | None = None) -> str:
        return hashed(TrainingSession(run.run, Console(quiet=True)), run.store.path(4), spoil)

    def forget_the_slow_critic(learner: Any) -> None:
        module = learner.networks("household")
        module.target.load_state_dict(module.critic.state_dict())

    assert again() == expected
    if separate:
        return
    assert again(forget_the_slow_critic) != expected
    assert again(lambda learner: learner.generator.manual_seed(99)) != expected


@pytest.mark.usefixtures("_planted")
def test_a_resumed_run_of_two_policies_ends_in_the_same_bytes(tmp_path: Path) -> None:
    run = trainer(tmp_path, orchard_experiment())
    expected = hashed(run)
    assert hashed(TrainingSession(run.run, Console(quiet=True)), run.store.path(1)) == expected


@pytest.mark.parametrize("critic", ["co-state", "value"])
def test_two_halves_of_a_rollout_have_the_gradient_of_the_whole_between_them(
    held: Held, critic: str
) -> None:
    """What two learners average, without shocks, as each draws its own: of the actor, and of the
    critic."""
    data = analytic(critic=critic)
    data["market"]["parameters"]["sigma"] = 0.0
    learner = held.learner(data)
    rollout = held.algorithms[0].env_runner_group.local_env_runner.sample()[0]
    size = rollout.SHARES
    found: list[dict[str, list[Tensor]]] = []
    for shard in (rollout, rollout[: size // 2], rollout[size // 2 :]):
        seen: dict[str, list[Tensor]] = {"actor": [], "critic": []}

        def note(policy: str, *names: str, seen: dict[str, list[Tensor]] = seen) -> None:
            for name in names:
                weights, _, _ = learner.parts(policy)[name]
                seen[name] += [w.grad.clone() for w in weights]
                for weight in weights:
                    weight.grad = None

        learner.optimizer_step = note
        learner.states = shard.states
        learner.networks("household").critic.updates.zero_()
        learner.moments = lambda x: (torch.zeros(()), torch.ones(()))
        learner._weights_seq_no = 1
        learner.learn(shard.fragments)
        assert learner.market.worlds == shard.states["capital"].shape[1]
        found.append(seen)
    assert [len(seen["actor"]) for seen in found] == [2 * 4, 2 * 4, 2 * 4], (
        "two starts of a horizon, four tensors"
    )
    for name in ("actor", "critic"):
        for whole, first, second in zip(*(seen[name] for seen in found), strict=True):
            torch.testing.assert_close((first + second) / 2, whole, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[1]["actor"][0], found[2]["actor"][0], rtol=1e-2)


def closed_form(folder: Path, learning_rate: float, iterations: int) -> float:
    """Per cent from the closed form at the end of a short training."""
    data = tiny(
        algorithm={"name": "analytic"},
        training={"agent_steps": 32 * 16 * iterations, "rollout_length": 16},
    )
    data["market"]["worlds"] = 32
    data["market"]["parameters"] |= {"households": 1, "conduct": "strategic", "episode_length": 4}
    data["algorithm"]["parameters"] = {
        "learning_rate": learning_rate,
        "critic_learning_rate": 2e-2,
        "target_rate": 0.3,
        "horizon": 4,
        "averaging": 0.8,
    }
    data["training"] |= {"evaluate_every": iterations, "checkpoint_every": iterations}
    run = trainer(folder, data)
    run.train()
    return float(read_rows(run.run)[-1]["distance"])


def test_the_closed_form_is_learned_and_not_without_steps(tmp_path: Path) -> None:
    assert closed_form(tmp_path, 0.1, 30) < 2
    assert closed_form(tmp_path, 1e-7, 3) > 20
