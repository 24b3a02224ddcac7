"""Shape scores of a cohort: who is learnt from, what stands, and what each score is."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.cohort.verify import verify
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS, ROLES
from spinmark_data.labels.add import add_labels
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.labels.names import PHANTOM
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.measure import measure
from spinmark_data.morphometry.shape import ShapeModel, shape_field
from spinmark_data.morphometry.shape_plan import Training
from spinmark_data.morphometry.shape_store import kept_record, shape_problems
from spinmark_data.morphometry.table import Morphometry
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.preprocess.crop_cohort import crop_cohort
from spinmark_data.preprocess.crop_config import CropConfig

GRID = Grid(shape=(36, 44, 50), spacing_mm=(3.0, 2.0, 2.0))
CONFIG = MorphometryConfig(
    workers=1, shape_modes=2, smoothing_mm=1.5, normal_mm=2.0, shape_bones=("femur", "tibia")
)
ONE = replace(CONFIG, shape_bones=("tibia",))
TRAIN = frozenset({"1000001", "1000002", "1000003", "1000004"})
TRAINING = Training(split="a" * 64, subjects=TRAIN)
# Subject, side, visit, day and the knee's true size; the first four are learnt from.
KNEES = [
    ("1000001", "R", "V00", 0.0, 0.92),
    ("1000002", "R", "V00", 0.0, 0.97),
    ("1000003", "L", "V00", 0.0, 1.02),
    ("1000004", "R", "V00", 0.0, 1.08),
    ("1000005", "R", "V00", 0.0, 0.95),
    ("1000006", "R", "V00", 0.0, 1.05),
    ("1000001", "R", "V01", 365.0, 1.10),
]
Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@cache
def knee(size: float, side: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    state = JointState(
        laterality=side,
        sex=1,
        size=size,
        shape=(0.0,) * 6,
        fat_mm=8.0,
        medial=0.5,
        bone=0.0,
        cartilage=0.0,
        inflammation=0.0,
        hypertrophy=0.0,
        lesion_seed=3,
    )
    made = render_scan(state, SCANNERS[0], GRID, seed=0)
    return made.labels, made.affine


def write_maps(folder: Path, knees: list[tuple[str, str, str, float, float]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for subject, side, visit, _, size in knees:
        labels, affine = knee(size, side)
        ras = np.diag([-1.0, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]]
        name = f"{subject}_{side}_{visit}_DESS_0.nii.gz"
        nib.Nifti1Image(labels.transpose(2, 1, 0), ras).to_filename(folder / name)
    return folder


def write(folder: Path, knees: list[tuple[str, str, str, float, float]] = KNEES) -> Path:
    """A cohort of these knees without label maps."""
    columns = ["subject_id", "laterality", "visit", "days", "size"]
    scans = pd.DataFrame(knees, columns=columns).drop(columns="size")
    volumes = SequenceVolumes(
        volume=np.zeros((len(knees), *GRID.shape), np.int16),
        scans=scans.assign(mirrored=False),
        spacing_mm=GRID.spacing_mm,
        affine=np.stack([knee(size, side)[1] for _, side, _, _, size in knees]),
    )
    write_cohort(folder, volumes={"DESS": volumes}, tables={}, provenance={})
    return folder


def label(cohort: Path, knees: list[tuple[str, str, str, float, float]]) -> None:
    maps = write_maps(cohort.parent / f"maps of {len(knees)}", knees)
    add_labels(cohort, maps, LabelsConfig(codes="phantom"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Morphometry]:
    path = write(tmp_path_factory.mktemp("shapes") / "c")
    label(path, KNEES)
    return path, measure(path, CONFIG, training=TRAINING)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    keyed = table.set_index(["subject_id", "laterality", "visit"]).sort_index()
    return keyed[[name for name in keyed if name.startswith("SHAPE_")]]


def test_scores_are_components_of_the_first_visits_of_training_subjects(
    measured: tuple[Path, Morphometry],
) -> None:
    found = scores(Cohort.open(measured[0]).table("morphometry"))
    assert list(found) == [f"SHAPE_{bone}_{n}" for bone in ("FEMUR", "TIBIA") for n in (1, 2)]
    for bone in ("femur", "tibia"):
        fields = np.stack(
            [
                shape_field(Joint.of(*knee(size, side), PHANTOM, laterality=side), bone, CONFIG)
                for _, side, _, _, size in KNEES
            ]
        ).astype(np.float64)
        # An independent analysis: by singular values, of the four knees that may be learnt from.
        mean = fields[:4].mean(axis=0)
        _, values, modes = np.linalg.svd(fields[:4] - mean, full_matrices=False)
        wanted = (fields - mean) @ modes[:2].T / (values[:2] / np.sqrt(3))
        names = [f"SHAPE_{bone.upper()}_{n}" for n in (1, 2)]
        seen = np.array([found.loc[row[:3], names].to_numpy(float) for row in KNEES])
        assert np.abs(np.abs(seen) - np.abs(wanted)).max() < 1e-5
        sizes = [row[4] for row in KNEES]
        assert abs(np.corrcoef(seen[:, 0], sizes)[0, 1]) > 0.97
        assert np.std(seen[:4], axis=0, ddof=1) == pytest.approx([1, 1])


def test_the_dictionary_and_the_record_say_where_scores_come_from(
    measured: tuple[Path, Morphometry],
) -> None:
    path, found = measured
    cohort = Cohort.open(path)
    rows = cohort.dictionary.set_index("variable").loc[list(scores(found.table))]
    assert list(cohort.dictionary.columns) == list(COLUMNS["dictionary"])
    assert set(rows["role"]) == {"morphometric"} <= set(ROLES)
    assert set(rows["group"]) == {"bone shape"}
    assert set(rows["unit"]) == {"SD of training subjects"}
    record = kept_record(cohort)
    assert record is not None
    assert record["split"] == TRAINING.split
    assert record["knees"] == {"femur": 4, "tibia": 4}
    entry = record["models"]["femur"]
    model = ShapeModel.from_bytes((path / entry["file"]).read_bytes())
    assert model.subjects == TRAIN
    assert sum("modes fitted on 4 knees" in note for note in found.notes) == 2
    assert shape_problems(cohort) == []
    assert verify(path).problems == []


def test_a_second_call_says_the_same_with_a_split_or_without(
    measured: tuple[Path, Morphometry],
) -> None:
    path, found = measured
    before = Cohort.open(path)
    for training in (TRAINING, None):
        again = measure(path, CONFIG, training=training)
        pd.testing.assert_frame_equal(again.table, found.table)
        assert "modes that stand, of split aaaaaaaaaaaa" in again.notes[-1]
    assert Cohort.open(path).hash == before.hash
    assert Cohort.open(path).generation == before.generation


@pytest.mark.slow
@pytest.mark.multiproc
def test_workers_do_not_matter(measured: tuple[Path, Morphometry], tmp_path: Path) -> None:
    path = write(tmp_path / "c")
    label(path, KNEES)
    many = measure(path, replace(CONFIG, workers=2), training=TRAINING)
    pd.testing.assert_frame_equal(many.table, measured[1].table)


@pytest.mark.slow
def test_nobody_learns_from_a_test_subject(
    measured: tuple[Path, Morphometry], tmp_path: Path
) -> None:
    """Other label maps of a test subject, and of a later visit, change nobody else's scores."""
    changed = [*KNEES[:5], ("1000006", "R", "V00", 0.0, 1.25), ("1000001", "R", "V01", 365.0, 0.8)]
    path = write(tmp_path / "c", changed)
    label(path, changed)
    other, first = scores(measure(path, CONFIG, training=TRAINING).table), scores(measured[1].table)
    moved = [("1000006", "R", "V00"), ("1000001", "R", "V01")]
    pd.testing.assert_frame_equal(other.drop(moved), first.drop(moved), check_exact=True)
    for row in moved:
        assert abs(other.loc[row, "SHAPE_TIBIA_1"] - first.loc[row, "SHAPE_TIBIA_1"]) > 0.5


