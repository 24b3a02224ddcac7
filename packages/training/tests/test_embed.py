"""One vector a scan: by hand, by any number of workers, in windows, and in random views."""

import dataclasses
import hashlib
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, write_split
from spinmark_models.export import load_encoder
from spinmark_models.intensity import normalise_intensity
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import (
    AlignConfig,
    EmbedConfig,
    PretrainConfig,
    ViewsConfig,
    WindowConfig,
)
from spinmark_training.embed import (
    embed,
    embed_shard,
    embeddings_dataset,
    folder_hash,
    write_embeddings,
)
from spinmark_training.embedding.plan import run_augment
from spinmark_training.embedding.windows import window_corners, window_starts, window_weights
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain
from spinmark_training.sources import ScanSource
from spinmark_training.views import random_views

World = tuple[Cohort, Split]


@pytest.fixture(scope="module")
def run(
    world: World,
    make_config: Callable[..., PretrainConfig],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("embed") / "run"
    pretrain(*world, make_config(steps=2), out)
    return out


@pytest.fixture(scope="module")
def vectors(world: World, run: Path) -> xr.Dataset:
    return embed(world[0], run, EmbedConfig(threads=1))


def test_vectors_are_those_of_the_encoder_called_by_hand(
    world: World, run: Path, vectors: xr.Dataset
) -> None:
    cohort, _ = world
    encoder, spec = load_encoder(run / "encoder")
    scans = cohort.scans("TINY")
    assert vectors["embedding"].shape == (len(scans), 8)
    for row in (0, 7, 63):
        value = cohort.read("TINY", np.array([row]))[0] * scans["scale"][row]
        seen = torch.from_numpy(normalise_intensity(value, spec.intensity))[None, None]
        with torch.no_grad():
            by_hand = encoder(seen).embedding[0].numpy()
        np.testing.assert_allclose(vectors["embedding"][row], by_hand, atol=2e-4)


def test_every_scan_is_labelled_by_cohort_and_split(
    world: World, run: Path, vectors: xr.Dataset
) -> None:
    cohort, split = world
    scans = cohort.scans("TINY")
    for name in (
        "scan_id",
        "subject_id",
        "laterality",
        "joint_id",
        "visit",
        "rank",
        "days",
        "site",
    ):
        assert list(vectors[name].to_numpy()) == list(scans[name])
    by_subject = split.frame.set_index("subject_id").loc[scans["subject_id"]]
    assert list(vectors["set"].to_numpy()) == list(by_subject["set"])
    assert list(vectors["fold"].to_numpy()) == list(by_subject["fold"])
    config = json.loads(vectors.attrs["config"])
    assert config["sequence"] == "TINY"
    assert "workers" not in config
    assert {k: v for k, v in vectors.attrs.items() if k != "config"} == {
        "uses": "[]",
        "schema": "spinmark/embeddings",
        "version": 1,
        "sequence": "TINY",
        "objective": load_encoder(run / "encoder")[1].extra["objective"],
        "encoder_hash": folder_hash(run / "encoder"),
        "cohort_hash": cohort.hash,
        "split_hash": split.hash,
    }


def test_sets_are_those_of_the_split_in_the_run(
    world: World, run: Path, vectors: xr.Dataset, tmp_path: Path
) -> None:
    cohort, split = world
    frame = split.frame.assign(set="test", fold=0)
    (tmp_path / "encoder").mkdir()
    for name in ("model.safetensors", "encoder.json"):
        (tmp_path / "encoder" / name).write_bytes((run / "encoder" / name).read_bytes())
    write_split(tmp_path, frame)
    other = embed(cohort, tmp_path, EmbedConfig(threads=1))
    assert set(other["set"].to_numpy()) == {"test"}
    assert set(other["fold"].to_numpy()) == {0}
    assert other.attrs["encoder_hash"] == vectors.attrs["encoder_hash"]
    np.testing.assert_array_equal(other["embedding"], vectors["embedding"])

    write_split(tmp_path, frame.iloc[1:])
    with pytest.raises(InputError, match=r"^split: subject s00 [^\n]*$"):
        embed(cohort, tmp_path, EmbedConfig(threads=1))


def test_the_batch_size_changes_nothing_and_progress_is_told(
    world: World, run: Path, vectors: xr.Dataset
) -> None:
    told: list[tuple[int, int]] = []
    config = EmbedConfig(threads=1, batch_size=7, piece=10)
    other = embed(world[0], run, config, progress=lambda *now: told.append(now))
    np.testing.assert_allclose(other["embedding"], vectors["embedding"], atol=1e-5)
    assert told == [(min(10 * i, 64), 64) for i in range(1, 8)]


def test_embeddings_are_read_back_as_written(vectors: xr.Dataset, tmp_path: Path) -> None:
    write_embeddings(tmp_path, vectors)
    found = xr.open_zarr(tmp_path / "embeddings.zarr", consolidated=False, chunks=None)
    np.testing.assert_array_equal(found["embedding"], vectors["embedding"])
    assert list(found["scan_id"].to_numpy()) == list(vectors["scan_id"].to_numpy())
    assert found.attrs == vectors.attrs


def test_values_that_are_not_finite_are_refused(world: World) -> None:
    vectors = np.zeros((64, 8), np.float32)
    vectors[3, 1] = np.nan
    with pytest.raises(InputError, match=r"^embedding: scan s00:R:V01:TINY:0 [^\n]*1 such"):
        embeddings_dataset(vectors, *world, "TINY", objective="simclr", encoder_hash="")


def test_bad_settings_are_named(world: World, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'NONE'"):
        embed(world[0], run, EmbedConfig(sequence="NONE"))
    with pytest.raises(InputError, match="batch_size: 0"):
        embed(world[0], run, EmbedConfig(batch_size=0))
    with pytest.raises(ValueError, match=r"encoder\.json"):
        embed(world[0], tmp_path, EmbedConfig())


# Pieces, shards and workers


def names_and_times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_work_that_was_cut_short_goes_on(
    world: World, run: Path, vectors: xr.Dataset, tmp_path: Path
) -> None:
    config = EmbedConfig(threads=1, piece=16)

    class Killed(BaseException):
        pass

    def kill(done: int, total: int) -> None:
        if done == 32:
            raise Killed

    with pytest.raises(Killed):
        embed(world[0], run, config, pieces=tmp_path, progress=kill)
    before = names_and_times(tmp_path)
    assert len(before) == 2
    told: list[tuple[int, int]] = []
    found = embed(world[0], run, config, pieces=tmp_path, progress=lambda *now: told.append(now))
    assert told == [(48, 64), (64, 64)]
    after = names_and_times(tmp_path)
    assert {name: after[name] for name in before} == before
    np.testing.assert_allclose(found["embedding"], vectors["embedding"], atol=1e-5)


def test_a_damaged_piece_is_done_again(
    world: World, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = EmbedConfig(threads=1, piece=16)
    first = embed(world[0], run, config, pieces=tmp_path)
    whole = sorted(tmp_path.iterdir())
    whole[0].write_bytes(whole[0].read_bytes()[:300])
    content = bytearray(whole[1].read_bytes())
    content[len(content) // 2] ^= 0xFF
    whole[1].write_bytes(bytes(content))
    again = embed(world[0], run, config, pieces=tmp_path)
    assert caplog.text.count("is damaged") == 2
    np.testing.assert_array_equal(again["embedding"], first["embedding"])


def test_pieces_of_other_inputs_are_not_taken(world: World, run: Path, tmp_path: Path) -> None:
    configs = [
        EmbedConfig(threads=1),
        EmbedConfig(threads=1, views=ViewsConfig(count=2)),
        EmbedConfig(threads=1, views=ViewsConfig(count=2, seed=1)),
        EmbedConfig(threads=1, windows=WindowConfig(overlap=0.5)),
        EmbedConfig(threads=1, batch_size=5),  # the same as the first
    ]
    for config in configs:
        embed(world[0], run, config, pieces=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.slow
@pytest.mark.multiproc
def test_the_number_of_workers_changes_nothing(
    world: World, run: Path, vectors: xr.Dataset, tmp_path: Path
) -> None:
    config = EmbedConfig(threads=2, workers=2, piece=20, views=ViewsConfig(count=2))
    several = embed(world[0], run, config, pieces=tmp_path / "a")
    one = dataclasses.replace(config, workers=1, threads=1)
    alone = embed(world[0], run, dataclasses.replace(one, piece=33))
    np.testing.assert_allclose(several["embedding"], vectors["embedding"], atol=1e-5)
    for name in ("embedding_sd", "uncertainty"):
        np.testing.assert_allclose(several[name], alone[name], atol=1e-5)
    shards = [
        embed_shard(world[0], run, one, pieces=tmp_path / "b", shard=(number, 3))
        for number in (2, 0)
    ]
    assert shards == [20, 20 + 4]
    merged = embed(world[0], run, one, pieces=tmp_path / "b")
    np.testing.assert_allclose(merged["embedding"], several["embedding"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.multiproc
def test_a_worker_that_dies_is_told_and_the_work_goes_on(
    world: World, run: Path, vectors: xr.Dataset, tmp_path: Path
) -> None:
    config = EmbedConfig(threads=2, workers=2, piece=4)

    def kill(done: int, total: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(InputError, match=r"^workers: one of 2 processes died[^\n]*fewer workers"):
        embed(world[0], run, config, pieces=tmp_path, progress=kill)
    before = names_and_times(tmp_path)
    found = embed(world[0], run, dataclasses.replace(config, workers=1), pieces=tmp_path)
    after = names_and_times(tmp_path)
    assert {name: after[name] for name in before if name in after} == {
        name: stamp for name, stamp in before.items() if not name.startswith(".")
    }
    np.testing.assert_allclose(found["embedding"], vectors["embedding"], atol=1e-5)


def test_a_share_that_is_not_there_is_named(world: World, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shard: 3/3; accepted are 0/3"):
        embed_shard(world[0], run, EmbedConfig(), pieces=tmp_path, shard=(3, 3))
    # More shares than pieces: some have nothing to do.
    assert not embed_shard(world[0], run, EmbedConfig(threads=1), pieces=tmp_path, shard=(8, 9))


# Views


def test_uncertainty_is_the_spread_of_the_views(world: World, run: Path) -> None:
    cohort = world[0]
    config = EmbedConfig(threads=1, views=ViewsConfig(count=3, seed=5))
    found = embed(cohort, run, config)
    encoder, spec = load_encoder(run / "encoder")
    source = ScanSource(cohort, "TINY", None)
    row = np.array([17])
    key = int.from_bytes(hashlib.sha256(str(found["scan_id"].values[17]).encode()).digest()[:8])
    with torch.no_grad():
        views = [
            encoder(random_views(source, row, AugmentConfig(), spec.intensity, key=(5, key, v)))
            for v in range(3)
        ]
    by_hand = np.stack([view.embedding[0].numpy() for view in views]).astype(np.float64)
    sd = by_hand.std(axis=0, ddof=1)
    np.testing.assert_allclose(found["embedding_sd"].values[17], sd, rtol=1e-3, atol=1e-6)
    fitted = found["embedding"].values[found["set"].values != "test"].astype(np.float64)
    between = np.sqrt(fitted.var(axis=0, ddof=1).sum())
    expected = np.sqrt((sd**2).sum()) / between
    np.testing.assert_allclose(found["uncertainty"].values[17], expected, rtol=1e-3)


def test_views_leave_the_embedding_unless_asked(
    world: World, run: Path, vectors: xr.Dataset
) -> None:
    views = ViewsConfig(count=2)
    plain = embed(world[0], run, EmbedConfig(threads=1, views=views))
    np.testing.assert_allclose(plain["embedding"], vectors["embedding"], atol=1e-6)
    mean = embed(
        world[0], run, EmbedConfig(threads=1, views=dataclasses.replace(views, average=True))
    )
    apart = np.abs(mean["embedding"].values - plain["embedding"].values)
    assert apart.max() > 1e-4
    # Plain and two views: the mean of three is within twice their spread.
    assert (apart <= 2 * plain["embedding_sd"].values + 2 * np.abs(apart).max()).all()


def test_the_augmentation_is_that_of_the_run(run: Path, tmp_path: Path) -> None:
    assert run_augment(run) == AugmentConfig()
    told = dataclasses.asdict(AugmentConfig(rotation_deg=2.0)) | {"of_another_release": 1}
    (tmp_path / "run.json").write_text(json.dumps({"config": {"augment": told}}))
    assert run_augment(tmp_path) == AugmentConfig(rotation_deg=2.0)


# Scans that are no numbers


def test_scans_that_are_no_numbers_are_listed_and_the_others_embedded(
    make_world: Callable[..., World], run: Path, vectors: xr.Dataset, tmp_path: Path
) -> None:
    spoilt, split = make_world(tmp_path / "spoilt", garbage=True)
    good = np.isin(vectors["subject_id"].values, sorted(split.subjects("train")))
    found = embed(spoilt, run, EmbedConfig(threads=1, views=ViewsConfig(count=2)))
    np.testing.assert_array_equal(found["scan_id"], vectors["scan_id"].values[good])
    np.testing.assert_allclose(found["embedding"], vectors["embedding"].values[good], atol=1e-5)
    write_embeddings(tmp_path, found)
    issues = pd.read_parquet(tmp_path / "issues.parquet")
    assert list(issues["source"]) == sorted(vectors["scan_id"].values[~good])
    assert set(issues["kind"]) == {"quarantined"}
    with pytest.raises(InputError, match=r"^scan s02:L:V00:TINY:0: [^\n]*32 of 64 scans"):
        embed(spoilt, run, EmbedConfig(threads=1, bad_scans="refuse"))


# Windows


@pytest.mark.parametrize("extent", [8, 9, 13, 31])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_a_volume_and_overlap_as_asked(extent: int, overlap: float) -> None:
    starts = window_starts(extent, 8, overlap)
    assert starts[0] == 0
    assert starts[-1] == extent - 8
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= max(1, 8 * (1 - overlap))).all()
    assert set().union(*(range(s, s + 8) for s in starts)) == set(range(extent))


def test_gaussian_weights_fall_from_the_middle() -> None:
    corners = window_corners((4, 12, 4), (4, 4, 4), 0.5)
    assert corners.tolist() == [[0, y, 0] for y in (0, 2, 4, 6, 8)]
    weights = window_weights(corners, (4, 12, 4), (4, 4, 4), "gaussian")
    assert weights.sum() == pytest.approx(1)
    # Two voxels from one centre to the next are one standard deviation.
    np.testing.assert_allclose(weights / weights[2], np.exp(-0.5 * np.array([4, 1, 0, 1, 4])))
    uniform = window_weights(corners, (4, 12, 4), (4, 4, 4), "uniform")
    np.testing.assert_allclose(uniform, 0.2)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three subjects whose volumes are larger than the encoder's grid."""
    rng = np.random.default_rng(3)
    scans = pd.DataFrame(
        {"subject_id": ["s00", "s01", "s02"], "laterality": "R", "visit": "V00", "days": 0.0}
    )
    volume = rng.integers(0, 900, (3, 8, 20, 24)).astype(np.uint16)
    path = tmp_path_factory.mktemp("large") / "cohort"
    volumes = SequenceVolumes(volume=volume, scans=scans, spacing_mm=(3.0, 1.5, 1.5))
    write_cohort(path, volumes={"TINY": volumes}, tables={}, provenance={})
    return Cohort.open(path)


@pytest.mark.parametrize("weights", ["uniform", "gaussian"])
def test_the_embedding_of_a_large_volume_is_the_mean_over_its_windows(
    large: Cohort, run: Path, weights: Any
) -> None:
    config = EmbedConfig(
        threads=1, batch_size=2, windows=WindowConfig(overlap=0.5, weights=weights)
    )
    found = embed(large, run, config)["embedding"].values
    encoder, spec = load_encoder(run / "encoder")
    volume = large.read("TINY", np.array([1]))[0].astype(np.float32)
    scans = large.scans("TINY")
    value = volume * float(scans["scale"][1]) + float(scans["offset"][1])
    seen = torch.from_numpy(normalise_intensity(value, spec.intensity))[None, None]
    parts, share = [], []
    for y in (0, 4):
        for x in (0, 8):
            with torch.no_grad():
                part = encoder(seen[..., y : y + 16, x : x + 16]).embedding[0]
            parts.append(part.numpy())
            # Centres are 2 and 4 voxels off the middle, half a window is 8.
            share.append(1.0 if weights == "uniform" else np.exp(-0.5 * (4 + 16) / 64))
    expected = np.average(parts, axis=0, weights=share)
    np.testing.assert_allclose(found[1], expected, atol=2e-4)


def test_a_grid_that_does_not_fit_is_named(large: Cohort, run: Path, world: World) -> None:
    with pytest.raises(InputError, match=r"\(8, 20, 24\); the encoder takes \(8, 16, 16\) alone"):
        embed(large, run, EmbedConfig(windows=WindowConfig(mode="whole")))
    with pytest.raises(InputError, match=r"windows\.overlap: 1\.0"):
        embed(large, run, EmbedConfig(windows=WindowConfig(overlap=1.0)))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (EmbedConfig(workers=0), "workers: 0"),
        (EmbedConfig(piece=0), "piece: 0"),
        (EmbedConfig(threads=0), "threads: 0"),
        (EmbedConfig(views=ViewsConfig(count=1)), r"views\.count: 1"),
        (EmbedConfig(views=ViewsConfig(count=2, seed=-1)), r"views\.seed: -1"),
        (EmbedConfig(views=ViewsConfig(average=True)), r"views\.average"),
        (EmbedConfig(align=AlignConfig(parts=1)), r"align\.parts: 1"),
        (EmbedConfig(align=AlignConfig(anchors=1)), r"align\.anchors: 1"),
    ],
)
def test_settings_out_of_range_are_named(
    world: World, run: Path, config: EmbedConfig, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        embed(world[0], run, config)
