"""Attribution of a small distilled run, from its files to the files written."""

import json
from pathlib import Path
from runpy import run_path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import ClinicalEncoderConfig, EncoderConfig, ProjectionConfig
from spinmark_models.export import load_encoder
from spinmark_models.intensity import normalise_intensity
from spinmark_training.attribution import Written, attribution, write_attribution
from spinmark_training.attribution.opened import open_run
from spinmark_training.attribution.volumes import VolumeBaseline
from spinmark_training.config import (
    AttributionConfig,
    DataConfig,
    DistilConfig,
    MonitorConfig,
    OptimConfig,
    PartsConfig,
    PretrainConfig,
    TeacherConfig,
    TrainerConfig,
    TransferConfig,
)
from spinmark_training.distil import distil
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain
from spinmark_training.sources import ScanSource

COMMON = {
    "data": DataConfig(subjects_per_batch=5),
    "encoder": EncoderConfig(widths=(4, 8), embedding=8),
    "projection": ProjectionConfig(hidden=8, out=8),
    "trainer": TrainerConfig(),
    "monitor": MonitorConfig(every=0),
}
TEACHER = TeacherConfig(encoder=ClinicalEncoderConfig(hidden=8, latent=3, token=2), steps=60)
CONFIG = AttributionConfig(count=1, randomised=1, cascade=True, box=(4, 8, 8))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    cohort, split = write(tmp_path_factory.mktemp("cohort") / "cohort")
    return cohort, split


