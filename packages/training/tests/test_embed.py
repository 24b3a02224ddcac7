from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split, write_split
from spinmark_models.export import load_encoder
from spinmark_models.intensity import normalise_intensity
from spinmark_training.config import EmbedConfig, PretrainConfig
from spinmark_training.embed import embed, embeddings_dataset, folder_hash, write_embeddings
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain

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
    assert vectors.attrs == {
        "schema": "spinmark/embeddings",
        "version": 1,
        "sequence": "TINY",
        "objective": "simclr",
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
    config = EmbedConfig(threads=1, batch_size=7)
    other = embed(world[0], run, config, progress=lambda *now: told.append(now))
    np.testing.assert_allclose(other["embedding"], vectors["embedding"], atol=1e-5)
    assert told == [(min(7 * i, 64), 64) for i in range(1, 11)]


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
