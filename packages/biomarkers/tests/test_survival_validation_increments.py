"""What each model of a ladder adds: paired gains, their words and their figure."""

import functools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.concordance import concordance_interval
from spinmark_biomarkers.evaluation.predictions import Prediction, compare_predictions
from spinmark_biomarkers.figures.survival_increments import increments_forest
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.prognosis import Prognosis
from spinmark_biomarkers.survival.validation.increments import (
    REFERENCE,
    STEP,
    Increments,
    increments,
)
from spinmark_biomarkers.survival.validation.learners import RidgeCox
from spinmark_biomarkers.survival.validation.of_prognosis import increments_of, subgroups_of
from spinmark_biomarkers.survival.validation.scores import Label, on_first_rows
from spinmark_biomarkers.survival.validation.wording import added, metric_name, sentence, short

from .survival_validation_cases import cohort, twice

GRID = np.array([0.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0])
LADDER = {
    "clinical": ["x0"],
    "clinical_kl": ["x0", "x2"],
    "clinical_kl_embedding": ["x0", "x1", "x2"],
}
Models = dict[str, Prediction]


@functools.cache
def ladder(people: int = 300, seed: int = 3) -> tuple[SurvivalData, Models]:
    """The test half of a cohort, and models of a ladder that were fitted on the other half."""
    data, design = cohort(2 * people, [0.6, 0.7], noise=1, seed=seed, rate=0.04)
    train, test = np.arange(2 * people), np.arange(2 * people, 4 * people)
    held = data.with_rows(test)
    models = {}
    for name, columns in LADDER.items():
        fitted = RidgeCox().fit(data.with_rows(train), design.iloc[train][columns])
        said = fitted.predict(held, design.iloc[test][columns], GRID)
        models[name] = Prediction(said.incidence, said.risk, name)
    return held, models


def run(held: SurvivalData, models: Models, **more: object) -> Increments:
    options: dict[str, object] = {"draws": 15, "horizons": (4.0, 8.0), "thresholds": (0.1,)} | more
    return increments(
        held.time, held.cause, models, GRID, held.subject_ids, **options  # type: ignore[arg-type]
    )  # fmt: skip


def test_every_gain_is_that_of_the_paired_comparison_of_two_models() -> None:
    held, models = ladder()
    found = run(held, models, reference="clinical_kl")
    pairs = list(
        zip(found.table["model"], found.table["against"], found.table["kind"], strict=True)
    )
    assert list(dict.fromkeys(pairs)) == [
        ("clinical_kl", "clinical", STEP),
        ("clinical_kl_embedding", "clinical_kl", STEP),
        ("clinical", "clinical_kl", REFERENCE),
        ("clinical_kl_embedding", "clinical_kl", REFERENCE),
    ]
    upper, lower = models["clinical_kl_embedding"], models["clinical_kl"]
    expected = compare_predictions(
        upper, lower, held.time, held.cause, GRID, held.subject_ids, horizons=(4.0, 8.0),
        thresholds=(0.1,), draws=15, metrics=("concordance", "auc", "brier", "net_benefit"),
    )  # fmt: skip
    expected = expected.set_index(["metric", "horizon_days"])
    mine = found.table[(found.table["kind"] == STEP) & (found.table["against"] == "clinical_kl")]
    assert set(mine["metric"]) == {"c_index", "c_uno", "auc", "brier", "ipa", "net_benefit_at_0.1"}
    for _, row in mine.iterrows():
        other = expected.loc[f"{row['metric']}_gain_over_clinical_kl"]
        days = (
            other.index.get_level_values(0)
            if isinstance(other.index, pd.MultiIndex)
            else other.index
        )
        at = days.isna() if np.isnan(row["horizon_days"]) else np.isclose(days, row["horizon_days"])
        one = other[at].iloc[0]
        assert (row["gain"], row["low"], row["high"]) == pytest.approx(
            (one["value"], one["low"], one["high"]), abs=1e-12
        )
        assert (row["n"], row["n_events"]) == (one["n"], one["n_events"])
        sign = -1 if row["metric"] == "brier" else 1
        assert row["gain"] == pytest.approx(sign * (row["upper"] - row["lower"]), abs=1e-12)


