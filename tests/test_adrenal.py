"""The benchmark on real shapes: its parts by closed forms, and a few steps of the whole."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spinmark_models.intensity import normalise_intensity

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "adrenal64" / "adrenalmnist3d_64.npz"
SMALL = ["--optim.steps", "3", "--data.subjects_per_batch", "8", "--trainer.threads", "1"]


@pytest.fixture(scope="module")
def adrenal() -> ModuleType:
    spec = importlib.util.spec_from_file_location("adrenal", ROOT / "benchmarks" / "adrenal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(adrenal: ModuleType, each: int = 12) -> Any:
    """Boxes; those with a mass are thicker."""
    rng = np.random.default_rng(0)
    sets = np.repeat(list(adrenal.SETS), each)
    labels = np.tile([0, 1], len(sets) // 2)
    shapes = np.zeros((len(sets), 64, 64, 64), bool)
    for shape, label in zip(shapes, labels, strict=True):
        z, y, x = rng.integers(10, 30, 3)
        shape[z : z + 6 + 8 * label, y : y + 16, x : x + 16] = True
    return adrenal.Examples(shapes=shapes, labels=labels, sets=sets)


def test_blocks_count_their_voxels(adrenal: ModuleType) -> None:
    shapes = np.random.default_rng(1).random((2, 64, 64, 64)) < 0.3
    found = adrenal.occupied(shapes)
    k = adrenal.BLOCK
    assert found.shape == (2, 64 // k, 64 // k, 64 // k)
    assert found[1, 3, 2, 5] == shapes[1, 3 * k : 4 * k, 2 * k : 3 * k, 5 * k : 6 * k].sum()
    assert found.sum() == shapes.sum()


def test_measures_of_a_box(adrenal: ModuleType) -> None:
    shape = np.zeros((1, 64, 64, 64), bool)
    shape[0, 10:15, 20:25, 30:35] = True
    # Of 5 x 5 x 5 voxels 98 touch the outside, 26 lie a voxel deeper, one lies deepest.
    expected = [np.log(125), np.log(98), 3.0, (98 * 1 + 26 * 2 + 3) / 125]
    np.testing.assert_allclose(adrenal.shape_measures(shape)[0], expected)


def test_the_cohort_knows_no_labels_and_occupancy_is_the_intensity(
    adrenal: ModuleType, tmp_path: Path
) -> None:
    examples = made_up(adrenal)
    cohort, split = adrenal.as_cohort(tmp_path / "cohort", examples)
    config = adrenal.configured(adrenal.CONFIG, 0, [])
    scans = cohort.scans(config.data.sequence)
    assert split.frame["set"].tolist() == examples.sets.tolist()
    assert scans["subject_id"].tolist() == split.frame["subject_id"].tolist()
    tables = [cohort.table(name) for name in ("subjects", "visits", "joints", "outcomes")]
    assert not {c for table in tables for c in table.columns} & {"label", "labels", "MASS"}
    stored = cohort.read(config.data.sequence, np.arange(2))
    rule = config.intensity
    value = normalise_intensity(stored[1] + scans["offset"].iloc[1], rule) * rule.sd + rule.mean
    np.testing.assert_allclose(value, stored[1] / adrenal.BLOCK**3, atol=1e-6)


def test_the_test_labels_change_no_score_and_no_penalty(adrenal: ModuleType) -> None:
    examples = made_up(adrenal)
    rng = np.random.default_rng(2)
    features = examples.labels[:, None] + rng.normal(size=(len(examples.labels), 5))
    figures, scores = adrenal.probe(features, examples)
    turned = np.where(examples.sets == "test", 1 - examples.labels, examples.labels)
    again, same = adrenal.probe(features, examples._replace(labels=turned))
    assert again == figures
    np.testing.assert_array_equal(scores, same)
    val = examples.sets == "val"
    fitted = adrenal.classifier(figures["penalty"]).fit(
        features[examples.sets == "train"], examples.labels[examples.sets == "train"]
    )
    decided = fitted.decision_function(features[val])
    above = decided[examples.labels[val] == 1][:, None] - decided[examples.labels[val] == 0][None]
    assert figures["val"] == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())


def test_the_bootstrap_draws_subjects(adrenal: ModuleType) -> None:
    labels = np.tile([0, 1], 30)
    scores = labels + np.random.default_rng(3).normal(size=60)
    found = adrenal.bootstrap(labels, [scores], draws=200)
    np.testing.assert_array_equal(found, adrenal.bootstrap(labels, [3 * scores], draws=200))
    assert found.std() > 0
    assert abs(found.mean() - adrenal.auc(labels, scores)) < 0.03


@pytest.mark.skipif(not DATA.is_file(), reason=f"{DATA} is absent")
@pytest.mark.slow
def test_a_few_steps_on_real_shapes(
    adrenal: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["ssl", "untrained", "supervised", "pca_64", "measures"]
    words = ["--most", "40", "--seeds", "1", "--data", str(DATA.parent), "--arms", *arms, *SMALL]
    monkeypatch.setattr(sys, "argv", ["adrenal.py", *words])
    adrenal.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["test_auc"]) == set(arms)
    for figures in result["test_auc"].values():
        low, high = figures["interval"]
        assert 0 <= low <= figures["mean"] <= high <= 1
        assert len(figures["seeds"]) == 1
    assert result["published"]["resnet18_3d_28"] == 0.827
    assert set(result["ssl_minus"]) == set(arms) - {"ssl"}
