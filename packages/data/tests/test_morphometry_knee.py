"""A whole knee: made-up ones with known sides, the phantom's with known thickness, two real ones."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import mirror
from spinmark_data.ingest.tableset import COLUMNS, KINDS, ROLES
from spinmark_data.labels.add import add_labels
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.labels.names import KNEE, PHANTOM
from spinmark_data.labels.read import read_label_map
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.knee import measure_knee
from spinmark_data.morphometry.shape import ShapeModel, shape_field
from spinmark_data.morphometry.table import measure_cohort, variables
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState

DATA = Path(__file__).parents[4] / "shared" / "data" / "knee-labels"
GRID = Grid(shape=(54, 88, 92), spacing_mm=(1.6, 1.0, 1.0))


def state(seed: int, **changed: Any) -> JointState:
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "laterality": "RL"[seed % 2],
        "sex": 1 + seed % 2,
        "size": float(random.normal(1, 0.04)),
        "shape": tuple(random.normal(size=6)),
        "fat_mm": 8.0,
        "medial": float(random.uniform(0.2, 0.9)),
        "bone": 0.0,
        "cartilage": float(random.uniform(0, 3)),
        "inflammation": 0.0,
        "hypertrophy": 0.0,
        "lesion_seed": seed,
    }
    return JointState(**{**values, **changed})


def phantom_knee(
    given: JointState, seed: int = 0, grid: Grid = GRID
) -> tuple[NDArray[np.uint8], NDArray[np.float64], dict[str, float]]:
    made = render_scan(given, SCANNERS[0], grid, seed=seed)
    return made.labels, made.affine, made.cartilage_mm


def turned(affine: NDArray[np.float64], angles: tuple[float, ...]) -> NDArray[np.float64]:
    out = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(angles)):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        step = np.eye(4)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        out = step @ out
    out[:3, 3] = [12.0, -7.0, 31.0]
    return np.asarray(out @ affine)


def alike(first: dict[str, float], second: dict[str, float]) -> None:
    """The same measures, but for points at the borders of regions, which fall to either side."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if name.startswith(("VOL", "SAB", "TAB", "THC_", "MEX")):
            assert second[name] == pytest.approx(value, rel=0.015, abs=0.01), name
        else:
            assert second[name] == pytest.approx(value, abs=0.1), name


def test_a_turned_knee_has_the_same_measures() -> None:
    labels, affine, _ = phantom_knee(state(4))
    first = measure_knee(Joint.of(labels, affine, PHANTOM))
    second = measure_knee(Joint.of(labels, turned(affine, (20, -15, 10)), PHANTOM))
    alike(first, second)


def test_a_left_knee_is_measured_as_a_right_one_mirrored_or_not() -> None:
    labels, affine, _ = phantom_knee(state(5, laterality="L"))
    left = measure_knee(Joint.of(labels, affine, PHANTOM, laterality="L"))
    stored = mirror(labels, affine)
    again = measure_knee(Joint.of(stored, affine, PHANTOM, laterality="L", mirrored=True))
    flip = np.diag([-1.0, 1, 1, 1]) @ affine
    right = measure_knee(Joint.of(labels, flip, PHANTOM, laterality="R"))
    assert left == pytest.approx(right, rel=1e-6, abs=1e-6)
    alike(left, again)
    with pytest.raises(InputError, match="laterality or the codes"):
        measure_knee(Joint.of(labels, affine, PHANTOM, laterality="R"))
    with pytest.raises(InputError, match="laterality ''"):
        Joint.of(labels, affine, PHANTOM, laterality="")


def test_volumes_of_the_phantom_are_counted_exactly() -> None:
    labels, affine, _ = phantom_knee(state(2))
    found = measure_knee(Joint.of(labels, affine, PHANTOM))
    voxel = float(np.prod(GRID.spacing_mm))
    for code, name in PHANTOM.items():
        count = int((labels == code).sum())
        assert found.get(f"VOL_{name.upper()}", 0.0) == pytest.approx(count * voxel)