def test_concordance_agrees_with_the_interval_of_its_own_module() -> None:
    held, models = ladder()
    row = run(held, models, reference="clinical").rows("c_index").iloc[-1]
    expected = concordance_interval(
        held.time, held.event, models["clinical_kl_embedding"].risk, held.subject_ids,
        against=models["clinical"].risk, draws=15, seed=0,
    )  # fmt: skip
    assert (row["gain"], row["low"], row["high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_an_embedding_that_tells_something_is_found_and_grades_that_do_not_are_not() -> None:
    held, models = ladder()
    found = run(held, models, reference="clinical_kl", draws=60)
    gains = found.rows("c_index", kind=STEP).set_index("model")
    assert gains.loc["clinical_kl_embedding", "low"] > 0
    assert abs(gains.loc["clinical_kl", "gain"]) < 0.02
    told = gains.loc["clinical_kl_embedding", "sentence"]
    assert told.startswith(
        "Adding embedding to clinical + KL raises the C-index (Harrell) by .058 ("
    )
    assert told.endswith("): better by more than chance would give.")
    assert gains.loc["clinical_kl_embedding", "gain"] == pytest.approx(0.0583, abs=5e-4)
    assert found.headline()[-1].startswith(
        "Adding embedding to clinical + KL raises the 8-year AUC by .039 ("
    )


def test_a_paired_interval_is_narrower_than_two_side_by_side() -> None:
    held, models = ladder()
    row = run(held, models, draws=40).rows("c_index", kind=STEP).iloc[0]
    alone = [
        concordance_interval(held.time, held.event, models[m].risk, held.subject_ids, draws=40)
        for m in ("clinical", "clinical_kl")
    ]
    unpaired = np.hypot(*(i.high - i.low for i in alone))
    assert row["high"] - row["low"] < unpaired / 2


@pytest.mark.slow
def test_the_interval_of_a_useless_covariate_covers_nothing_at_all_as_often_as_it_says() -> None:
    inside, gains = [], []
    for seed in range(120):
        data, _ = cohort(200, [], seed=seed, rate=0.06)
        rng = np.random.default_rng(seed)
        # Two scores that tell nothing, of which the second is as useful as the first.
        first, more = rng.normal(size=(2, 400))
        risks = {"a": first, "a_b": first + more}
        models = {
            name: Prediction(np.tile(1 / (1 + np.exp(-r))[:, None], len(GRID)), r)
            for name, r in risks.items()
        }
        row = run(data, models, draws=150, thresholds=()).rows("c_index", kind=STEP).iloc[0]
        inside.append(row["low"] <= 0 <= row["high"])
        gains.append(row["gain"])
    # 95 % of 120 less three standard errors of .02.
    assert np.mean(inside) > 0.89
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(120)


def test_log_densities_are_compared_by_subject() -> None:
    held, models = ladder()
    names = np.unique(held.subject_ids.astype(str))
    rng = np.random.default_rng(0)
    of = {name: rng.normal(size=len(names)) for name in models}
    densities = {name: on_first_rows(v, names, held.subject_ids) for name, v in of.items()}
    found = run(held, models, densities=densities, thresholds=(), draws=100)
    row = found.rows("elpd", kind=STEP).iloc[0]
    gap = of["clinical_kl"] - of["clinical"]
    assert row["gain"] == pytest.approx(gap.sum())
    assert row["se"] == pytest.approx(np.sqrt(len(names)) * gap.std(), rel=0.25)
    with pytest.raises(InputError, match="densities: none of clinical_kl"):
        run(held, models, densities={"clinical": densities["clinical"]})
    with pytest.raises(InputError, match="density: none for subject"):
        on_first_rows(np.zeros(1), names[:1], held.subject_ids)


def test_an_extrapolated_horizon_is_never_a_conclusion() -> None:
    held, models = ladder()
    found = run(held, models, horizons=(8.0, 10.0), extrapolated={10.0: True}, draws=5)
    ten = found.rows("auc", 10.0, kind=STEP)
    assert ten["extrapolated"].all()
    assert not ten["primary"].any()
    assert ten["sentence"].str.endswith("; an extrapolation past the follow-up.").all()
    assert found.rows("auc", 8.0, kind=STEP)["primary"].all()
    assert found.rows("c_index", kind=STEP)["primary"].all()
    # By default it is one where few are followed so far, and ten years are not primary anyway.
    few = run(held, models, horizons=(8.0, 10.0), min_at_risk=10**6, draws=5)
    assert few.rows("auc", 8.0, kind=STEP)["extrapolated"].all()
    many = run(held, models, horizons=(8.0, 10.0), min_at_risk=1, draws=5)
    assert not many.rows("auc", 10.0, kind=STEP)["extrapolated"].any()
    assert not many.rows("auc", 10.0, kind=STEP)["primary"].any()


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 5), st.floats(-3, 3))
def test_order_of_rows_and_scale_of_risks_change_nothing(seed: int, by: float, to: float) -> None:
    held, models = ladder()
    order = np.random.default_rng(seed).permutation(len(held.ids))
    moved = {
        name: Prediction(np.asarray(m.predicted)[order], np.asarray(m.risk)[order] * by + to)
        for name, m in models.items()
    }
    first = run(held, models, draws=4).table
    second = run(held.with_rows(order), moved, draws=4).table
    pd.testing.assert_frame_equal(first, second, atol=1e-9)


