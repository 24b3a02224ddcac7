from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_training.baselines import principal_axes, voxel_pca
from spinmark_training.errors import InputError
from spinmark_training.sources import ScanSource
from spinmark_training.views import plain_views

SEQUENCE = "SAG_3D_DESS"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    cohort, split = write(tmp_path_factory.mktemp("cohort") / "cohort")
    return cohort, split


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 12), k=st.integers(1, 12))
def test_axes_are_those_of_an_svd(seed: int, n: int, k: int) -> None:
    x = np.random.default_rng(seed).normal(3, 1, size=(n, 50)).astype(np.float32)
    mean, axes = principal_axes(x, k)
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    _, _, expected = np.linalg.svd(centred, full_matrices=False)
    assert len(axes) == min(k, n - 1)
    assert mean == pytest.approx(x.mean(axis=0), abs=1e-5)
    for axis, other in zip(axes, expected, strict=False):
        assert abs(axis @ other) == pytest.approx(1, abs=1e-4)
        assert axis[np.abs(axis).argmax()] > 0


def test_scores_are_those_of_sklearn_fitted_on_training_scans(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    vectors = voxel_pca(cohort, split, components=5)
    source = ScanSource(cohort, SEQUENCE, None)
    flat = plain_views(source, source.rows, IntensityRule()).numpy().reshape(len(source.rows), -1)
    train = np.isin(source.scans["subject_id"], sorted(split.subjects("train")))
    expected = PCA(5, svd_solver="full").fit(flat[train].astype(np.float64)).transform(flat)
    found = vectors["embedding"].values
    sign = np.sign((found * expected).sum(axis=0))
    assert found * sign == pytest.approx(expected, abs=2e-3)
    assert vectors.attrs["objective"] == "voxel_pca"
    assert (vectors["set"].values == "train").sum() == train.sum()
    assert list(vectors["scan_id"].values) == source.scans["scan_id"].tolist()
    again = voxel_pca(cohort, split, components=5)
    assert np.array_equal(again["embedding"].values, found)
    assert again.attrs == vectors.attrs


def test_fewer_training_scans_than_components(
    tiny: tuple[Cohort, Split], caplog: pytest.LogCaptureFixture
) -> None:
    cohort, split = tiny
    vectors = voxel_pca(cohort, split, components=100)
    assert vectors.sizes["feature"] == 39
    assert "40 training scans span 39 components, fewer than the 100" in caplog.text
    with pytest.raises(InputError, match="0 components"):
        voxel_pca(cohort, split, components=0)


def test_rows_that_are_all_alike_have_no_axes() -> None:
    assert len(principal_axes(np.ones((4, 9), np.float32), 3)[1]) == 0