def test_later_label_maps_are_scored_by_the_modes_that_stand(tmp_path: Path) -> None:
    path = write(tmp_path / "c")
    label(path, KNEES[:3])
    first = measure(path, ONE, training=TRAINING)
    assert len(first.table) == 3
    record, known = kept_record(Cohort.open(path)), scores(first.table)
    label(path, KNEES)
    for training in (None, TRAINING):
        later = measure(path, ONE, training=training)
        assert len(later.table) == 7
        assert kept_record(Cohort.open(path)) == record
        pd.testing.assert_frame_equal(scores(later.table).loc[known.index], known, check_exact=True)
        assert scores(later.table).notna().all(axis=None)


def test_a_crop_takes_the_modes_along(measured: tuple[Path, Morphometry], tmp_path: Path) -> None:
    path, first = measured
    record = kept_record(Cohort.open(path))
    crop_cohort(path, tmp_path / "c", CropConfig(shape=GRID.shape, workers=1))
    cut = Cohort.open(tmp_path / "c")
    assert kept_record(cut) == record
    assert verify(tmp_path / "c").problems == []
    again = measure(tmp_path / "c", CONFIG)
    assert kept_record(Cohort.open(tmp_path / "c")) == record
    # The field of view has moved over the shafts, so the scores are near those before and not equal.
    moved = scores(again.table).to_numpy() - scores(first.table).to_numpy()
    assert np.abs(moved).mean() < 0.5