def test_a_model_gains_nothing_over_itself() -> None:
    held, models = ladder()
    same = {"a": models["clinical"], "b": models["clinical"]}
    table = run(held, same, draws=10).table
    assert (table[["gain", "low", "high", "se"]] == 0).all(axis=None)
    assert table["sentence"].str.endswith("not told apart from nothing.").all()


@pytest.mark.parametrize(
    ("model", "against", "expected"),
    [
        ("clinical_kl_embedding", "clinical_kl", "Adding embedding to clinical + KL"),
        ("clinical", "clinical_kl", "Leaving KL out of clinical + KL"),
        ("clinical_kl", "embedding", "Going from embedding to clinical + KL"),
        ("structure_phenotype_embedding", "structure", "Adding phenotype + embedding to structure"),
    ],
)
def test_what_is_added_is_told_by_its_blocks(model: str, against: str, expected: str) -> None:
    assert added(model, against) == expected


@pytest.mark.parametrize(
    ("metric", "gain", "low", "high", "expected"),
    [
        ("auc", 0.03, -0.01, 0.07,
         "raises the 8-year AUC by .030 (-.010 to .070): not told apart from nothing."),
        ("auc", -0.03, -0.07, -0.01,
         "lowers the 8-year AUC by .030 (.010 to .070): worse by more than chance would give."),
        ("brier", 0.002, 0.001, 0.003,
         "lowers the 8-year Brier score by .0020 (.0010 to .0030): better by more than chance would give."),
        ("ipa", 0.1, np.nan, np.nan,
         "raises the 8-year prediction accuracy by .100 (unknown to unknown): too few events to say."),
    ],
)  # fmt: skip
def test_a_sentence_says_no_more_than_the_interval(
    metric: str, gain: float, low: float, high: float, expected: str
) -> None:
    told = sentence(Label(metric, 8.0), "clinical_kl", "clinical", gain, low, high)
    assert told == f"Adding KL to clinical {expected}"


def test_figures_that_are_not_defined_are_told_so() -> None:
    told = sentence(Label("auc", 8.0), "a", "b", np.nan, np.nan, np.nan)
    assert told == "Going from b to a: the 8-year AUC cannot be computed."
    assert metric_name("net_benefit_at_0.05") == "net benefit of acting at 5 %"
    assert [short(x) for x in (-0.0001, 0.5, 1.25, -0.25)] == [".000", ".500", "1.250", "-.250"]


