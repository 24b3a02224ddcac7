from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival_prediction import (
    covariate_bars,
    risk_card,
    risk_waterfall,
)
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.design import Design
from spinmark_biomarkers.survival.hazards import PiecewiseHazard, WeibullHazard
from spinmark_biomarkers.survival.prediction.explain import OTHER_JOINT, explain, top_covariates
from spinmark_biomarkers.survival.prediction.incidence import incidence, time_lost
from spinmark_biomarkers.survival.prediction.other_joint import OtherJoint, given_other_joint
from spinmark_biomarkers.survival.prediction.predictor import Given, RiskPredictor
from spinmark_biomarkers.survival.prediction.shapley import coalitions, shapley_values

BLOCKS = {"AGE": "clinical", "BMI": "clinical", "KL": "structure", "e_pc1": "embedding",
          "e_pc2": "embedding"}  # fmt: skip
N = 30


class Drawn:
    """Proportional hazards whose posterior draws are given."""

    def __init__(self, names, beta, rates, theta):
        self.names_, self.beta, self.rates, self.theta = tuple(names), beta, rates, theta

    def hazard(self, x, most=None):
        at = slice(most)
        return PiecewiseHazard(
            self.beta[at] @ x.T, np.log(self.rates[at]), np.array([0.0, 4.0]), self.theta[at]
        )


def models(draws=60, frailty=0.8):
    rng = np.random.default_rng(0)
    beta = np.array([0.3, 0.2, 0.7, 0.5, -0.4]) + 0.1 * rng.normal(size=(draws, 5))
    rates = np.array([0.03, 0.05]) * np.exp(0.1 * rng.normal(size=(draws, 2)))
    death = Drawn(
        ["AGE"], 0.8 + 0.1 * rng.normal(size=(draws, 1)), np.full((draws, 2), 0.015),
        np.zeros(draws),
    )  # fmt: skip
    theta = frailty * np.exp(0.1 * rng.normal(size=draws))
    return {"replacement": Drawn(BLOCKS, beta, rates, theta), "death": death}


