from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.features import ClinicalTable
from spinmark_data.splits import Split, split_hash
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_training.config import TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.teacher import (
    fit_encoder,
    fit_teacher,
    load_teacher,
    reconstruction,
    teacher_latents,
)

SEQUENCE = "SAG_3D_DESS"
SMALL = TeacherConfig(
    encoder=ClinicalEncoderConfig(hidden=16, latent=4, token=4), steps=20, rows=32
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    cohort, split = write(tmp_path_factory.mktemp("cohort") / "cohort")
    return cohort, split


def planted(seed: int, n: int) -> ClinicalTable:
    """Eight numbers and two categories that follow from two latents, a tenth of the cells missing."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(0).normal(size=(2, 8))
    latent = rng.normal(size=(n, 2))
    values = np.column_stack(
        [latent @ loadings + 0.1 * rng.normal(size=(n, 8)), (latent > 0).astype(float)]
    )
    values[rng.random(values.shape) < 0.1] = np.nan
    names = [f"X{i}" for i in range(10)]
    return ClinicalTable(
        values=pd.DataFrame(values, columns=names),
        dictionary=pd.DataFrame(
            {"variable": names, "kind": ["continuous"] * 8 + ["binary", "nominal"]}
        ),
    )


def test_hidden_cells_of_new_rows_follow_from_the_rest() -> None:
    train, held_out = planted(1, 400), planted(2, 200)
    config = TeacherConfig(encoder=ClinicalEncoderConfig(hidden=64, latent=4), steps=300)
    encoder = fit_encoder(train, config, 0)
    loss, constant = reconstruction(encoder, train, held_out, 0)
    assert loss < 0.5 * constant
    untrained = fit_encoder(train, TeacherConfig(encoder=config.encoder, steps=0), 0)
    assert reconstruction(untrained, train, held_out, 0)[0] > 0.9 * constant


def test_constants_are_means_and_frequencies() -> None:
    values = pd.DataFrame({"A": [0.0, 2.0, 0.0, 2.0], "B": [0.0, 1.0, 1.0, 1.0]})
    table = ClinicalTable(
        values=values,
        dictionary=pd.DataFrame({"variable": ["A", "B"], "kind": ["continuous", "binary"]}),
    )
    config = TeacherConfig(
        encoder=ClinicalEncoderConfig(hidden=4, latent=2, corruption=0.9999), steps=0
    )
    encoder = fit_encoder(table, config, 0)
    # Every cell is hidden: Huber of 1 sd is 1/2, the entropy of (1/4, 3/4) is 0.5623 nats.
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert reconstruction(encoder, table, table, 0)[1] == pytest.approx((0.5 + entropy) / 2)


def test_latents_are_standardised_on_training_rows(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    teacher = fit_teacher(cohort, split, SEQUENCE, SMALL, 3)
    scans = cohort.scans(SEQUENCE)
    latents = teacher_latents(teacher, cohort, split, scans)
    assert latents.shape == (len(scans), 4)
    assert latents.dtype == np.float32
    train = scans["subject_id"].isin(split.subjects("train")).to_numpy()
    assert latents[train].mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-5)
    assert latents[train].std(axis=0) == pytest.approx(np.ones(4), abs=1e-5)
    assert not set(teacher.encoder.schema.names) & {"WORN", "SITE"}
    again = fit_teacher(cohort, split, SEQUENCE, SMALL, 3)
    assert np.array_equal(teacher_latents(again, cohort, split, scans), latents)
    back = teacher_latents(teacher, cohort, split, scans.iloc[::-1])
    assert back == pytest.approx(latents[::-1], abs=1e-6)


def test_others_than_training_subjects_leave_no_trace(
    tiny: tuple[Cohort, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, split = tiny
    before = fit_teacher(cohort, split, SEQUENCE, SMALL, 3)
    table = Cohort.table

    def changed(self: Cohort, name: str) -> pd.DataFrame:
        frame = table(self, name)
        if name == "joints":
            others = frame["subject_id"].isin(split.subjects("val", "test"))
            frame.loc[others, "PAIN1"] += 1000
        return frame

    monkeypatch.setattr(Cohort, "table", changed)
    after = fit_teacher(cohort, split, SEQUENCE, SMALL, 3)
    for name, weight in before.encoder.state_dict().items():
        assert np.array_equal(weight.numpy(), after.encoder.state_dict()[name].numpy()), name


def test_a_teacher_that_saw_held_out_subjects_is_refused(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    teacher = fit_teacher(cohort, split, SEQUENCE, SMALL, 3)
    frame = split.frame.copy()
    frame.loc[frame["subject_id"] == "9004", "set"] = "test"
    other = Split(frame=frame, hash=split_hash(frame))
    with pytest.raises(InputError, match="fitted on subject 9004"):
        teacher_latents(teacher, cohort, other, cohort.scans(SEQUENCE))


def test_what_is_saved_is_what_is_loaded(tiny: tuple[Cohort, Split], tmp_path: Path) -> None:
    cohort, split = tiny
    teacher = fit_teacher(cohort, split, SEQUENCE, SMALL, 3, out=tmp_path / "teacher")
    scans = cohort.scans(SEQUENCE)
    loaded = load_teacher(tmp_path / "teacher")
    assert loaded.subjects == tuple(sorted(split.subjects("train")))
    assert np.array_equal(
        teacher_latents(loaded, cohort, split, scans),
        teacher_latents(teacher, cohort, split, scans),
    )
    (tmp_path / "teacher" / "teacher.json").write_text("{}")
    with pytest.raises(InputError, match=r"teacher\.json"):
        load_teacher(tmp_path / "teacher")


def test_an_outcome_can_never_teach(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    with pytest.raises(InputError, match="never be an input"):
        fit_teacher(cohort, split, SEQUENCE, TeacherConfig(roles=("outcome",)), 0)
