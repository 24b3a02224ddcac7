"""Checks of the headline: each says the right thing where the truth is known."""

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.survival.config import PrognoseConfig
from spinmark_biomarkers.survival.hazards import PiecewiseHazard, WeibullHazard
from spinmark_biomarkers.survival.robustness import COLUMNS, robustness
from spinmark_biomarkers.survival.scoring import adding, chosen_reference, fullest
from spinmark_biomarkers.survival.simulate import Scenario, simulate

SCENARIO = Scenario(
    subjects=600, beta=(0.6, 0.8, 0.0), death_rate=0.01, dropout=0.03, frailty="none"
)


@pytest.fixture(scope="module")
def seen():
    made = simulate(SCENARIO, seed=4)
    x = made.data.covariates
    risk = pd.DataFrame(
        {"base": x[:, 0], "base_more": 0.6 * x[:, 0] + 0.8 * x[:, 1], "base_noise": x[:, 0] + x[:, 2]},
        index=made.data.ids,
    )  # fmt: skip
    n = len(made.data.ids)
    hazards = {
        name: {
            "event": WeibullHazard(
                np.tile(made.eta, (20, 1)),
                np.full(20, made.baseline["level"].item()),
                np.full(20, made.baseline["log_shape"].item()),
                np.zeros(20),
            ),
            "death": PiecewiseHazard.never(20, n),
        }
        for name in risk
    }
    found, cannot = robustness(made.data, risk, reference="base", hazards=hazards, draws=50)
    return made, risk, found, cannot


def row(found, check, model):
    rows = found[(found["check"] == check) & (found["model"] == model)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_every_check_is_made_of_every_model_beyond_the_reference(seen):
    _, _, found, cannot = seen
    assert tuple(found.columns) == COLUMNS
    assert cannot == []
    counts = found.groupby("model")["check"].nunique()
    assert counts["base"] == 1
    assert counts["base_more"] == counts["base_noise"] == 6


def test_the_association_is_the_true_one(seen):
    made, risk, found, _ = seen
    # Beyond the reference the risk says 0.8 of what is left of the second covariate.
    x = made.data.covariates
    slope, level = np.polyfit(x[:, 0], risk["base_more"], 1)
    rest = risk["base_more"].to_numpy() - slope * x[:, 0] - level
    true = np.exp(rest.std())
    got = row(found, "association", "base_more")
    assert got["low"] < true < got["high"]
    assert got["low"] > 1
    nothing = row(found, "association", "base_noise")
    assert nothing["low"] < 1 < nothing["high"]
    assert "not told apart" in nothing["sentence"]
    assert "not told apart" not in got["sentence"]


def test_knees_are_ranked_within_people(seen):
    _, _, found, _ = seen
    more, base = row(found, "within people", "base_more"), row(found, "within people", "base")
    assert more["value"] > base["value"] > 0.5
    assert more["low"] > 0.5
    assert "over the reference +" in more["sentence"]


def test_loss_and_proportions_are_what_was_simulated(seen):
    _, _, found, _ = seen
    plain = row(found, "association", "base_more")["value"]
    # Loss hangs on nothing here, so weighting changes little.
    assert row(found, "loss by covariates", "base_more")["value"] == pytest.approx(plain, rel=0.05)
    assert row(found, "loss beyond covariates", "base_more")["value"] == pytest.approx(plain)
    assert row(found, "proportional hazards", "base_more")["p"] > 0.01
    assert row(found, "unmeasured confounding", "base_noise")["low"] == 1
    assert row(found, "unmeasured confounding", "base_more")["low"] > 1.5


def test_what_cannot_be_done_is_told(seen):
    made, risk, _, _ = seen
    flat = risk.assign(base_flat=2 * risk["base"] + 1)[["base", "base_flat"]]
    found, cannot = robustness(made.data, flat, reference="base", draws=10)
    assert set(found["check"]) == {"within people"}
    assert cannot == [
        "association of base + flat: risk: a straight line of the reference's; nothing is added"
    ]
    one = made.data.with_rows(np.unique(made.data.subject_code, return_index=True)[1])
    _, cannot = robustness(one, risk.loc[one.ids], reference="base", draws=10)
    # One line for one reason, however many models.
    (line,) = [line for line in cannot if "no discordant pair" in line]
    assert line.startswith("within people of base, base + more, base + noise: matched: ")


def test_models_are_doubted_that_hold_the_reference():
    names = ["clinical", "kl", "clinical_kl", "clinical_structure", "clinical_kl_embedding"]
    ladder = ["clinical", "clinical_kl", "clinical_structure"]
    assert adding(names, "clinical_kl", ladder) == ["clinical_structure", "clinical_kl_embedding"]
    assert fullest(names) == "clinical_kl_embedding"
    assert chosen_reference(names, PrognoseConfig(reference="clinical_kl")) == "clinical_kl"
    assert chosen_reference(names, PrognoseConfig(reference="absent")) == "clinical"