@pytest.fixture(scope="module")
def designs():
    rng = np.random.default_rng(1)
    joints = [f"{s}:{side}" for s in range(1000001, 1000001 + N // 2) for side in "LR"]
    frame = pd.DataFrame(rng.normal(size=(N, 5)), index=joints, columns=list(BLOCKS))
    return {
        "replacement": Design(frame=frame, blocks=BLOCKS),
        "death": Design(frame=frame[["AGE"]], blocks={"AGE": "clinical"}),
    }


@pytest.fixture(scope="module")
def outcomes(designs):
    joints = designs["replacement"].frame.index.to_numpy(dtype=object)
    rng = np.random.default_rng(2)
    time = rng.uniform(1.5, 9.0, N)
    time[0] = 9.0
    cause = (np.arange(N) % 3 == 1).astype(np.int64)
    upper = np.where(cause == 1, time + np.where(np.arange(N) % 2, 0.5, 0.0), np.inf)
    return SurvivalData(
        ids=joints, subject_ids=np.array([j.split(":")[0] for j in joints], dtype=object),
        covariates=np.zeros((N, 0)), names=(), lower=time, upper=upper, cause=cause,
        weight=np.ones(N),
    )  # fmt: skip


@pytest.fixture(scope="module")
def predictor(outcomes):
    return RiskPredictor(models=models(), follow_up=outcomes, min_at_risk=4)


TIMES = [1.0, 4.0, 8.9]


def test_named_joints_get_the_incidence_of_their_rows(predictor, designs):
    found = predictor.incidence(designs, TIMES, joints=["1000003:R", "1000001:L"])
    assert found.dims == ("cause", "draw", "joint", "time")
    assert found["cause"].to_numpy().tolist() == ["replacement", "death"]
    event, death = predictor.models.values()
    frame = designs["replacement"].frame.loc[["1000003:R", "1000001:L"]]
    expected = incidence(
        {"e": event.hazard(frame.to_numpy()), "d": death.hazard(frame[["AGE"]].to_numpy())},
        np.array(TIMES),
    )
    np.testing.assert_array_equal(found, expected)
    assert found["extrapolated"].to_numpy().tolist() == [False, False, True]
    turned = {
        k: Design(frame=d.frame.iloc[::-1, ::-1], blocks=d.blocks) for k, d in designs.items()
    }
    again = predictor.incidence(turned, TIMES, joints=["1000003:R", "1000001:L"])
    np.testing.assert_allclose(again, found, rtol=1e-13)


def test_the_summary_is_that_of_the_draws(predictor, designs):
    draws = predictor.incidence(designs, TIMES)
    summary = predictor.summary(designs, TIMES)
    np.testing.assert_allclose(summary["mean"], draws.mean("draw"), rtol=1e-12)
    expected = np.quantile(draws.to_numpy(), [0.025, 0.5, 0.975], axis=1)
    found = summary["quantiles"].transpose("quantile", "cause", "joint", "time")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert summary.sizes["joint"] == N
    fewer = RiskPredictor(
        models=predictor.models, follow_up=predictor.follow_up, min_at_risk=1, draws=7
    )
    assert fewer.incidence(designs, TIMES).sizes["draw"] == 7


def test_time_lost_has_names_too(predictor, designs):
    lost = predictor.time_lost(designs, 6.0, joints=["1000001:L"], given=Given(landmark=1.0))
    hazards = predictor.hazards(designs, ["1000001:L"])
    np.testing.assert_array_equal(lost, time_lost(hazards, 6.0, landmark=1.0))
    assert lost.dims == ("cause", "draw", "joint")
    assert lost.attrs["landmark_years"] == 1.0


def test_the_other_joint_as_known_by_the_landmark(predictor, designs, outcomes):
    landmark = 3.0
    free = [j for j, low in zip(outcomes.ids, outcomes.lower, strict=True) if low > landmark]
    given = Given(landmark=landmark, outcomes=outcomes)
    found = predictor.incidence(designs, [4.0], joints=free, given=given)
    assert found.attrs["conditioned_on_other_joint"] == 1
    frame = designs["replacement"].frame
    event, death = predictor.models.values()
    row = {j: k for k, j in enumerate(outcomes.ids)}
    for k, joint in enumerate(free):
        other = joint[:-1] + ("L" if joint.endswith("R") else "R")
        lower, upper = outcomes.lower[row[other]], outcomes.upper[row[other]]
        if upper > landmark:
            lower, upper = min(lower, landmark), np.inf
        hazard = given_other_joint(
            event.hazard(frame.loc[[joint]].to_numpy()),
            event.hazard(frame.loc[[other]].to_numpy()),
            OtherJoint(np.array([lower]), np.array([upper])),
            landmark=landmark,
        )
        expected = incidence(
            {"e": hazard, "d": death.hazard(frame.loc[[joint], ["AGE"]].to_numpy())},
            np.array([4.0]), landmark=landmark,
        )  # fmt: skip
        np.testing.assert_allclose(found[:, :, k], expected[:, :, 0], rtol=1e-12)
    alone = predictor.incidence(
        designs, [4.0], joints=free, given=Given(landmark=landmark, outcomes=outcomes, partners={})
    )
    without = predictor.incidence(designs, [4.0], joints=free, given=Given(landmark=landmark))
    np.testing.assert_allclose(alone, without, rtol=1e-12)
    assert float(np.abs(found - without).max()) > 0.01


def test_bad_calls_are_refused_in_one_line(predictor, designs, outcomes):
    event = {"replacement": predictor.models["replacement"]}
    with pytest.raises(InputError, match=r"\['replacement'\] alone.*no absolute risk"):
        RiskPredictor(models=event, follow_up=outcomes)
    strict = RiskPredictor(models=predictor.models, follow_up=outcomes, allow_extrapolation=False)
    with pytest.raises(InputError, match="20 after landmark 2: 0 joints remain at risk"):
        strict.incidence(designs, [20.0], given=Given(landmark=2.0))
    with pytest.raises(InputError, match="no row of nobody"):
        predictor.incidence(designs, TIMES, joints=["nobody"])
    with pytest.raises(InputError, match="none for 'death'"):
        predictor.incidence({"replacement": designs["replacement"]}, TIMES)
    short = Design(frame=designs["replacement"].frame[["AGE"]], blocks=BLOCKS)
    with pytest.raises(InputError, match="replacement: no column 'BMI'"):
        predictor.incidence(designs | {"replacement": short}, TIMES)
    ended = str(outcomes.ids[outcomes.lower < 5.0][0])
    with pytest.raises(InputError, match=f"landmark: 5 years: {ended} not followed"):
        predictor.incidence(
            designs, [1.0], joints=[ended], given=Given(landmark=5.0, outcomes=outcomes)
        )
    with pytest.raises(InputError, match="accepted are rising"):
        predictor.incidence(designs, [2.0, 1.0])


def by_orders(worth):
    players = int(np.log2(len(worth)))
    values = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        held = 0
        for player in order:
            values[player] += worth[held | 1 << player] - worth[held]
            held |= 1 << player
    return values / len(orders)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_shapley_values_are_the_mean_over_all_orders(players, seed):
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=2**players)
    found = shapley_values(worth)
    np.testing.assert_allclose(found, by_orders(worth), atol=1e-12)
    assert found.sum() == pytest.approx(worth[-1] - worth[0], abs=1e-12)
    # Renaming the players renames their values; one who adds nothing gets nothing.
    order = rng.permutation(players)
    renamed = worth[coalitions(players) @ (1 << order)]
    np.testing.assert_allclose(shapley_values(renamed), found[order], atol=1e-12)
    idle = np.tile(worth, 2)
    assert shapley_values(idle)[-1] == pytest.approx(0, abs=1e-15)


def test_shapley_values_refuse_too_many():
    with pytest.raises(InputError, match="blocks: 9; accepted are 1 to 8"):
        coalitions(9)
    with pytest.raises(InputError, match="power of 2"):
        shapley_values(np.zeros(3))


@pytest.mark.parametrize("conditioned", [False, True])
def test_contributions_add_to_the_risk_above_the_average_joint(
    predictor, designs, outcomes, conditioned
):
    landmark = 3.0
    free = [str(j) for j in outcomes.ids[outcomes.lower > landmark]][:4]
    given = Given(landmark=landmark, outcomes=outcomes if conditioned else None)
    found = explain(predictor, designs, 4.0, joints=free, given=given)
    risk = predictor.incidence(designs, [4.0], joints=free, given=given)
    np.testing.assert_allclose(found["risk"], risk.sel(cause="replacement").isel(time=0), rtol=1e-9)
    total = found["risk_contribution"].sum("block")
    np.testing.assert_allclose(total, found["risk"] - found["reference_risk"], atol=1e-12)
    names = ["clinical", "structure", "embedding", *([OTHER_JOINT] if conditioned else [])]
    assert found["block"].to_numpy().tolist() == names
    # The average joint is a row of means.
    frame = designs["replacement"].frame
    mean = frame.mean().to_numpy()[None]
    event, death = predictor.models.values()
    average = incidence(
        {"e": event.hazard(mean), "d": death.hazard(mean[:, :1])},
        np.array([4.0]),
        landmark=landmark,
    )
    np.testing.assert_allclose(
        found["reference_risk"].isel(joint=0), average[0, :, 0, 0], rtol=1e-9
    )
    # On the log hazard, exactly additive; each by hand.
    x = frame.loc[free].to_numpy() - mean
    structure = event.beta[:, [2]] * x[:, 2]
    np.testing.assert_allclose(
        found["log_hazard"].sel(cause="replacement", block="structure"), structure, atol=1e-12
    )
    whole = found["log_hazard"].sel(cause="replacement").sum("block")
    np.testing.assert_allclose(whole, event.beta @ x.T, atol=1e-12)
    np.testing.assert_allclose(
        found["log_hazard_of_covariate"].sum("covariate"), event.beta @ x.T, atol=1e-12
    )
    # Age moves death alone through the clinical block.
    np.testing.assert_allclose(
        found["log_hazard"].sel(cause="death", block="clinical"),
        death.beta @ x[:, :1].T,
        atol=1e-12,
    )


def test_blocks_of_equal_weight_share_equally(outcomes, designs):
    beta = np.tile([0.5, 0.5], (3, 1))
    pair = {
        "event": Drawn(["a", "b"], beta, np.full((3, 2), 0.05), np.full(3, 0.5)),
        "death": Drawn([], np.zeros((3, 0)), np.full((3, 2), 0.02), np.zeros(3)),
    }
    frame = pd.DataFrame({"a": [1.0, -1.0, 0.7], "b": [1.0, -1.0, -0.2]}, index=list("xyz"))
    both = {
        "event": Design(frame=frame, blocks={"a": "one", "b": "two"}),
        "death": Design(frame=frame[[]], blocks={}),
    }
    predictor = RiskPredictor(models=pair, follow_up=outcomes)
    found = explain(predictor, both, 5.0, joints=["x"], reference=["x", "y"])
    parts = found["risk_contribution"].isel(draw=0, joint=0).to_numpy()
    assert parts[0] == pytest.approx(parts[1], rel=1e-12)
    assert parts[0] > 0
    weibull = pair | {"event": Curved()}
    with pytest.raises(InputError, match="not a sum over covariates"):
        explain(
            RiskPredictor(models=weibull, follow_up=outcomes), both, 5.0, joints=["x"],
            reference=["x", "z"],
        )  # fmt: skip


class Curved:
    """A model with an interaction, which has no parts to share."""

    names_ = ("a", "b")

    def hazard(self, x, most=None):
        linear = np.tile(x[:, 0] * x[:, 1], (3, 1))
        return WeibullHazard(linear, np.full(3, -3.0), np.zeros(3), np.zeros(3))


def test_the_top_covariates_of_a_block(predictor, designs):
    found = explain(predictor, designs, 4.0, joints=["1000002:L"])
    top = top_covariates(found, "1000002:L", "embedding")
    assert set(top["covariate"].to_numpy()) == {"e_pc1", "e_pc2"}
    assert (np.diff(np.abs(top["mean"])) <= 0).all()
    assert (top["low"] <= top["mean"]).all()
    assert (top["mean"] <= top["high"]).all()
    assert top_covariates(found, "1000002:L", "clinical", most=1).sizes["covariate"] == 1
    with pytest.raises(InputError, match="block: 'bone' has no covariates"):
        top_covariates(found, "1000002:L", "bone")
    with pytest.raises(InputError, match="joint: 'x'; explained are"):
        top_covariates(found, "x", "embedding")


def test_figures_are_drawn(predictor, designs, outcomes, tmp_path):
    joint = "1000001:L"
    given = Given(landmark=2.0, outcomes=outcomes)
    whole = predictor.summary(designs, np.linspace(0, 9, 19), joints=[joint])
    later = [
        predictor.summary(designs, [4.0], joints=[joint], given=Given(landmark=2.0)),
        predictor.summary(designs, [7.0], joints=[joint], given=given),
    ]
    parts = explain(predictor, designs, 8.0, joints=[joint])
    conditioned = explain(predictor, designs, 4.0, joints=[joint], given=given)
    figures = {
        "waterfall": risk_waterfall(conditioned, joint),
        "bars": covariate_bars(parts, joint, "embedding"),
        "card": risk_card(whole, parts, joint, landmarks=later),
        "bare": risk_card(whole, parts, joint),
    }
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=60)
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    axes = figures["waterfall"].axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels[0] == "average joint"
    assert labels[-1] == "this joint"
    assert set(labels[1:-1]) == {"clinical", "structure", "embedding", OTHER_JOINT}
    # The bars end where the risk is.
    end = axes.patches[1].get_width()
    assert end == pytest.approx(100 * float(conditioned["risk"].mean()), rel=1e-9)
    with pytest.raises(InputError, match="not in every summary"):
        risk_card(whole, parts, "1000002:L")


def test_figures_of_a_joint_stay(predictor, designs):
    found = explain(predictor, designs, 8.0, joints=["1000001:L"])
    expected = [0.03794296955785683, 0.06521285785798828, -0.11857370120361993]
    parts = found["risk_contribution"].mean("draw").to_numpy()[0]
    np.testing.assert_allclose(parts, expected, rtol=1e-7)
