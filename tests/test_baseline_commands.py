"""Baselines by their commands: embeddings without an encoder, and encoders that learn a few labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark.__main__ import main
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_biomarkers.evaluation.labels import LabelDraws

pytestmark = pytest.mark.multiproc


def options(demo: Path, *names: str) -> list[str]:
    return [word for name in names for word in (f"--{name}", str(demo / name))]


def test_the_teacher_and_radiomics_are_embeddings_like_others(demo: Path, tmp_path: Path) -> None:
    run = str(demo / "runs" / "distil")
    cohort = options(demo, "cohort")
    assert main(["embed", *cohort, "--teacher", run, "--out", str(tmp_path / "teacher")]) == 0
    words = [*cohort, *options(demo, "split"), "--radiomics", "--out", str(tmp_path / "radiomics")]
    assert main(["embed", *words]) == 0
    assert main(["embed", *words]) == 0
    of = open_embeddings(demo / "embeddings" / "distilled")
    for name in ("teacher", "radiomics"):
        found = open_embeddings(tmp_path / name)
        assert found.attrs["objective"] == name
        assert found.attrs["split_hash"] == of.attrs["split_hash"]
        assert list(found["scan_id"].values) == list(of["scan_id"].values)
        assert (found["set"].values == of["set"].values).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--radiomics"], "--radiomics is fitted on training subjects: give --split SPLIT too"),
        ([], "give --run RUN, or one baseline"),
        (["--radiomics", "--voxel_pca", "4"], "--voxel_pca and --radiomics: give one of them"),
        (["--radiomics", "--run", "R"], "give --run RUN, or one baseline"),
    ],
)
def test_what_does_not_go_together_is_said(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "e")]
    assert main(["embed", "--cohort", str(tmp_path / "c"), *words, *out]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_fine_tuned_predictions_are_of_the_probes_own_labels_and_scans(
    demo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    words = [
        *options(demo, "cohort", "split"),
        *("--run", str(demo / "runs" / "ssl"), "--truth", str(demo / "phantom" / "truth")),
        *("--steps", "3", "--marks", "0", "--threads", "1", "--labels", "[10, all]"),
        *("--draws", "2", "--out", str(out)),
    ]
    assert main(["finetune", *words]) == 0
    assert main(["finetune", *words]) == 0
    found = pd.read_parquet(out / "finetuned.parquet")
    assert list(found) == ["scan_id", "target", "labels", "draw", "seed", "prediction"]
    assert np.isfinite(found["prediction"]).all()
    assert not found.duplicated(["scan_id", "target", "labels", "draw"]).any()
    per_fit = found.groupby(["labels", "draw"]).size()
    assert set(per_fit.index) == {("10", 0), ("10", 1), ("all", 0)}
    assert per_fit.nunique() == 1
    of = open_embeddings(demo / "embeddings" / "ssl")
    held = of["scan_id"].values[(of["set"].values == "test") & (of["rank"].values == 0)]
    assert set(found["scan_id"]) == set(held)
    assert not (out / "pieces").exists()


def test_the_labelled_joints_are_those_of_the_probe(demo: Path) -> None:
    from spinmark.finetuning import fits, plan_fits
    from spinmark_data.cohort.reader import Cohort

    of = open_embeddings(demo / "embeddings" / "ssl")
    columns = ["scan_id", "subject_id", "laterality", "visit", "joint_id", "days", "rank", "site"]
    scans = pd.DataFrame({name: of[name].values for name in [*columns, "set"]})
    cohort = Cohort.open(demo / "cohort")
    options = {"labels": [10, "all"], "draws": 2, "seed": 4, "on": "test"}
    plan = plan_fits(cohort, scans, ["WOMKP", "SEX"], None, **options)
    kept = scans[scans["set"].isin(["train", "test"]) & (scans["rank"] == 0)].reset_index(drop=True)
    draws = LabelDraws(kept, draws=2, seed=4)
    for labels, draw, known, scored in fits(plan):
        assert set(scans.set_index("scan_id").loc[known.index, "set"]) == {"train"}
        for name in known:
            target = next(c.target for c in plan.cells if c.target.name == name)
            budget = None if labels == "all" else int(labels)
            rows = draws.rows(target.known, budget, draw=draw)
            assert set(known[name].dropna().index) == set(kept["scan_id"][rows])
            assert set(scored.index[scored[name]]) <= set(kept["scan_id"][kept["set"] == "test"])


def test_without_targets_it_says_what_is_missing(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*options(demo, "cohort", "split"), "--run", str(demo / "runs" / "ssl")]
    assert main(["finetune", *words, "--out", str(tmp_path / "none")]) == 1
    assert "--targets is empty; name variables of the cohort, or give" in capsys.readouterr().err
