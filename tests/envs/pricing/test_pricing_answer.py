"""What the answer keys of `pricing` and `points` say of policies is what the markets pay them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.points import SPEC as POINTS
from rl_markets.envs.points.answer.key import PointsAnswer
from rl_markets.envs.points.market import LEDGER, Points
from rl_markets.envs.points.parameters import PointsParameters
from rl_markets.envs.pricing.answer.catalogue import CatalogueAnswer
from rl_markets.envs.pricing.answer.choose import answer_key
from rl_markets.envs.pricing.answer.kinds import RULES
from rl_markets.envs.pricing.answer.rival import RivalAnswer
from rl_markets.envs.pricing.answer.season import SeasonAnswer
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.experiment import load
from tests.support.running import ROOT

WORLDS = 4000


def parameters(name: str, **changed: object) -> PricingParameters:
    """A shipped experiment's, without exploring starts."""
    settings = load(Path(ROOT, "tune_configs", f"{name}.yaml")).market_parameters
    assert isinstance(settings, PricingParameters)
    return PricingParameters.model_validate(
        settings.model_dump() | {"exploring_starts": 0.0} | changed
    )


def season(name: str, **changed: object) -> SeasonAnswer:
    key = answer_key(parameters(name, **changed))
    assert isinstance(key, SeasonAnswer)
    return key


def follow(answer: SeasonAnswer, table: np.ndarray) -> PolicyFunction:
    """A policy that does what a table says, from what a seller sees."""
    p = answer.parameters
    full = answer.season.stock
    rows = torch.as_tensor(table)
    order = torch.arange(len(p.levels))
    order = order.flip(0) if p.markdown_only else order  # the season's prices then fall

    def act(obs: Tensor) -> Tensor:
        last = torch.zeros(obs.shape[:-1], dtype=torch.int64)
        if p.markdown_only:
            gaps = (
                obs[..., 0:1] * p.list_price[0] - torch.tensor(answer.season.prices.copy())
            ).abs()
            last = gaps.argmin(-1)
            obs = obs[..., 1:]
        stock = (obs[..., 0] * full).round().long()
        left = obs[..., 3]
        period = ((1 - left) * p.periods).round().long().clamp(max=p.periods - 1)
        choice = rows[period, stock, last] if p.markdown_only else rows[period, stock]
        return order[choice].unsqueeze(-1)

    return act


def returns(market: Pricing, policy: PolicyFunction) -> np.ndarray:
    """The undiscounted return of every world's first episode."""
    group = next(iter(market.groups))
    obs = market.reset(3)[group]
    total = torch.zeros(market.worlds, dtype=torch.float64)
    going = torch.ones(market.worlds, dtype=torch.bool)
    while bool(going.any()):
        step = market.step({group: policy(obs)})
        total += going * step.rewards[group][:, 0].double()
        obs = step.observations[group]
        if step.ended is not None:
            going[step.ended.worlds] = False
    return total.numpy()


@pytest.mark.parametrize(
    ("name", "changed", "optimum"),
    [
        ("pricing-gvr", {}, 20835.9694),
        ("pricing-clearance", {}, 18290.43),
        ("pricing-clearance", {"markdown_only": True}, 18239.33),
    ],
)
def test_the_market_pays_the_optimal_policy_what_the_dynamic_programme_promises(
    name: str, changed: dict[str, object], optimum: float
) -> None:
    answer = season(name, **changed)
    assert answer.optimum.total == pytest.approx(optimum, abs=0.01)
    policy = follow(answer, answer.optimum.policy)
    np.testing.assert_array_equal(answer.table(policy), answer.optimum.policy)
    assert answer.distance({"seller": policy}) == pytest.approx(0, abs=1e-9)
    paid = returns(Pricing(answer.parameters, worlds=WORLDS), policy)
    assert abs(paid.mean() - optimum) < 4 * paid.std() / WORLDS**0.5
    fixed = returns(
        Pricing(answer.parameters, worlds=WORLDS), lambda obs: torch.full((WORLDS, 1, 1), 8)
    )
    assert fixed.mean() < 0.9 * optimum, "a control that must fail"


