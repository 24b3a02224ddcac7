"""Radiomics: each feature by other programs, each structure voxel by voxel, gaps as they should be filled."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spinmark_data.cohort.reader import Cohort
from spinmark_data.labels.add import add_labels
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.labels.store import LabelSet
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_training.baselines import radiomics
from spinmark_training.baselines.filling import filled_with_medians
from spinmark_training.baselines.first_order import FIRST_ORDER, first_order
from spinmark_training.baselines.structures import structure_features, structure_names
from spinmark_training.errors import InputError
from spinmark_training.sources import ScanSource
from spinmark_training.views import plain_views

from .tiny_cohort import GRID, SEQUENCE, write_tiny

Floats = npt.NDArray[np.float64]

# What pyradiomics (pyradiomics-bhklab 3.1.4, bins 1 / 32 wide) says of the box below; its kurtosis less 3.
PEER = {
    "mean": 0.2947576354166667,
    "sd": 0.15971804949472157,
    "median": 0.253908,
    "percentile_10": 0.1266255,
    "percentile_90": 0.509398,
    "skewness": 0.831984654711711,
    "kurtosis": 0.177846331203936,
    "entropy": 4.138282397502784,
    "energy": 10.789624221199,
}


def test_features_are_those_of_pyradiomics() -> None:
    image = np.round(np.random.default_rng(0).beta(2, 5, size=(6, 7, 8)), 6)
    found = dict(zip(FIRST_ORDER, first_order(image[1:5, 2:6, 1:7].ravel()), strict=True))
    assert found == pytest.approx(PEER, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 300))
def test_features_are_those_of_scipy(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).beta(0.7, 1.5, n)
    found = dict(zip(FIRST_ORDER, first_order(values), strict=True))
    counts = np.histogram(values, np.linspace(0, 1, 33))[0]
    expected = {
        "mean": values.mean(),
        "sd": values.std(),
        "median": np.median(values),
        "percentile_10": np.quantile(values, 0.1),
        "percentile_90": np.quantile(values, 0.9),
        "skewness": stats.skew(values),
        "kurtosis": stats.kurtosis(values),
        "entropy": stats.entropy(counts, base=2),
        "energy": values @ values,
    }
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_voxels_that_are_all_alike_have_no_shape_and_no_voxel_has_no_features() -> None:
    same = dict(zip(FIRST_ORDER, first_order(np.full(1000, 0.1)), strict=True))
    assert same["skewness"] == same["kurtosis"] == same["entropy"] == 0
    assert np.isnan(first_order(np.empty(0))).all()
    # The brightest voxel belongs to the last bin.
    assert dict(zip(FIRST_ORDER, first_order(np.ones(3)), strict=True))["entropy"] == 0


def test_structures_are_measured_one_by_one() -> None:
    rng = np.random.default_rng(1)
    unit, labels = rng.random((5, 6, 7)), rng.integers(0, 4, (5, 6, 7)).astype(np.uint8)
    found = structure_features(unit, labels, [1, 2, 3, 9], 2.5)
    assert len(found) == len(structure_names(["a", "b", "c", "d"])) == 4 * 10
    for place, code in enumerate((1, 2, 3)):
        mask = labels == code
        own = found[10 * place : 10 * (place + 1)]
        assert own[0] == 2.5 * mask.sum()
        assert own[1:] == pytest.approx(first_order(unit[mask]))
    assert np.isnan(found[30:]).all()
    assert np.isnan(structure_features(unit, 0 * labels, [1], 1.0)).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_gaps_are_filled_by_training_medians(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(20, 5))
    values[rng.random((20, 5)) < 0.3] = np.nan
    train = np.arange(20) < 12
    names = list("abcde")
    found, said = filled_with_medians(values, names, train)
    frame = pd.DataFrame(values, columns=names)
    assert np.isfinite(found).all()
    table = pd.DataFrame(found, columns=said)
    for name in names:
        if frame.loc[train, name].nunique() > 1:
            filled = frame[name].fillna(frame.loc[train, name].median())
            assert table[name].to_numpy() == pytest.approx(filled.to_numpy())
    for name in (n for n in said if n.endswith(":missing")):
        assert (table[name] == frame[name.removesuffix(":missing")].isna()).all()
    # What held-out scans hold moves nothing else.
    other = values.copy()
    other[~train] = np.where(np.isnan(other[~train]), np.nan, 1e6)
    again, columns = filled_with_medians(other, names, train)
    assert columns == said
    assert (again[train] == found[train]).all()


def test_features_missing_together_share_an_indicator_and_what_never_varies_goes() -> None:
    gap = np.nan
    values = np.array(
        [[1, 5, 2, 7, gap], [gap, gap, 3, 7, gap], [4, 6, 5, 7, gap], [2, 1, 1, 9, 3]]
    )
    train = np.array([True, True, True, False])
    found, said = filled_with_medians(values, list("abcde"), train)
    assert said == ["a", "b", "c", "a:missing"]
    assert found[1].tolist() == [2.5, 5.5, 3, 1]
    assert found[3].tolist() == [2, 1, 1, 0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split, dict[str, Floats]]:
    """A cohort of whose scans all but a few have label maps, and those."""
    folder = tmp_path_factory.mktemp("labelled")
    cohort, split = write_tiny(folder / "cohort")
    rng = np.random.default_rng(2)
    scans, affine, _ = cohort.coordinates(SEQUENCE)
    maps: dict[str, Floats] = {}
    (folder / "maps").mkdir()
    for row, scan in enumerate(scans["scan_id"][:-3]):
        labels = rng.integers(0, 4, GRID).astype(np.uint8)
        if row % 5 == 0:
            labels[labels == 2] = 0
        maps[scan] = labels
        ras = np.diag([-1.0, -1, 1, 1]) @ affine[row][:, [2, 1, 0, 3]]
        image = nib.Nifti1Image(labels.transpose(2, 1, 0), ras)
        image.to_filename(folder / "maps" / (scan.replace(":", "_") + ".nii.gz"))
    assert add_labels(folder / "cohort", folder / "maps", LabelsConfig()).added == len(maps)
    opened = Cohort.open(folder / "cohort")
    found = LabelSet.open(opened)
    return opened, split, {scan: found.read(SEQUENCE, scan) for scan in maps}


def test_a_cohorts_structures_are_measured_by_its_label_maps(
    world: tuple[Cohort, Split, dict[str, Floats]],
) -> None:
    cohort, split, maps = world
    seen: list[tuple[int, int]] = []
    found = radiomics(cohort, split, progress=lambda a, b: seen.append((a, b)))
    assert found.attrs["objective"] == "radiomics"
    assert found.attrs["radiomics"] == "structures"
    assert seen[-1][0] == len(maps)
    names = [str(name) for name in found["feature_name"].values]
    table = pd.DataFrame(found["embedding"].values, columns=names, index=found["scan_id"].values)
    codes = {name: code for code, name in LabelSet.open(cohort).codes.items()}
    first = names[0].split(":")[0]
    rule = IntensityRule()
    source = ScanSource(cohort, SEQUENCE, None)
    for row in (3, 11):
        scan = source.scans["scan_id"][row]
        view = plain_views(source, np.array([row]), rule)[0, 0].numpy() * rule.sd + rule.mean
        own = maps[scan] == codes[first]
        assert table.loc[scan, f"{first}:volume"] == 3.0 * own.sum()
        assert table.loc[scan, f"{first}:mean"] == pytest.approx(view[own].mean(), rel=1e-5)
    # One structure is absent in every fifth scan, everything in the last three, who are no training scans.
    missing = [name for name in names if name.endswith(":missing")]
    assert len(missing) == 1
    gone = missing[0].split(":")[0]
    train = np.isin(source.scans["subject_id"], sorted(split.subjects("train")))
    expected = [scan not in maps or not (maps[scan] == codes[gone]).any() for scan in table.index]
    assert (table[missing[0]] == expected).all()
    there = train & ~np.array(expected)
    median = table.loc[there, f"{gone}:mean"].median()
    assert table.loc[np.array(expected), f"{gone}:mean"].to_numpy() == pytest.approx(median)
    assert radiomics(cohort, split).identical(found)


def test_without_label_maps_it_is_the_whole_volume_and_it_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cohort, split = write_tiny(tmp_path / "cohort")
    found = radiomics(cohort, split)
    assert "no label maps of SAG_3D_DESS" in caplog.text
    assert found.attrs["radiomics"] == "whole volume"
    assert list(found["feature_name"].values) == [f"whole:{name}" for name in FIRST_ORDER]
    source, rule = ScanSource(cohort, SEQUENCE, None), IntensityRule()
    view = plain_views(source, np.array([5]), rule).double().numpy().ravel()
    expected = first_order(np.clip(view * rule.sd + rule.mean, 0, 1))
    assert found["embedding"].values[5] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(InputError, match="'NONE'; this cohort has"):
        radiomics(cohort, split, sequence="NONE")