def test_regions_share_the_bone_out_and_lie_where_they_are_named() -> None:
    labels, affine, _ = phantom_knee(state(6, cartilage=0.0))
    found = measure_knee(Joint.of(labels, affine, PHANTOM))
    for side in ("MT", "LT"):
        parts = [found[f"TAB_{side}_{part}"] for part in "CAPIE"]
        assert sum(parts) == pytest.approx(found[f"TAB_{side}"])
        assert parts[0] / sum(parts) == pytest.approx(0.2, abs=0.01)
        assert min(parts[1:]) > 0.1 * sum(parts)
        # The phantom's cartilage thins towards the rim.
        assert found[f"THC_{side}_C"] > found[f"THC_{side}_E"]
    femur = [found[f"TAB_{side}_{part}"] for side in ("MF", "LF") for part in "ACP"]
    assert sum(femur) == pytest.approx(found["TAB_F"])
    assert sum(found[f"TAB_P_{side}"] for side in "ML") == pytest.approx(found["TAB_P"])


def test_medial_disease_thins_the_medial_side_alone() -> None:
    worn = {"cartilage": 2.5, "lesion_seed": 3}
    medial = measure_knee(Joint.of(*phantom_knee(state(6, medial=1.0, **worn))[:2], PHANTOM))
    lateral = measure_knee(Joint.of(*phantom_knee(state(6, medial=0.0, **worn))[:2], PHANTOM))
    for region in ("T", "F_C", "F_P"):
        assert medial[f"THC_M{region}"] < 0.9 * lateral[f"THC_M{region}"]
        assert lateral[f"THC_L{region}"] < 0.9 * medial[f"THC_L{region}"]
    assert medial["MEX_MEDIAL"] > lateral["MEX_MEDIAL"]
    assert lateral["MEX_LATERAL"] > medial["MEX_LATERAL"]


def test_thickness_follows_the_truth_of_the_phantom() -> None:
    regions = {
        "MT": "medial_tibial_cartilage",
        "LT": "lateral_tibial_cartilage",
        "P": "patellar_cartilage",
    }
    pairs: dict[str, list[tuple[float, float]]] = {region: [] for region in regions}
    for seed in range(8):
        given = state(seed, cartilage=0.4 * seed)
        labels, affine, truth = phantom_knee(given, seed)
        found = measure_knee(Joint.of(labels, affine, PHANTOM, laterality=given.laterality))
        for region, name in regions.items():
            pairs[region].append((truth[name], found[f"THC_{region}"]))
    for known in pairs.values():
        true, seen = np.array(known).T
        slope = np.polyfit(true, seen, 1)[0]
        assert 0.8 < slope < 1.2
        assert np.corrcoef(true, seen)[0, 1] > 0.95
        # The truth is averaged over a larger area, whose rim has no cartilage to segment.
        assert -0.3 < (seen - true).mean() < 0.1