def test_modes_are_fitted_anew_only_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "c")
    label(path, KNEES[:3])
    first = measure(path, ONE, training=TRAINING)
    record = kept_record(Cohort.open(path))
    assert record is not None
    label(path, KNEES)
    anew = measure(path, ONE, training=TRAINING, refit=True)
    now = kept_record(Cohort.open(path))
    assert now is not None
    assert now["knees"] == {"tibia": 4}
    assert now["models"] != record["models"]
    known = scores(first.table)
    assert not np.allclose(scores(anew.table).loc[known.index], known)
    # Earlier generations keep theirs, and both files are whole.
    assert kept_record(Cohort.open(path, generation=2)) == record
    assert shape_problems(Cohort.open(path)) == []
    # Another split is another fit; its training scans may be fewer than those of its subjects.
    scans = frozenset(f"{s}:{side}:{v}:DESS:0" for s, side, v, *_ in KNEES[1:4])
    measure(path, ONE, training=Training(split="b" * 64, subjects=TRAIN, scans=scans))
    now = kept_record(Cohort.open(path))
    assert now is not None
    assert (now["split"], now["knees"]) == ("b" * 64, {"tibia": 3})


def test_too_few_knees_are_one_error_and_nothing_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "c")
    label(path, KNEES)
    before = Cohort.open(path).generation
    few = Training(split="c" * 64, subjects=frozenset({"1000001", "1000002"}))
    with pytest.raises(InputError, match=r"\(femur 2, tibia 2\); 3 are needed for 2 modes"):
        measure(path, CONFIG, training=few)
    with pytest.raises(InputError, match=r"6 are needed for 5 modes"):
        measure(path, replace(CONFIG, shape_modes=5), training=TRAINING)
    with pytest.raises(InputError, match="it needs --split"):
        measure(path, CONFIG, refit=True)
    assert Cohort.open(path).generation == before
    assert not (path / "shapes").exists()


