import json
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split, split_hash
from spinmark_models.config import ClinicalEncoderConfig, EncoderConfig, ProjectionConfig
from spinmark_training.config import (
    DataConfig,
    DistilConfig,
    MonitorConfig,
    OptimConfig,
    PretrainConfig,
    TeacherConfig,
    TrainerConfig,
    TransferConfig,
)
from spinmark_training.distil import distil, shuffled_rows
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain
from spinmark_training.teacher import load_teacher

COMMON = {
    "data": DataConfig(subjects_per_batch=5),
    "encoder": EncoderConfig(widths=(4, 8), embedding=8),
    "projection": ProjectionConfig(hidden=8, out=8),
    "trainer": TrainerConfig(checkpoint_every_steps=2, log_every=1),
    "monitor": MonitorConfig(every=0, variables=("WORN",), max_scans=8),
}
TEACHER = TeacherConfig(encoder=ClinicalEncoderConfig(hidden=8, latent=3, token=2), steps=5)


def config(steps: int = 3, **changes: object) -> DistilConfig:
    values = {**COMMON, "teacher": TEACHER, "optim": OptimConfig(steps=steps), **changes}
    return DistilConfig(**values)  # type: ignore[arg-type]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "encoder" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    cohort, split = write(tmp_path_factory.mktemp("cohort") / "cohort")
    return cohort, split


@pytest.fixture(scope="module")
def base(tiny: tuple[Cohort, Split], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "base"
    pretrain(*tiny, PretrainConfig(optim=OptimConfig(steps=2), **COMMON), out)  # type: ignore[arg-type]
    return out


def frame(counts: list[tuple[int, int]]) -> pd.DataFrame:
    """Scans of subjects with so many visits of the right and of the left knee, the first one twice."""
    rows = [
        (f"S{i:02d}", side, f"V{v:02d}", 100.0 * v, rank)
        for i, pair in enumerate(counts)
        for side, visits in zip("RL", pair, strict=True)
        for v in range(visits)
        for rank in range(2 if v == 0 else 1)
    ]
    return pd.DataFrame(rows, columns=["subject_id", "laterality", "visit", "days", "rank"])


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any), min_size=2, max_size=12
    ),
    seed=st.integers(0, 99),
)
def test_everybody_gets_somebody_elses_tables(counts: list[tuple[int, int]], seed: int) -> None:
    scans = frame(counts).sample(frac=1, random_state=seed).reset_index(drop=True)
    rows = np.flatnonzero(scans["rank"].to_numpy() >= 0)
    given_rows = shuffled_rows(scans, rows, seed)
    own, theirs = scans.iloc[rows].reset_index(), scans.iloc[given_rows].reset_index()
    assert (own["subject_id"] != theirs["subject_id"]).all()
    donors = pd.Series(theirs["subject_id"].to_numpy()).groupby(own["subject_id"]).unique()
    assert donors.map(len).eq(1).all()
    assert donors.map(lambda found: found[0]).is_unique
    sides = scans.groupby("subject_id")["laterality"].agg(set)
    for mine, other in zip(own.itertuples(), theirs.itertuples(), strict=True):
        if mine.laterality in sides[other.subject_id]:
            assert mine.laterality == other.laterality


def test_where_all_have_the_same_visits_rows_only_change_hands() -> None:
    scans = frame([(2, 2)] * 9)
    rows = np.flatnonzero(scans["rank"].to_numpy() == 0)
    taken = shuffled_rows(scans, rows, 4)
    assert sorted(taken) == sorted(rows)
    for column in ("laterality", "visit"):
        assert (scans[column].to_numpy()[taken] == scans[column].to_numpy()[rows]).all()
    assert np.array_equal(taken, shuffled_rows(scans, rows, 4))
    assert not np.array_equal(taken, shuffled_rows(scans, rows, 5))
    with pytest.raises(InputError, match="shuffle_tables: 1 training subject"):
        shuffled_rows(scans, rows[:4], 0)


def test_the_control_never_leaves_the_training_subjects() -> None:
    scans = frame([(2, 2)] * 9)
    rows = np.flatnonzero(scans["subject_id"].isin(["S01", "S03", "S07"]).to_numpy())
    assert set(shuffled_rows(scans, rows, 0)) <= set(rows)


def test_the_same_seed_gives_the_same_weights(
    tiny: tuple[Cohort, Split], base: Path, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    summary = distil(
        *tiny, base, config(), tmp_path / "a", progress=lambda *pair: done.append(pair)
    )
    distil(*tiny, base, config(), tmp_path / "b")
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", base)
    assert done[-1] == (3, 3)
    assert summary.steps == 3
    assert {"loss_ssl", "loss_clip", "chance_clip", "loss_rkd_distance"} <= set(summary.rows[-1])
    row = summary.rows[-1]
    total = row["loss_ssl"] + 2 * row["loss_clip"] + row["loss_rkd_distance"]
    assert row["loss"] == pytest.approx(total, rel=1e-5)
    teacher = load_teacher(tmp_path / "a" / "teacher")
    assert set(teacher.subjects) == set(tiny[1].subjects("train"))
    page = json.loads((tmp_path / "a" / "encoder" / "encoder.json").read_text())
    assert page["extra"]["uses"] == sorted(teacher.encoder.schema.names)


def test_without_steps_the_encoder_is_that_of_the_run(
    tiny: tuple[Cohort, Split], base: Path, tmp_path: Path
) -> None:
    distil(*tiny, base, config(steps=0), tmp_path / "none")
    assert same(tmp_path / "none", base)
    page = json.loads((tmp_path / "none" / "encoder" / "encoder.json").read_text())
    assert page["extra"]["uses"] == []


def test_the_control_changes_the_weights_and_not_the_teacher(
    tiny: tuple[Cohort, Split], base: Path, tmp_path: Path
) -> None:
    distil(*tiny, base, config(), tmp_path / "real")
    distil(*tiny, base, config(shuffle_tables=True), tmp_path / "control")
    assert not same(tmp_path / "real", tmp_path / "control")
    for name in ("model.safetensors", "clinical.json", "teacher.json"):
        files = [(tmp_path / run / "teacher" / name).read_bytes() for run in ("real", "control")]
        assert files[0] == files[1]


def test_without_its_weights_the_tables_do_not_matter(
    tiny: tuple[Cohort, Split], base: Path, tmp_path: Path
) -> None:
    for name, shuffle in (("real", False), ("control", True)):
        alone = config(transfer=TransferConfig(terms={}), shuffle_tables=shuffle)
        distil(*tiny, base, alone, tmp_path / name)
    assert same(tmp_path / "real", tmp_path / "control")


def test_a_cosine_term_is_taken(tiny: tuple[Cohort, Split], base: Path, tmp_path: Path) -> None:
    summary = distil(
        *tiny,
        base,
        config(transfer=TransferConfig(terms={"clip": 2.0, "cosine": 1.0}), steps=1),
        tmp_path / "run",
    )
    assert 0 <= summary.rows[-1]["loss_cosine"] <= 4


def test_an_encoder_that_saw_held_out_subjects_is_refused(
    tiny: tuple[Cohort, Split], base: Path, tmp_path: Path
) -> None:
    cohort, split = tiny
    changed = split.frame.copy()
    changed.loc[changed["subject_id"] == "9002", "set"] = "test"
    other = Split(frame=changed, hash=split_hash(changed))
    with pytest.raises(InputError, match="learnt from subject 9002"):
        distil(cohort, other, base, config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