def test_shape_scores_find_what_differs_and_come_from_training_subjects_alone() -> None:
    sizes = np.linspace(0.9, 1.1, 7)
    ids = [f"100000{i}" for i in range(7)]
    plain = {"cartilage": 0.0, "shape": (0.0,) * 6, "laterality": "R", "sex": 1}
    fields = np.stack(
        [
            shape_field(
                Joint.of(*phantom_knee(state(3, size=float(s), **plain))[:2], PHANTOM), "tibia"
            )
            for s in sizes
        ]
    )
    model = ShapeModel.fit("tibia", fields, ids, ids[:5], components=2)
    assert model.subjects == frozenset(ids[:5])
    scores = model.transform(fields)
    assert np.abs(np.corrcoef(scores[:, 0], sizes)[0, 1]) > 0.98
    assert model.explained[0] > 0.5
    # An independent principal component analysis of the same knees.
    sklearn = pytest.importorskip("sklearn.decomposition")
    peer = sklearn.PCA(2).fit(fields[:5].astype(np.float64))
    wanted = peer.transform(fields.astype(np.float64)) / np.sqrt(peer.explained_variance_)
    assert np.allclose(np.abs(scores), np.abs(wanted), atol=1e-6)
    other = fields.copy()
    other[5:] = 99.0
    assert np.array_equal(ShapeModel.fit("tibia", other, ids, ids[:5], 2).modes, model.modes)
    back = ShapeModel.from_bytes(model.to_bytes())
    assert np.array_equal(back.transform(fields), scores)
    assert back.variables == ["SHAPE_TIBIA_1", "SHAPE_TIBIA_2"]
    with pytest.raises(InputError, match="at least 3"):
        ShapeModel.fit("tibia", fields, ids, ids[:2])
    with pytest.raises(InputError, match="Unknown bone"):
        shape_field(Joint.of(*phantom_knee(state(3))[:2], PHANTOM), "skull")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of two knees, the left one mirrored, and one whose side is wrong."""
    folder = tmp_path_factory.mktemp("labelled")
    rows, affines = [], []
    for index, (side, told) in enumerate((("R", "R"), ("L", "L"), ("L", "R"))):
        labels, affine, _ = phantom_knee(state(7, laterality=side))
        subject = f"100000{index + 1}"
        rows.append({"subject_id": subject, "laterality": told, "mirrored": told == "L"})
        affines.append(affine)
        ras = np.diag([-1.0, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]]
        name = f"{subject}_{told}_V00_DESS_0.nii.gz"
        nib.Nifti1Image(labels.transpose(2, 1, 0), ras).to_filename(folder / name)
    given = SequenceVolumes(
        volume=np.zeros((3, *GRID.shape), np.int16),
        scans=pd.DataFrame(rows),
        spacing_mm=GRID.spacing_mm,
        affine=np.stack(affines),
    )
    write_cohort(folder / "c", volumes={"DESS": given}, tables={}, provenance={})
    add_labels(folder / "c", folder, LabelsConfig(codes="phantom"))
    return folder / "c"


def test_a_cohort_gives_a_table_and_its_dictionary(labelled: Path) -> None:
    found = measure_cohort(Cohort.open(labelled), "DESS", MorphometryConfig(workers=1))
    assert list(found.table["subject_id"]) == ["1000001", "1000002"]
    assert list(found.issues["source"]) == ["1000003:R:V00:DESS:0"]
    assert "laterality or the codes" in found.issues["reason"].iloc[0]
    assert list(found.issues.columns) == list(COLUMNS["issues"])
    assert list(found.dictionary.columns) == list(COLUMNS["dictionary"])
    assert list(found.dictionary["variable"]) == list(found.table.columns[3:])
    assert set(found.dictionary["role"]) <= set(ROLES)
    assert set(found.dictionary["kind"]) <= set(KINDS)
    labels, affine, _ = phantom_knee(state(7, laterality="R"))
    wanted = measure_knee(Joint.of(labels, affine, PHANTOM))
    row = found.table.iloc[0]
    assert {name: row[name] for name in wanted} == pytest.approx(wanted)
    # The left knee is the same joint on the other side; its grid falls otherwise.
    assert found.table["THC_MT"].iloc[1] == pytest.approx(row["THC_MT"], rel=0.05)
    assert found.table["THC_LT"].iloc[1] == pytest.approx(row["THC_LT"], rel=0.05)


@pytest.mark.multiproc
def test_processes_give_the_same_table(labelled: Path) -> None:
    cohort = Cohort.open(labelled)
    one = measure_cohort(cohort, "DESS", MorphometryConfig(workers=1))
    many = measure_cohort(cohort, "DESS", MorphometryConfig(workers=2))
    pd.testing.assert_frame_equal(one.table, many.table)


def test_variables_are_named_once() -> None:
    for codes in (KNEE, PHANTOM):
        assert variables(codes)["variable"].is_unique
        assert variables(codes)["variable"].str.fullmatch(r"[A-Z0-9_]+").all()


def test_a_label_map_of_nothing_known_is_told() -> None:
    labels = np.full((4, 4, 4), 3, np.uint8)
    with pytest.raises(InputError, match="no structure"):
        measure_knee(Joint.of(labels, np.eye(4), {1: "femur"}))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="real label maps are not beside the checkout")
@pytest.mark.parametrize("name", ["knee_a_label.nrrd", "knee_b_label.nrrd"])
def test_real_knees_have_the_thickness_of_knees(name: str) -> None:
    """Mean of people without arthritis, Eckstein et al. 2010: MT 1.73, LT 2.09, MF 1.86, LF 1.77 mm."""
    read = read_label_map(DATA / name)
    found = measure_knee(Joint.of(read.labels, read.affine, KNEE))
    for region in ("MT", "LT", "MF_C", "LF_C"):
        assert 1.2 < found[f"THC_{region}"] < 2.7
        assert found[f"DAB_{region}"] < 0.05
    for region in ("MT", "LT"):
        assert found[f"THC_{region}_C"] > found[f"THC_{region}_E"]
        assert 700 < found[f"TAB_{region}"] < 1600
    assert found["THC_LT"] > found["THC_MT"]
    voxel = 0.7 * 0.3645833 * 0.3645833
    assert found["VOL_FEMUR"] == pytest.approx((read.labels == 5).sum() * voxel, rel=1e-4)
    flat = found["THC_MT"] * found["TAB_MT"]
    # The layer's volume is about its thickness times its area.
    assert flat == pytest.approx(found["VOL_MEDIAL_TIBIAL_CARTILAGE"], rel=0.15)
