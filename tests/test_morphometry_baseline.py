"""Measures of label maps as the structural baseline: in designs, evaluations and reports."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer

from spinmark import artefacts, designs, scoring
from spinmark.__main__ import main
from spinmark.commands.prognose import MODELS
from spinmark.errors import InputError
from spinmark.report.sections import STRUCTURAL
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_biomarkers.phenotypes.store import read_phenotypes
from spinmark_data.cohort.amend import amend
from spinmark_data.cohort.reader import Cohort
from spinmark_data.features import DEFAULT_ROLES
from spinmark_data.morphometry.shape import ShapeModel
from spinmark_data.morphometry.shape_store import KEY, describe_modes, write_modes
from spinmark_training.config import TeacherConfig

pytestmark = pytest.mark.multiproc
MODEL = ["clinical", "morphometry"]
ARM = "morphometry"


@pytest.fixture(scope="module")
def measured(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's cohort with the measures of the phantom's own label maps, all but one."""
    folder = tmp_path_factory.mktemp("measured")
    out, maps = folder / "cohort", folder / "maps"
    shutil.copytree(demo / "cohort", out)
    shutil.copytree(demo / "phantom" / "truth" / "labels", maps)
    min(maps.glob("*_V00_*")).unlink()
    words = ["measure", str(out), "--maps", str(maps), "--label_maps.codes", "phantom"]
    assert main([*words, "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def evaluation(demo: Path, measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "evaluation"
    assert main([*evaluate(demo, measured), "--out", str(out)]) == 0
    return out


def evaluate(demo: Path, cohort: Path) -> list[str]:
    return [
        *("evaluate", "--preset", "smoke", "--truth", str(demo / "phantom" / "truth")),
        *("--cohort", str(cohort), "--split", str(demo / "split"), "--seed", "3"),
        *("--embeddings.distilled", str(demo / "embeddings" / "distilled")),
        *("--embeddings.ssl", str(demo / "embeddings" / "ssl")),
    ]


def metrics(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text()))


def held(demo: Path, vectors: Any) -> scoring.Held:
    truth = pd.read_parquet(demo / "phantom" / "truth" / "scans.parquet")
    return scoring.held_out(vectors, truth, ["bone", "cartilage"], "test")


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "none is named"),
        ([[]], "is empty"),
        ([["clinical", "clinical"]], "names a block twice"),
        ([["clinical"], ["shape"]], "'shape' is no block; accepted are lists of clinical, kl"),
        ([["clinical", "kl"], ["kl", "clinical"]], "is named twice"),
    ],
)
def test_models_that_cannot_be_made_are_refused(models: list[list[str]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        designs.check_models(models)


def test_no_default_lets_label_maps_into_the_clinical_table() -> None:
    assert ARM not in {block for model in MODELS for block in model}
    for roles in (DEFAULT_ROLES, designs.CLINICAL_ROLES, TeacherConfig().roles):
        assert "morphometric" not in roles


def test_a_design_holds_the_measures_of_each_joints_first_scan(demo: Path, measured: Path) -> None:
    cohort, vectors = Cohort.open(measured), open_embeddings(demo / "embeddings" / "distilled")
    frame = designs.designs(cohort, vectors, [[ARM]])[ARM]
    table = cohort.table(ARM)
    first: dict[str, tuple[float, str]] = {}
    for joint, rank, days, visit in zip(
        *(vectors[name].to_numpy() for name in ("joint_id", "rank", "days", "visit")), strict=True
    ):
        if rank == 0:
            first[str(joint)] = min(first.get(str(joint), (np.inf, "")), (float(days), str(visit)))
    rows = {
        (f"{row['subject_id']}:{row['laterality']}", row["visit"]): row
        for row in table.to_dict("records")
    }
    expected = {
        joint: rows[joint, visit] for joint, (_, visit) in first.items() if (joint, visit) in rows
    }
    assert set(frame.index) == set(expected)
    assert 0 < len(frame) < len(first)
    assert len(frame.columns) == len(table.columns) - 3
    for column in frame.columns:
        values = [expected[joint][column.removeprefix("morphometry_")] for joint in frame.index]
        np.testing.assert_array_equal(frame[column].to_numpy(), values)


def test_the_other_models_are_as_they_were_without_measures(demo: Path, measured: Path) -> None:
    vectors = open_embeddings(demo / "embeddings" / "distilled")
    labels = read_phenotypes(demo / "phenotypes").to_dataset()
    before = designs.designs(Cohort.open(demo / "cohort"), vectors, MODELS, phenotypes=labels)
    after = designs.designs(Cohort.open(measured), vectors, [*MODELS, MODEL], phenotypes=labels)
    names = set(Cohort.open(measured).table(ARM).columns[3:])
    for name, frame in before.items():
        pd.testing.assert_frame_equal(after[name], frame)
        assert not names & set(frame.columns)
    both = after["clinical_morphometry"]
    pd.testing.assert_frame_equal(
        both[list(before["clinical"])], before["clinical"].loc[both.index]
    )


def test_without_measures_the_command_that_makes_them_is_named(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prognose", "--preset", "morphometry", "--out", str(tmp_path / "p")]
    for name in ("cohort", "phenotypes"):
        words += [f"--{name}", str(demo / name)]
    assert main([*words, "--embeddings", str(demo / "embeddings" / "distilled")]) == 1
    assert "no measures of label maps; run `spinmark measure`" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_an_evaluation_gains_the_arm_and_nothing_else_changes(demo: Path, evaluation: Path) -> None:
    before, after = metrics(demo / "evaluation"), metrics(evaluation)
    assert ARM not in before
    assert ARM not in before["probe_r2"]
    for block in ("probe_r2", "probe_r2_mean", "site_balanced_accuracy"):
        shared = {"distilled", "ssl", "table"}
        assert set(after[block]) == {*shared, ARM}
        assert all(after[block][name] == before[block][name] for name in shared)
    gap = after["probe_r2_mean_difference"]["distilled - morphometry"]
    means = after["probe_r2_mean"]
    assert gap["value"] == pytest.approx(means["distilled"]["value"] - means[ARM]["value"])
    counts = after[ARM]
    assert 0 < counts["measured"] <= counts["scans"] == means[ARM]["n"]


def test_gaps_of_the_arm_are_filled_from_training_subjects(demo: Path, measured: Path) -> None:
    cohort, vectors = Cohort.open(measured), open_embeddings(demo / "embeddings" / "distilled")
    rows = held(demo, vectors)
    found = scoring.structural_baseline(cohort, rows)
    assert found is not None
    joined = rows.scans[scoring.KEYS].merge(cohort.table(ARM), on=scoring.KEYS, how="left")
    values = joined.drop(columns=scoring.KEYS).to_numpy()
    assert np.isnan(values).any()
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(values[rows.fit])
    expected = imputer.transform(values)
    # The same columns, an indicator beside its variable here and at the end there.
    assert found.matrix.shape == expected.shape
    for column in expected.T:
        assert (np.abs(found.matrix - column[:, None]).max(0) < 1e-9).any()


def test_what_label_maps_of_test_subjects_say_moves_nothing_that_is_fitted(
    demo: Path, measured: Path
) -> None:
    vectors = open_embeddings(demo / "embeddings" / "distilled")
    cohort, rows = Cohort.open(measured), held(demo, vectors)
    test = set(rows.subjects[rows.test])

    class Changed:
        """The cohort with other label maps of the test subjects."""

        manifest = cohort.manifest
        generation = cohort.generation

        def table(self, name: str) -> pd.DataFrame:
            frame = cohort.table(name)
            if name == ARM:
                theirs = frame["subject_id"].isin(test)
                frame.loc[theirs, frame.columns[3:]] *= 1000
            return frame

    before, after = (scoring.structural_baseline(c, rows) for c in (cohort, Changed()))  # type: ignore[arg-type]
    assert before is not None
    assert after is not None
    others = ~np.isin(rows.subjects, list(test))
    np.testing.assert_array_equal(before.matrix[others], after.matrix[others])
    assert (before.matrix[rows.test] != after.matrix[rows.test]).any()


def test_shapes_that_were_learnt_from_test_subjects_are_refused(
    demo: Path, measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, vectors = tmp_path / "cohort", open_embeddings(demo / "embeddings" / "distilled")
    shutil.copytree(measured, folder)
    rows = held(demo, vectors)

    def learn_from(subjects: list[str], shift: float) -> None:
        fields = np.random.default_rng(0).normal(size=(len(subjects), 20)).astype(np.float32)
        model = ShapeModel.fit("femur", fields, subjects, subjects, 2)
        modes = describe_modes({"femur": model}, {"split": "x", "settings": {}, "version": 1})

        def change(now: Cohort) -> dict[str, pd.DataFrame]:
            write_modes(now.folder, modes)
            dictionary, table = now.table("dictionary"), now.table(ARM)
            row = dictionary[dictionary["variable"] == "VOL_FEMUR"].assign(variable="SHAPE_FEMUR_1")
            kept = dictionary[dictionary["variable"] != "SHAPE_FEMUR_1"]
            scored = table.assign(SHAPE_FEMUR_1=shift + np.arange(len(table), dtype=float))
            return {ARM: scored, "dictionary": pd.concat([kept, row], ignore_index=True)}

        amend(folder, change, {KEY: modes.record})

    train = sorted(set(rows.subjects[rows.fit]))
    stray = sorted(set(rows.subjects[rows.test]))[0]
    learn_from([*train, stray], 0.0)
    wrong = Cohort.open(folder)
    for refused in (
        lambda: designs.designs(wrong, vectors, [MODEL]),
        lambda: scoring.structural_baseline(wrong, rows),
    ):
        with pytest.raises(InputError, match=rf"fitted on 1 held-out subjects, such as {stray}"):
            refused()
    learn_from(train, 1.0)
    right = Cohort.open(folder)
    assert "morphometry_SHAPE_FEMUR_1" in designs.designs(right, vectors, [MODEL])["_".join(MODEL)]
    assert scoring.structural_baseline(right, rows) is not None


def test_a_report_says_what_the_arm_is(
    demo: Path, measured: Path, evaluation: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    words = ["--cohort", str(measured), "--evaluation", str(evaluation), "--out", str(page)]
    assert main(["report", *words]) == 0
    text = page.read_text()
    assert STRUCTURAL in text
    assert "distilled - morphometry" in text
    assert STRUCTURAL not in (demo / "report.html").read_text()


def test_the_true_hazard_is_scored_on_the_joints_of_the_prognosis(demo: Path) -> None:
    scores = metrics(demo / "evaluation")["prognosis"]
    rows = pd.read_parquet(demo / "prognosis" / "metrics.parquet").query("metric == 'c_index'")
    assert set(rows["n"]) == {scores["c_index"]["truth"]["n"]}
    assert set(rows["n_events"]) == {scores["n_events"]}


def _defined(demo: Path, folder: Path, endpoints: dict[str, Any], chosen: str) -> list[str]:
    """A definition, and a copy of the demo's prognosis that says it was made with it."""
    definition, prognosis = folder / "definition", folder / "prognosis"
    words = ["--cohort", str(demo / "cohort"), "--out", str(definition)]
    criteria = json.dumps([{"name": "no women", "unit": "subject", "include": "SEX == 1"}])
    words += ["--criteria", criteria, "--endpoints", json.dumps(endpoints)]
    assert main(["define", *words]) == 0
    shutil.copytree(demo / "prognosis", prognosis)
    record = json.loads((prognosis / "run.json").read_text())
    record["config"]["endpoint"] = chosen
    record["inputs"]["definition"] = artefacts.content_hash(definition)
    (prognosis / "run.json").write_text(json.dumps(record))
    risk = pd.read_parquet(prognosis / "risk.parquet")
    # As if every fourth joint had no measures, and so no prediction.
    risk[np.arange(len(risk)) % 4 > 0].to_parquet(prognosis / "risk.parquet")
    return ["--prognosis", str(prognosis), "--definition", str(definition)]


def test_a_prognosis_is_scored_against_the_outcomes_that_it_was_made_with(
    demo: Path, tmp_path: Path
) -> None:
    given = _defined(demo, tmp_path, {"new_knee": {"definition": "replacement"}}, "new_knee")
    out = tmp_path / "e"
    assert main([*evaluate(demo, demo / "cohort"), *given, "--out", str(out)]) == 0
    scores = metrics(out)["prognosis"]
    rows = pd.read_parquet(tmp_path / "definition" / "endpoints" / "outcomes.parquet")
    sets = open_embeddings(demo / "embeddings" / "distilled")
    test = sets["subject_id"].to_numpy()[sets["set"].to_numpy() == "test"]
    known = pd.read_parquet(tmp_path / "prognosis" / "risk.parquet").index
    rows = rows[rows["subject_id"].isin(test) & rows["joint_id"].isin(known)]
    truth = pd.read_parquet(demo / "phantom" / "truth" / "joints.parquet")
    rows = rows.merge(truth, on=["subject_id", "laterality"])
    time = (rows["lower"] + rows["upper"].where(rows["cause"] == "event", rows["lower"])) / 2
    found = list(zip(time, rows["cause"] == "event", rows["log_hazard_ratio"], strict=True))
    pairs = [(a, b) for a in found for b in found if a[1] and a[0] < b[0]]
    won = [(a[2] > b[2]) + 0.5 * (a[2] == b[2]) for a, b in pairs]
    assert scores["n_events"] == int((rows["cause"] == "event").sum()) > 0
    assert scores["c_index"]["truth"]["n"] == len(rows)
    assert scores["c_index"]["truth"]["value"] == pytest.approx(sum(won) / len(won))


def test_time_runs_from_each_joints_entry() -> None:
    keys = {"subject_id": list("abcd"), "laterality": "R"}
    scored = pd.DataFrame(keys)
    truth = scored.assign(log_hazard_ratio=[4.0, 3.0, 2.0, 1.0])
    entry = np.array([900.0, 600.0, 300.0, 0.0])
    days = entry + np.array([100, 200, 300, 400])
    outcomes = scored.assign(entry=entry, lower=days, upper=days, cause="event")
    rows = pd.DataFrame(columns=["metric", "model", "value", "low", "high", "n"])
    found = scoring.prognosis_scores(rows, outcomes, truth, scored, draws=5, seed=0)
    # Highest hazard first since entry, and last since enrolment.
    assert found["c_index"]["truth"]["value"] == 1.0


def test_a_prognosis_of_what_the_truth_does_not_hold_is_refused(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = _defined(demo, tmp_path, {"kl_progression": {}}, "kl_progression")
    words = [*evaluate(demo, demo / "cohort"), "--out", str(tmp_path / "e")]
    assert main([*words, *given]) == 1
    told = capsys.readouterr().err
    assert "of the endpoint 'kl_progression'" in told
    assert "accepted is a prognosis of that, or leave --prognosis out" in told
    assert main([*words, *given[:2]]) == 1
    assert "give that one as --definition" in capsys.readouterr().err
    assert main([*words, "--prognosis", str(demo / "prognosis"), *given[2:]]) == 1
    assert "leave --definition out" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_an_option_without_effect_is_not_among_the_settings(demo: Path) -> None:
    config = artefacts.read(demo / "prognosis", "prognosis")["config"]
    assert not {"definition", "crossfit"} & set(config)
    assert config["models"] == [list(model) for model in MODELS]
    assert "definition" not in artefacts.read(demo / "evaluation", "evaluation")["config"]


@pytest.mark.slow
def test_models_with_morphometry_are_fitted_scored_and_shown(
    demo: Path, measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--cohort", str(measured), "--phenotypes", str(demo / "phenotypes")]
    common += ["--embeddings", str(demo / "embeddings" / "distilled")]
    made, models = tmp_path / "p", "[[morphometry], [embedding], [morphometry, embedding]]"
    words = ["prognose", "--preset", "smoke", *common, "--models", models, "--out", str(made)]
    words += ["--reference", ARM, "--morphometry_components", "3"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "joints were measured at their first scan" in told
    rows = pd.read_parquet(made / "metrics.parquet").set_index("metric")["model"]
    assert set(rows["c_index_gain_over_morphometry"]) == {"embedding", "morphometry_embedding"}
    config = artefacts.read(made, "prognosis")["config"]
    assert config["morphometry_components"] == 3
    out, page = tmp_path / "e", tmp_path / "report.html"
    words = [*evaluate(demo, measured), "--prognosis", str(made), "--out", str(out)]
    assert main(words) == 0
    scores = metrics(out)["prognosis"]["c_index"]
    assert set(scores) == {ARM, "embedding", "morphometry_embedding", "truth"}
    assert len({item["n"] for item in scores.values()}) == 1
    assert main(["report", *common, "--prognosis", str(made), "--out", str(page)]) == 0
    assert STRUCTURAL in page.read_text()
    assert "Model morphometry_embedding" in page.read_text()