def test_fees_costs_holding_and_discounting_are_those_of_the_dynamic_programme() -> None:
    stock = {"units": [12], "holding": 0.01, "salvage": 50.0}
    answer = season("pricing-gvr", stock=stock, cost=[300.0], fee=0.1, gamma=0.98)
    policy = follow(answer, answer.optimum.policy)
    market = Pricing(answer.parameters, worlds=WORLDS)
    obs = market.reset(3)["seller"]
    total = torch.zeros(WORLDS)
    going = torch.ones(WORLDS)
    for t in range(answer.parameters.periods):
        step = market.step({"seller": policy(obs)})
        total += 0.98**t * going * step.rewards["seller"][:, 0]
        obs = step.observations["seller"]
        if step.ended is not None:
            going[step.ended.worlds] = 0.0
    expected = answer.optimum.total
    assert abs(float(total.mean()) - expected) < 4 * float(total.std()) / WORLDS**0.5


def test_a_seasons_certificate_stands_beside_its_controls() -> None:
    answer = season("pricing-gvr")
    best = follow(answer, answer.optimum.policy)
    dear = follow(answer, np.full_like(answer.optimum.policy, 8))
    metrics = {m.name: m for m in answer.assess({"seller": best}, {"seller": dear}, [0]).metrics}
    loss = metrics["shortfall"]
    assert loss.passed
    assert loss.controls["best fixed price"] == pytest.approx(100 - 94.56, abs=0.01)
    assert loss.controls["untrained network"] > 30
    fitted = [loss.controls[f"fit-then-plan, {seasons} logged seasons"] for seasons in (30, 10)]
    assert 0 < fitted[0] < fitted[1] < 0.5
    assert metrics["profit"].answer == pytest.approx(20835.9694, abs=0.01)
    assert metrics["best_response_gain/exact"].value == pytest.approx(0, abs=1e-6)
    assert metrics["grid_loss"].value == pytest.approx(0.2, abs=0.1)


def test_where_even_the_optimum_loses_money_a_worse_policy_does_not_pass() -> None:
    """A waste fee outweighs the sales.

    The loss counts from the optimum downwards whatever its sign.
    """
    answer = season("pricing-gvr", stock={"units": [40], "salvage": -1000.0}, periods=5)
    assert answer.optimum.total < 0
    dear = follow(answer, np.full_like(answer.optimum.policy, 8))
    metrics = {m.name: m for m in answer.assess({"seller": dear}, {"seller": dear}, [0]).metrics}
    assert metrics["shortfall"].value > 50
    assert not metrics["shortfall"].passed
    optimal = {"seller": follow(answer, answer.optimum.policy)}
    assert answer.distance(optimal) == pytest.approx(0, abs=1e-9)


def test_a_control_that_cannot_be_fitted_is_left_out() -> None:
    """One unit and more customers than ever come: every row of a log is sold out."""
    demand = {"family": "exponential", "size": [500.0], "slope": [0.0001]}
    answer = season("pricing-gvr", stock={"units": [1]}, demand=demand)
    policy = follow(answer, answer.optimum.policy)
    loss, *_ = answer.assess({"seller": policy}, {"seller": policy}, [0]).metrics
    assert loss.passed
    assert not any(name.startswith("fit-then-plan") for name in loss.controls)


def test_seasons_too_large_to_solve_have_no_answer() -> None:
    assert answer_key(parameters("pricing-gvr", stock={"units": [50_000]}, periods=9)) is None
    assert POINTS.answer_key(PointsParameters.model_validate({"reward": 20_000, "unit": 1})) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"season": {"sigma": 0.1}},
        {"rivals": [{"rule": "fixed"}]},
        {"products": 2},
        {"actions": "move", "guard": {"floor": 0.3, "ceiling": 2.0}},
        {"stock": {"units": [20], "reorder_below": 3}},
        {"guard": {"change": 0.1}},
    ],
)
def test_no_answer_is_claimed_where_more_than_period_and_stock_matter(
    changed: dict[str, object],
) -> None:
    assert answer_key(parameters("pricing-gvr", **changed)) is None


