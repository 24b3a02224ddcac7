"""Repeated visits: changes and sequences, and nothing of the future."""

from pathlib import Path
from runpy import run_path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_training.config import TeacherConfig
from spinmark_training.teacher import (
    Teacher,
    fit_teacher,
    load_teacher,
    teacher_latents,
    teacher_rows,
    teacher_table,
)

from .changed_cohort import Changed

SEQUENCE = "SAG_3D_DESS"
NET = ClinicalEncoderConfig(hidden=8, latent=3, token=2)
Visits = Literal["row", "delta", "sequence"]


def settings(visits: Visits, **changes: Any) -> TeacherConfig:
    return TeacherConfig(**{"encoder": NET, "steps": 4, "visits": visits, **changes})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    cohort, split = write(tmp_path_factory.mktemp("cohort") / "cohort")
    return cohort, split


def shaken(cohort: Cohort, visit: str) -> Changed:
    """The cohort with other cells at one visit."""
    tables = {}
    for name in ("joints", "visits"):
        frame = cohort.table(name)
        at = frame["visit"] == visit
        for column in frame.columns.difference(
            ["subject_id", "laterality", "visit", "joint_id", "days"]
        ):
            frame.loc[at, column] = frame.loc[at, column] * 3 + 1
        tables[name] = frame
    return Changed(cohort, **tables)


@pytest.mark.parametrize("visits", ["row", "delta", "sequence"])
def test_a_later_visit_changes_nothing(tiny: tuple[Cohort, Split], visits: Visits) -> None:
    cohort, split = tiny
    teacher = fit_teacher(cohort, split, SEQUENCE, settings(visits), 0)
    scans = cohort.scans(SEQUENCE)
    first = (scans["visit"] == "V00").to_numpy()
    plain = teacher_latents(teacher, cohort, split, scans)
    later = teacher_latents(teacher, shaken(cohort, "V03"), split, scans)
    assert np.array_equal(later[first], plain[first])
    assert not np.array_equal(later[~first], plain[~first])
    # An earlier visit tells of the later one, but for rows that stand alone.
    earlier = teacher_latents(teacher, shaken(cohort, "V00"), split, scans)
    assert np.array_equal(earlier[~first], plain[~first]) == (visits == "row")


def test_changes_are_those_since_the_first_visit(tiny: tuple[Cohort, Split]) -> None:
    cohort, _ = tiny
    scans = cohort.scans(SEQUENCE)
    values = teacher_table(cohort, scans, settings("delta")).values
    assert "AGE change" in values.columns
    assert "SEX change" not in values.columns
    assert "WORN change" not in values.columns
    for row in scans.itertuples():
        own = values.loc[row.scan_id]
        start = values.loc[row.scan_id.replace(":V03:", ":V00:")]
        expected = own["PAIN0"] - start["PAIN0"] if row.visit == "V03" else np.nan
        np.testing.assert_array_equal(own["PAIN0 change"], expected)


def test_what_was_taken_away_is_not_told_by_its_change(tiny: tuple[Cohort, Split]) -> None:
    cohort, _ = tiny
    scans = cohort.scans(SEQUENCE)
    values = teacher_table(cohort, scans, settings("delta", missing=0.5), 1).values
    later = scans["visit"].to_numpy() == "V03"
    start = values.reindex(values.index.str.replace(":V03:", ":V00:"))
    for name in ("PAIN0", "PAIN1", "AGE"):
        told = values[name + " change"].notna().to_numpy()
        both = values[name].notna().to_numpy() & start[name].notna().to_numpy() & later
        assert np.array_equal(told, both)


def test_a_sequence_holds_the_visits_up_to_its_own(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    teacher = fit_teacher(cohort, split, SEQUENCE, settings("sequence"), 0)
    scans = cohort.scans(SEQUENCE)
    rows = teacher_rows(teacher.encoder.schema, cohort, scans, teacher.config)
    assert rows.years is not None
    assert rows.numbers.shape == (len(scans), 2, len(teacher.encoder.schema.names))
    first = torch.tensor((scans["visit"] == "V00").tolist())
    assert not rows.observed[first, 0].any()
    assert torch.equal(rows.years[~first, 0], torch.ones(int((~first).sum())))
    start = scans["scan_id"].str.replace(":V03:", ":V00:")
    place = torch.tensor(scans.reset_index().set_index("scan_id").loc[start, "index"].tolist())
    assert torch.equal(rows.numbers[~first, 0], rows.numbers[place[~first], 1])
    assert torch.equal(rows.rows(torch.tensor([3])).years, rows.years[3:4])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("visits", "pretext"),
    [("delta", "hide"), *(("sequence", name) for name in ("hide", "vime", "scarf", "supervised"))],
)
def test_every_pretext_takes_visits_and_is_saved_whole(
    tiny: tuple[Cohort, Split], tmp_path: Path, visits: Visits, pretext: str
) -> None:
    cohort, split = tiny
    network = ClinicalEncoderConfig(hidden=8, latent=3, token=2, pretext=pretext)  # type: ignore[arg-type]
    config = settings(visits, encoder=network, steps=3)
    teacher: Teacher = fit_teacher(cohort, split, SEQUENCE, config, 5, out=tmp_path / "teacher")
    scans = cohort.scans(SEQUENCE)
    loaded = load_teacher(tmp_path / "teacher")
    assert loaded.config.visits == visits
    latents = teacher_latents(teacher, cohort, split, scans)
    assert np.isfinite(latents).all()
    assert np.array_equal(teacher_latents(loaded, cohort, split, scans), latents)
    again = fit_teacher(cohort, split, SEQUENCE, config, 5)
    assert np.array_equal(teacher_latents(again, cohort, split, scans), latents)
    report = pd.read_csv(tmp_path / "teacher" / "missing.csv", keep_default_na=False)
    last = report[(report["hidden"] == "1") & (report["variable"] == "")].set_index("metric")[
        "value"
    ]
    assert float(last["loss"]) == pytest.approx(float(last["loss_constant"]), abs=1e-6)