def test_the_forest_has_a_line_at_nothing_and_says_how_many_events() -> None:
    held, models = ladder()
    found = run(
        held,
        models,
        horizons=(4.0, 10.0),
        extrapolated={10.0: True},
        draws=10,
        reference="clinical_kl",
    )
    for kind, rows in ((REFERENCE, 2), (STEP, 2)):
        figure = increments_forest(found, kind=kind)
        assert len(figure.axes) == 4
        assert all(axes.lines[0].get_xdata()[0] == 0 for axes in figure.axes)
        assert len(figure.axes[0].get_yticklabels()) == rows
        told = [text.get_text() for text in figure.legends[0].get_texts()]
        events = int((held.event & (held.time <= 4)).sum())
        assert f"4 years: {events} events" in told
        assert any(text.endswith("extrapolated") for text in told)
    late = increments_forest(run(held, models, horizons=(4.0, 10.0), extrapolated={}, draws=2))
    assert late.legends[0].get_texts()[-1].get_text().endswith("events, secondary")
    with pytest.raises(InputError, match="panels"):
        increments_forest(found, panels=["wrong"])


def prognosis(held: SurvivalData, models: Models) -> Prognosis:
    coords = {
        "model": np.array(list(models), dtype=object),
        "joint": held.ids,
        "time": GRID * 365.25,
    }
    mean = xr.DataArray(
        np.stack([np.asarray(m.predicted) for m in models.values()]),
        dims=("model", "joint", "time"),
        coords=coords,
    )
    cif = xr.Dataset(
        coords={
            **coords,
            "set": ("joint", np.full(len(held.ids), "test", dtype=object)),
            "extrapolated": ("time", GRID >= 10),
        }
    )
    risk = pd.DataFrame({name: np.asarray(m.risk) for name, m in models.items()}, index=held.ids)
    return Prognosis(
        cif=cif, metrics=pd.DataFrame(), posteriors={}, diagnostics={}, risk=risk, mean=mean
    )


def test_a_prognosis_gives_the_increments_of_its_predictions() -> None:
    held, models = ladder()
    made = prognosis(held, models)
    order = np.random.default_rng(0).permutation(len(held.ids))
    found = increments_of(
        made, held.with_rows(order), reference="clinical_kl", thresholds=(0.1,), draws=10
    )
    plain = run(
        held, models, reference="clinical_kl", horizons=(4.0, 8.0, 9.0, 10.0), draws=10,
        extrapolated={10.0: True},
    )  # fmt: skip
    pd.testing.assert_frame_equal(found.table, plain.table, atol=1e-9)
    groups = pd.DataFrame({"side": [str(i)[-1] for i in held.ids]}, index=held.ids)
    table = subgroups_of(made, held, groups, model="clinical", draws=3).table
    assert set(table["level"]) == {"everyone", "L", "R"}


def test_predictions_of_fitted_joints_are_refused() -> None:
    held, models = ladder()
    made = prognosis(held, models)
    seen = made.cif["set"].to_numpy().copy()
    seen[0] = "train"
    object.__setattr__(made, "cif", made.cif.assign_coords({"set": ("joint", seen)}))
    with pytest.raises(InputError, match=f"joint {held.ids[0]} was fitted on"):
        increments_of(made, held)
    with pytest.raises(InputError, match="models: 'wrong'; the prognosis holds clinical"):
        increments_of(made, held, ladder=["clinical", "wrong"])
    with pytest.raises(InputError, match="model: 'wrong'"):
        subgroups_of(made, held, pd.DataFrame(index=held.ids), model="wrong")
    with pytest.raises(InputError, match="twice; accepted is one row a joint"):
        increments_of(made, twice(held))
    other, _ = cohort(5, [], seed=99)
    renamed = other.with_rows(np.zeros(2, dtype=int))
    with pytest.raises(InputError, match="no prediction of"):
        increments_of(made, renamed)


def test_bad_ladders_are_refused() -> None:
    held, models = ladder()
    with pytest.raises(InputError, match="ladder: 'wrong'; accepted are clinical, clinical_kl"):
        run(held, models, ladder=["clinical", "wrong"])
    with pytest.raises(InputError, match="at least two models, each once"):
        run(held, models, ladder=["clinical"])
    with pytest.raises(InputError, match="reference: 'wrong'"):
        run(held, models, reference="wrong")
    with pytest.raises(InputError, match="horizons"):
        run(held, models, horizons=(8.0, 4.0))
    with pytest.raises(InputError, match="increments: no step of 'wrong'"):
        run(held, models, draws=2).rows("wrong", kind=STEP)