class TestCatalogue:
    def test_profits_are_what_the_market_pays(self) -> None:
        settings = parameters("pricing-profit")
        answer = answer_key(settings)
        assert isinstance(answer, CatalogueAnswer)
        market = Pricing(settings, worlds=WORLDS)
        market.reset(0)
        levels = torch.tensor([[3, 6]]).expand(WORLDS, 1, 2)
        paid = torch.cat([market.step({"seller": levels}).rewards["seller"] for _ in range(20)])
        prices = np.array([settings.levels[3], settings.levels[6]]) * settings.list_price[0]
        expected = float(answer.profits(prices).sum())
        assert abs(float(paid.mean()) - expected) < 4 * float(paid.std()) / paid.numel() ** 0.5

    def test_products_that_look_to_themselves_lose_a_third(self) -> None:
        answer = CatalogueAnswer(parameters("pricing-profit"))
        assert answer.logit.selfish_ratio() == pytest.approx(0.661, abs=1e-3)
        assert answer.optimality_gap(answer._selfish) > 25
        assert answer.optimality_gap(answer.best) == pytest.approx(0, abs=1e-9)
        assert answer.distance({"seller": lambda obs: torch.full((*obs.shape[:-1], 2), 5)}) < 0.1

    def test_a_duopolys_equilibrium_has_no_gains_and_the_monopoly_has(self) -> None:
        answer = CatalogueAnswer(parameters("pricing-duopoly"))
        assert np.abs(answer.nash - 1.472927).max() < 0.06, "the nearest levels"
        assert answer.gains(answer.nash[None]).max() == pytest.approx(0, abs=1e-9)
        assert answer.gains(answer.logit.monopoly()[None]).min() > 5
        policies = dict.fromkeys(("left", "right"), lambda obs: torch.full((*obs.shape[:-1], 1), 8))
        untrained = dict.fromkeys(
            ("left", "right"), lambda obs: torch.full((*obs.shape[:-1], 1), 0)
        )
        metrics = {m.name: m for m in answer.assess(policies, untrained, [0]).metrics}
        assert metrics["delta"].value > 0.9, "both at the highest level"
        assert not metrics["best_response_gain/exact"].passed


class TestRival:
    def answer(self, **rival: object) -> RivalAnswer:
        key = answer_key(
            parameters("pricing-rival", rivals=[{"rule": "undercut", "step": 0.03} | rival])
        )
        assert isinstance(key, RivalAnswer)
        return key

    @pytest.mark.parametrize("rule", RULES)
    def test_the_market_pays_the_best_response_what_is_promised(self, rule: str) -> None:
        answer = self.answer(rule=rule)
        best = torch.as_tensor(answer.best[0])

        def act(obs: Tensor) -> Tensor:
            last = (obs[..., :1] * 2.0 - torch.tensor(answer.prices)).abs().argmin(-1)
            return best[last].unsqueeze(-1)

        assert answer.optimality_gap(answer.worth(act)) == pytest.approx(0, abs=1e-3)
        market = Pricing(answer.parameters, worlds=WORLDS, stagger=False)
        obs = market.reset(0)["seller"]
        total = torch.zeros(WORLDS)
        for t in range(150):
            step = market.step({"seller": act(obs)})
            total += 0.95**t * step.rewards["seller"][:, 0]
            obs = step.observations["seller"]
        # Both begin at their list prices, where the rival looks first.
        start = int(np.abs(answer.prices - 2.0).argmin())
        rival = answer.answers(np.array([2.0]))
        first = answer.profit(answer.prices[int(best[start])][None], rival)[0]
        later = 0.95 * answer.best[1][int(best[start])]
        error = 4 * float(total.std()) / WORLDS**0.5
        assert abs(float(total.mean()) - (first + later)) < error + 0.05

    @pytest.mark.parametrize("gamma", [0.5, 0.99, 0.999])
    def test_the_best_response_loses_nothing_however_far_one_looks(self, gamma: float) -> None:
        answer = RivalAnswer(parameters("pricing-rival", gamma=gamma))
        best = torch.as_tensor(answer.best[0])

        def act(obs: Tensor) -> Tensor:
            last = (obs[..., :1] * 2.0 - torch.tensor(answer.prices)).abs().argmin(-1)
            return best[last].unsqueeze(-1)

        assert answer.optimality_gap(answer.worth(act)) == pytest.approx(0, abs=1e-3)

    def test_today_alone_loses_a_third_and_nobody_recovers_by_standing_still(self) -> None:
        answer = self.answer(leaves=100)
        low = lambda obs: torch.zeros((*obs.shape[:-1], 1), dtype=torch.int64)  # noqa: E731
        metrics = {m.name: m for m in answer.assess({"seller": low}, {"seller": low}, [0]).metrics}
        assert metrics["shortfall"].controls["best for today"] > 30
        assert 0 < metrics["shortfall"].controls["best fixed price"] < 1
        assert not metrics["shortfall"].passed
        assert metrics["recovery"].value > 50
        assert metrics["recovery"].passed is False
        assert metrics["recovery"].controls["best for today"] < 2