@pytest.fixture(scope="module")
def base(tiny: tuple[Cohort, Split], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "base"
    pretrain(*tiny, PretrainConfig(optim=OptimConfig(steps=1), **COMMON), out)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def run(tiny: tuple[Cohort, Split], base: Path) -> Path:
    out = base.with_name("distilled")
    config = DistilConfig(teacher=TEACHER, optim=OptimConfig(steps=40), **COMMON)  # type: ignore[arg-type]
    distil(*tiny, base, config, out)
    return out


@pytest.fixture(scope="module")
def written(
    tiny: tuple[Cohort, Split], run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Written]:
    folder = tmp_path_factory.mktemp("attributed")
    told: list[tuple[int, int]] = []
    found = write_attribution(
        folder, attribution(tiny[0], run, CONFIG), progress=lambda *pair: told.append(pair)
    )
    assert told == [(1, 1)]
    return folder, found


def test_tables_and_volumes_add_up_to_the_similarity(written: tuple[Path, Written]) -> None:
    folder, _ = written
    summary = json.loads((folder / "summary.json").read_text())
    table = pd.read_parquet(folder / "table.parquet")
    groups = pd.read_csv(folder / "groups.csv")
    assert summary["space"] == "alignment"
    assert summary["baseline_scans"] == 40
    for page in summary["scans"]:
        assert page["set"] == "test"
        cells = table[table["scan_id"] == page["scan_id"]]
        change = page["similarity"] - page["table_baseline_similarity"]
        allowed = 0.05 * max(abs(change), 0.1) + 1e-5
        assert cells["attribution"].sum() == pytest.approx(change, abs=allowed)
        for by in ("role", "group"):
            rows = groups[(groups["scan_id"] == page["scan_id"]) & (groups["by"] == by)]
            assert rows["attribution"].sum() == pytest.approx(cells["attribution"].sum(), abs=1e-6)
        name = page["scan_id"].replace(":", "_")
        voxels = nibabel.load(folder / "voxels" / f"{name}.nii.gz").get_fdata()
        change = page["similarity"] - page["voxel_baseline_similarity"]
        allowed = 0.05 * max(abs(change), 0.1) + 1e-5
        assert voxels.sum() == pytest.approx(change, abs=allowed)
        assert page["voxel_complete"] == page["table_complete"] == 1
        for kind in ("voxels", "cells"):
            assert (folder / "pictures" / f"{name}_{kind}.png").stat().st_size > 1000


def test_no_value_of_a_cell_is_written(
    tiny: tuple[Cohort, Split], written: tuple[Path, Written]
) -> None:
    folder, _ = written
    table = pd.read_parquet(folder / "table.parquet")
    text = ["scan_id", "variable", "label", "role", "group"]
    assert table.columns.tolist() == [*text, "attribution", "occlusion", "randomised"]
    assert set(table["variable"]) == {"SEX", "AGE", *(f"PAIN{i}" for i in range(6))}
    ages = set(tiny[0].table("visits")["AGE"].round(4).astype(str))
    for path in [*folder.glob("*.csv"), folder / "summary.json"]:
        assert not any(age in path.read_text() for age in ages)


def test_a_trained_run_gives_other_maps_than_random_weights(
    written: tuple[Path, Written],
) -> None:
    mean = written[1].summary["mean"]
    assert abs(mean["voxel_randomised_signed"]) < 0.5
    assert mean["voxel_randomised_gradient"] < 0.8
    cascaded = written[1].summary["scans"][0]["cascade"]
    assert list(cascaded) == ["heads", "flatten", "stages.1", "stages.0", "stem"]
    assert all(-1 <= step["signed"] < 0.9 for step in cascaded.values())


def test_hiding_agrees_with_gradients(written: tuple[Path, Written]) -> None:
    mean = written[1].summary["mean"]
    assert mean["table_occlusion_correlation"] > 0.3
    assert mean["voxel_occlusion_correlation"] > 0.3


def test_equal_calls_write_equal_files(
    tiny: tuple[Cohort, Split], run: Path, written: tuple[Path, Written], tmp_path: Path
) -> None:
    write_attribution(tmp_path, attribution(tiny[0], run, CONFIG))
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert names == sorted(
        str(p.relative_to(written[0])) for p in written[0].rglob("*") if p.is_file()
    )
    assert all((tmp_path / n).read_bytes() == (written[0] / n).read_bytes() for n in names)


@pytest.mark.slow
def test_a_run_without_heads_is_compared_by_a_ridge_regression(
    tiny: tuple[Cohort, Split], base: Path, tmp_path: Path
) -> None:
    config = DistilConfig(
        teacher=TEACHER,
        optim=OptimConfig(steps=1),
        transfer=TransferConfig(terms={"rkd_distance": 1.0}),
        **COMMON,  # type: ignore[arg-type]
    )
    distil(*tiny, base, config, tmp_path / "run")
    assert not (tmp_path / "run" / "alignment").exists()
    quick = AttributionConfig(
        count=1, randomised=1, box=(8, 8, 8), table_baseline="median", voxel_baseline="blurred"
    )
    found = write_attribution(tmp_path / "out", attribution(tiny[0], tmp_path / "run", quick))
    assert found.summary["space"] == "ridge"
    (page,) = found.summary["scans"]
    assert page["table_complete"] == page["voxel_complete"] == 1


def test_an_embedding_in_parts_is_explained_by_its_table_part(
    tiny: tuple[Cohort, Split], base: Path, tmp_path: Path
) -> None:
    config = DistilConfig(
        teacher=TEACHER,
        optim=OptimConfig(steps=1),
        transfer=TransferConfig(terms={"clip": 1.0}, parts=PartsConfig(table=3)),
        **COMMON,  # type: ignore[arg-type]
    )
    distil(*tiny, base, config, tmp_path / "run")
    opened = open_run(tiny[0], tmp_path / "run", AttributionConfig(voxel_baseline="zero"))
    assert opened.similarity.space == "alignment"
    volume = torch.randn(1, 1, *opened.source.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding = opened.similarity.embedding(volume)
        embedding[:, 3:] = 0
        torch.testing.assert_close(
            opened.similarity.image(volume), opened.similarity.heads.image(embedding)
        )


@pytest.mark.parametrize("kind", ["mean", "zero", "blurred"])
def test_baselines_of_volumes(tiny: tuple[Cohort, Split], run: Path, kind: str) -> None:
    cohort, split = tiny
    spec = load_encoder(run / "encoder")[1]
    train = ScanSource(cohort, "SAG_3D_DESS", split, ("train",))
    made = VolumeBaseline(kind, train, spec.intensity, most=40, blur_mm=100.0)  # type: ignore[arg-type]
    volume = torch.randn(1, *train.shape, generator=torch.Generator().manual_seed(0))
    baseline = made(volume)
    assert baseline.shape == volume.shape
    if kind == "zero":
        # What the rule makes of a voxel without signal in a scan with some.
        scan = train.stored(train.rows[:1])[0].astype(float)
        scan[0, 0, 0] = 0
        dark = normalise_intensity(scan, spec.intensity)[0, 0, 0]
        torch.testing.assert_close(baseline, torch.full_like(baseline, float(dark)))
    elif kind == "mean":
        stored = train.stored(train.rows)
        expected = np.mean([normalise_intensity(v, spec.intensity) for v in stored], axis=0)
        np.testing.assert_allclose(baseline[0], expected, atol=1e-4)
        assert made.scans == 40
    else:
        assert float(baseline.std()) < 0.1
        # Beyond its faces a volume goes on as it ends, so that a level stays.
        level = torch.full_like(volume, 3.0)
        torch.testing.assert_close(made(level), level)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"most_steps": 8}, "most_steps: 8; accepted are 16 and more"),
        ({"tolerance": 0.0}, r"tolerance: 0.0; accepted are values in \(0, 1\)"),
        ({"baseline_scans": 0}, "baseline_scans: 0; accepted are 1 and more"),
        ({"labels": "mine"}, "labels: the cohort has no label maps 'mine'"),
    ],
)
def test_settings_out_of_range_are_refused(
    tiny: tuple[Cohort, Split], run: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(attribution(tiny[0], run, AttributionConfig(count=1, **changes)))  # type: ignore[arg-type]


def test_a_run_without_a_teacher_is_refused(tiny: tuple[Cohort, Split], base: Path) -> None:
    with pytest.raises(InputError, match=r"has no teacher.*accepted is a run of `spinmark distil`"):
        open_run(tiny[0], base, CONFIG)
    with pytest.raises(InputError, match="threads: 0"):
        open_run(tiny[0], base, AttributionConfig(threads=0))


def test_the_run_tells_the_sets(run: Path, tiny: tuple[Cohort, Split]) -> None:
    opened = open_run(tiny[0], run, CONFIG)
    assert set(opened.sets) == {"train", "val", "test"}
    assert opened.variables["variable"].tolist() == list(opened.similarity.clinical.schema.names)