def test_knees_without_the_labels_have_no_score_and_rare_bones_no_modes(tmp_path: Path) -> None:
    path = write(tmp_path / "c")
    maps = write_maps(tmp_path / "maps", KNEES)

    def edit(scan: str, change: Change) -> None:
        file = maps / f"{scan}_DESS_0.nii.gz"
        image: nib.Nifti1Image = nib.load(file)
        voxels = change(np.asarray(image.dataobj).astype(np.uint8))
        nib.Nifti1Image(voxels, image.affine).to_filename(file)

    code = {name: number for number, name in PHANTOM.items()}
    for scan in ("1000001_R_V00", "1000002_R_V00", "1000001_R_V01"):
        edit(scan, lambda v: np.where(v == code["patella"], 0, v).astype(np.uint8))
    edit("1000005_R_V00", lambda v: np.where(v == code["femur"], 0, v).astype(np.uint8))
    plateau = code["medial_tibial_cartilage"]
    edit("1000006_R_V00", lambda v: np.where(v == plateau, 0, v).astype(np.uint8))
    add_labels(path, maps, LabelsConfig(codes="phantom"))
    config = replace(CONFIG, shape_bones=("femur", "tibia", "patella"))
    found = measure(path, config, training=TRAINING)
    table = scores(found.table)
    assert any("no shape scores of the patella: 2 knees" in note for note in found.notes)
    assert not any("PATELLA" in name for name in table)
    femur, tibia = table.filter(like="FEMUR"), table.filter(like="TIBIA")
    assert femur.index[femur.isna().all(axis=1)].get_level_values(0).tolist() == [
        "1000005",
        "1000006",
    ]
    assert tibia.index[tibia.isna().all(axis=1)].get_level_values(0).tolist() == ["1000006"]
    assert table.loc["1000001"].notna().all(axis=None)
    # The same without the split, by the two bones that stand.
    again = measure(path, config)
    pd.testing.assert_frame_equal(scores(again.table), table)


def test_modes_that_do_not_fit_or_are_damaged_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "c")
    label(path, KNEES[:4])
    measure(path, ONE, training=TRAINING)
    with pytest.raises(InputError, match=r"fitted with smoothing_mm=1\.5, now 2\.0; give the same"):
        measure(path, replace(ONE, smoothing_mm=2.0))
    without = measure(path, replace(ONE, shape_modes=0))
    assert not list(scores(without.table))
    assert not Cohort.open(path).dictionary["variable"].str.startswith("SHAPE").any()
    # More modes are asked for by default; those that stand are taken.
    assert len(scores(measure(path, replace(ONE, shape_modes=5)).table).columns) == 2
    record = kept_record(Cohort.open(path))
    assert record is not None
    file = path / record["models"]["tibia"]["file"]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{file.name}: its sha256 is not that of its record"):
        measure(path, ONE)
    assert shape_problems(Cohort.open(path)) == [
        (f"shapes/{file.name}", "its sha256 is not that of its record")
    ]
    measure(path, ONE, training=TRAINING, refit=True)
    assert shape_problems(Cohort.open(path)) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape_modes": -1}, "shape_modes=-1: 0 or more"),
        ({"shape_bones": ()}, "shape_bones="),
        ({"shape_bones": ("femur", "skull")}, "skull"),
        ({"shape_bones": ("femur", "femur")}, "each once"),
    ],
)
def test_settings_of_shapes_are_checked(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MorphometryConfig(**wrong)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    knees=st.integers(3, 40),
    points=st.integers(2, 40),
    modes=st.integers(1, 6),
)
def test_modes_are_those_by_singular_values(seed: int, knees: int, points: int, modes: int) -> None:
    random = np.random.default_rng(seed)
    # Directions of clearly different spread, in more points than knees and the other way round.
    base = np.linalg.qr(random.normal(size=(points, points)))[0] * 2.0 ** -np.arange(points)
    fields = (random.normal(size=(knees, points)) @ base.T + 3).astype(np.float32)
    ids = [f"{1000001 + i}" for i in range(knees)]
    model = ShapeModel.fit("tibia", fields, ids, ids, modes)
    centred = fields.astype(np.float64) - fields.astype(np.float64).mean(axis=0)
    _, values, right = np.linalg.svd(centred, full_matrices=False)
    count = min(modes, knees - 1, points)
    assert len(model.spread) == count
    assert np.allclose(model.spread, values[:count] / np.sqrt(knees - 1), rtol=1e-5)
    assert np.allclose(model.explained, (values**2)[:count] / (values**2).sum(), rtol=1e-5)
    assert np.allclose(model.modes @ model.modes.T, np.eye(count), atol=1e-6)
    apart = np.abs(np.diff(values[: count + 1])).min(initial=1) / values[0]
    if apart > 1e-3:
        assert np.allclose(np.abs((model.modes * right[:count]).sum(axis=1)), 1, atol=1e-6)
    found = model.transform(fields)
    assert np.array_equal(model.transform(fields[:1]), found[:1])
    assert np.allclose(found.mean(axis=0), 0, atol=1e-4)
