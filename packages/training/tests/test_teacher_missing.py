"""Readout, calibration and the report on missing cells."""

import json
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
import torch

from spinmark_data.features import ClinicalTable
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_training.config import TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.teacher import Teacher, fit_encoder, fit_teacher, load_teacher
from spinmark_training.teacher.calibration import calibration_error
from spinmark_training.teacher.figure import missing_figure
from spinmark_training.teacher.missing import missing_report
from spinmark_training.teacher.readout import fit_readout

SEQUENCE = "SAG_3D_DESS"
PRETEXTS = ("hide", "vime", "scarf", "supervised")


def planted(seed: int, n: int) -> ClinicalTable:
    """Eight numbers and two categories that follow from two latents, a tenth of the cells missing."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(0).normal(size=(2, 8))
    latent = rng.normal(size=(n, 2))
    values = np.column_stack(
        [latent @ loadings + 0.3 * rng.normal(size=(n, 8)), (latent > 0.5).astype(float)]
    )
    values[rng.random(values.shape) < 0.1] = np.nan
    names = [f"X{i}" for i in range(10)]
    return ClinicalTable(
        values=pd.DataFrame(values, columns=names),
        dictionary=pd.DataFrame(
            {
                "variable": names,
                "kind": ["continuous"] * 8 + ["binary", "nominal"],
                "role": ["symptom"] * 5 + ["function"] * 5,
            }
        ),
    )


def make(config: TeacherConfig, table: ClinicalTable, seed: int = 0) -> Teacher:
    encoder = fit_encoder(table, config, seed)
    rows = encoder.schema.encode(table.values.to_numpy(), list(table.values.columns))
    bare = Teacher(encoder, (), np.zeros(0), np.zeros(0), config, seed)
    raw = bare.raw_latents(rows).numpy().astype(np.float64)
    readout = fit_readout(encoder, rows, config.steps, config.rows, seed)
    return Teacher(encoder, (), raw.mean(axis=0), raw.std(axis=0), config, seed, readout)


@pytest.fixture(scope="module")
def taught() -> tuple[Teacher, ClinicalTable]:
    train = planted(1, 400)
    settings = TeacherConfig(
        encoder=ClinicalEncoderConfig(hidden=32, latent=4), steps=300, rows=128
    )
    return make(settings, train), train


@pytest.mark.parametrize("pretext", PRETEXTS)
def test_an_empty_row_is_predicted_to_be_like_the_training_rows(pretext: str) -> None:
    train = planted(1, 200)
    network = ClinicalEncoderConfig(hidden=16, latent=4, token=4, pretext=pretext)  # type: ignore[arg-type]
    teacher = make(TeacherConfig(encoder=network, steps=30, rows=64), train)
    empty = ClinicalTable(train.values.iloc[:3] * np.nan, train.dictionary)
    found = teacher.predict(empty)
    schema = teacher.encoder.schema
    for j, name in enumerate(schema.names):
        seen = train.values[name].dropna().to_numpy()
        if schema.categories[j]:
            counts = np.array([(seen == c).sum() for c in schema.categories[j]]) + 0.5
            expected = np.tile(counts / counts.sum(), (3, 1))
        else:
            scaled = ((seen - schema.centres[j]) / schema.scales[j]).clip(-5, 5)
            expected = np.full(3, scaled.mean() * schema.scales[j] + schema.centres[j])
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)


def test_shown_rows_are_predicted_better_than_by_a_constant(
    taught: tuple[Teacher, ClinicalTable],
) -> None:
    teacher, _ = taught
    held_out = planted(2, 200)
    found = teacher.predict(held_out)
    truth = held_out.values["X0"].to_numpy()
    seen = ~np.isnan(truth)
    off = np.mean((found["X0"][seen] - truth[seen]) ** 2) / np.var(truth[seen])
    assert off < 0.5
    assert found["X8"].shape == (200, 2)
    np.testing.assert_allclose(found["X8"].sum(axis=1), 1, atol=1e-6)


def test_the_report_says_what_missing_cells_cost(taught: tuple[Teacher, ClinicalTable]) -> None:
    teacher, train = taught
    report = missing_report(teacher, train, planted(2, 300), 0)
    overall = report[report["variable"] == ""].pivot(
        index="hidden", columns="metric", values="value"
    )
    assert set(overall.index) == {"0", "0.25", "0.5", "0.75", "1", "symptom", "function"}
    losses = overall.loc[["0", "0.25", "0.5", "0.75", "1"], "loss"].to_numpy()
    assert (np.diff(losses) > 0).all()
    assert losses[0] < 0.5 * overall.loc["0", "loss_constant"]
    # With every cell hidden it is the constant, exactly.
    assert overall.loc["1", "loss"] == pytest.approx(overall.loc["1", "loss_constant"], abs=1e-6)
    assert overall.loc["1", "brier"] == pytest.approx(overall.loc["1", "brier_constant"], abs=1e-6)
    assert overall.loc["1", "r2"] == pytest.approx(0, abs=1e-6)
    assert overall.loc["1", "latent_r2"] <= 0
    kept = overall.loc[["0", "0.25", "0.5", "0.75"], "latent_r2_linear"].to_numpy()
    assert (np.diff(kept) < 0).all()
    assert kept[0] > 0.8
    # Intervals hold what they promise, and probabilities are right as often as they say.
    assert overall["coverage_90"].dropna().between(0.84, 0.96).all()
    assert (overall["ece"].dropna() < 0.1).all()
    for role in ("symptom", "function"):
        assert overall.loc[role, "loss"] < overall.loc[role, "loss_constant"]
    pd.testing.assert_frame_equal(report, missing_report(teacher, train, planted(2, 300), 0))
    assert len(missing_figure(report).axes) == 4


def test_calibration_error_by_hand() -> None:
    sure = torch.tensor([0.55, 0.6, 0.95, 1.0], dtype=torch.float64)
    right = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    # Bins (0.5, 0.6] and (0.9, 1]: |1.15 - 1| and |1.95 - 2|, over four guesses.
    assert calibration_error(sure, right) == pytest.approx((0.15 + 0.05) / 4)


def test_an_encoder_that_learnt_on_is_not_read_by_the_old_readout() -> None:
    train = planted(1, 100)
    settings = TeacherConfig(encoder=ClinicalEncoderConfig(hidden=8, latent=3, token=2), steps=5)
    teacher = make(settings, train)
    teacher.predict(train)
    with torch.no_grad():
        teacher.encoder.missing.add_(0.5)
    with pytest.raises(InputError, match="has learnt since its readout was fitted"):
        teacher.predict(train)


def test_the_report_is_kept_with_the_teacher(tmp_path: Path) -> None:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    tiny = write(tmp_path / "cohort")
    network = ClinicalEncoderConfig(hidden=8, latent=3, token=2)
    settings = TeacherConfig(encoder=network, steps=5, missing=0.25)
    teacher = fit_teacher(*tiny, SEQUENCE, settings, 3, out=tmp_path / "teacher")
    report = pd.read_csv(tmp_path / "teacher" / "missing.csv")
    assert list(report.columns) == ["kind", "hidden", "metric", "variable", "value", "n"]
    assert (tmp_path / "teacher" / "missing.png").stat().st_size > 1000
    page = json.loads((tmp_path / "teacher" / "teacher.json").read_text())
    assert page["at_missing"]["1"]["loss"] == pytest.approx(
        page["at_missing"]["1"]["loss_constant"]
    )
    loaded = load_teacher(tmp_path / "teacher")
    assert (loaded.config.missing, loaded.seed) == (0.25, 3)
    rows = planted(0, 1)
    values = pd.DataFrame({name: [np.nan] for name in teacher.encoder.schema.names})
    for a, b in zip(
        loaded.predict(ClinicalTable(values, rows.dictionary)).values(),
        teacher.predict(ClinicalTable(values, rows.dictionary)).values(),
        strict=True,
    ):
        assert np.array_equal(a, b)
    (tmp_path / "teacher" / "readout.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"readout\.safetensors"):
        load_teacher(tmp_path / "teacher")