class TestPoints:
    def play(self, market: Points, policy: PolicyFunction, visits: int) -> tuple[Tensor, Tensor]:
        """Discounted rewards `[worlds]`, and undiscounted ones."""
        obs = market.reset(5)["seller"]
        discounted = torch.zeros(market.worlds)
        plain = torch.zeros(market.worlds)
        for t in range(visits):
            step = market.step({"seller": policy(obs)})
            obs = step.observations["seller"]
            discounted += market.parameters.gamma**t * step.rewards["seller"][:, 0]
            plain += step.rewards["seller"][:, 0]
        return discounted, plain

    def follow(self, answer: PointsAnswer) -> PolicyFunction:
        best = torch.as_tensor(answer.best)
        rates = len(answer.parameters.rates)

        def act(obs: Tensor) -> Tensor:
            balance = obs[..., 0] * answer.parameters.reward / answer.parameters.unit
            offer = best[balance.round().long()]
            choices = 2 if len(answer.parameters.prices) > 1 else 1
            return torch.stack([offer % rates, offer // rates], -1)[..., :choices]

        return act

    @pytest.mark.parametrize("accounting", ["cash", "accrual"])
    @pytest.mark.parametrize(
        "prices", [[1000.0], [760.0, 820.0, 880.0, 940.0, 1000.0, 1060.0, 1120.0, 1180.0, 1240.0]]
    )
    def test_the_market_pays_the_optimal_policy_what_the_process_promises(
        self, accounting: str, prices: list[float]
    ) -> None:
        settings = PointsParameters.model_validate(
            {"accounting": accounting, "prices": prices, "visits": 100_000}
        )
        answer = PointsAnswer(settings)
        policy = self.follow(answer)
        np.testing.assert_array_equal(answer.offers(policy), answer.best)
        # .98^500 = 4e-5.
        paid, _ = self.play(Points(settings, worlds=WORLDS, stagger=False), policy, 500)
        value = answer.worth(answer.best)
        assert abs(float(paid.mean()) - value) < 4 * float(paid.std()) / WORLDS**0.5 + 1e-4 * value
        if accounting == "cash" and len(prices) == 1:
            assert value == pytest.approx(7191.64, abs=0.01)
            assert answer.worth(answer._constant) == pytest.approx(6805.74, abs=0.01)
            assert answer.worth(answer._none) == pytest.approx(6151.19, abs=0.01)

    def test_the_ledger_counts_every_point_and_both_books_agree(self) -> None:
        settings = {"visits": 1000, "customers": 3, "exploring_starts": 0.5}
        settings |= {"rates": [0.0, 0.013, 0.5], "reward": 300}
        both = [settings | {"accounting": accounting} for accounting in ("cash", "accrual")]
        cash, accrual = (
            Points(PointsParameters.model_validate(x), worlds=50, stagger=False) for x in both
        )
        totals = {}
        start = {}
        for name, market in (("cash", cash), ("accrual", accrual)):
            market.reset(1)
            start[name] = market.state["outstanding"].clone()
            generator = torch.Generator().manual_seed(2)
            total = torch.zeros(50, 3, dtype=torch.float64)
            for _ in range(300):
                actions = torch.randint(3, (50, 3, 1), generator=generator)
                total += market.step({"seller": actions}).rewards["seller"].double()
                book = {name: market.state[name] for name in LEDGER}
                accounted = book["redeemed"] + book["expired"] + book["outstanding"]
                assert torch.equal(book["issued"], accounted)
                assert bool((book["outstanding"] >= 0).all())
                assert bool((book["outstanding"] <= 300).all())
                assert all(v.dtype == torch.int64 for v in book.values())
            totals[name] = total
        assert bool((cash.state["redeemed"] > 0).any())
        assert bool((cash.state["expired"] > 0).any())
        provision = 0.9 * (accrual.state["outstanding"] - start["accrual"])
        torch.testing.assert_close(totals["accrual"], totals["cash"] - provision, atol=0.1, rtol=0)

    def test_points_that_cost_more_than_they_are_worth_are_not_granted(self) -> None:
        """Where a full balance is far away, an issued point costs its provision.

        It is granted only if customers value it more.
        """
        prices = [float(p) for p in np.linspace(760, 1240, 9)]
        joint = {"prices": prices, "accounting": "accrual"}
        joint |= {"reward": 50_000, "unit": 1000, "expiry": 0.0}
        for kappa, provision in ((0.6, 0.9), (0.9, 0.6)):
            own = {"kappa": kappa, "provision": provision}
            settings = PointsParameters.model_validate(joint | own)
            answer = PointsAnswer(settings)
            rate = settings.rates[int(answer.best[0]) % 9]
            assert rate == (0.0 if kappa < provision else 0.2)
