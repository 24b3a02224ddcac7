"""K encoders over the folds: who learns from whom, resume, and one space for all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split, fold_manifest, read_split, split_hash
from spinmark_models.export import load_encoder
from spinmark_training.alignment import UNRELATED
from spinmark_training.config import (
    AlignConfig,
    CrossfitConfig,
    EmbedConfig,
    PretrainConfig,
    ViewsConfig,
)
from spinmark_training.crossfit import (
    Crossfit,
    chosen_folds,
    fold_split,
    folds_of,
    gather,
    monitors,
    read_crossfit,
    train_folds,
)
from spinmark_training.embed import embed, embed_rows, embed_shard, folder_hash, write_embeddings
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain
from spinmark_training.sources import ScanSource

World = tuple[Cohort, Split]
CONFIG = CrossfitConfig()
EMBED = EmbedConfig(threads=1, align=AlignConfig(parts=2))


def as_split(frame: pd.DataFrame) -> Split:
    return Split(frame=frame, hash=split_hash(frame))


@pytest.fixture(scope="module")
def split(world: World) -> Split:
    """Three folds; the validation set is four subjects, one of them in the first fold."""
    frame = world[1].frame.copy()
    frame["fold"] = [number % 3 for number in range(len(frame))]
    return as_split(frame)


def trainer(
    cohort: Cohort, config: PretrainConfig, told: list[int] | None = None
) -> Callable[[int, Split, Path], None]:
    def train(fold: int, own: Split, folder: Path) -> None:
        if told is not None:
            told.append(fold)
        pretrain(cohort, own, config, folder)

    return train


@pytest.fixture(scope="module")
def run(
    world: World,
    split: Split,
    make_config: Callable[..., PretrainConfig],
    tmp_path_factory: pytest.TempPathFactory,
) -> Crossfit:
    out = tmp_path_factory.mktemp("crossfit") / "run"
    train_folds(trainer(world[0], make_config(steps=3)), split, out, folds_of(split), CONFIG)
    return gather(split, out, CONFIG)


@pytest.fixture(scope="module")
def vectors(world: World, run: Crossfit) -> xr.Dataset:
    return embed(world[0], run.folder, EMBED)


@settings(max_examples=15, deadline=None)
@given(
    places=st.lists(
        st.tuples(st.sampled_from(["train", "val", "test"]), st.integers(0, 3)),
        min_size=12,
        max_size=20,
    ),
    learn_from_test=st.booleans(),
)
def test_nobody_is_embedded_by_who_learnt_from_them(
    places: list[tuple[str, int]], learn_from_test: bool
) -> None:
    sets, folds = zip(*places, strict=True)
    frame = pd.DataFrame({"subject_id": [f"s{i:02d}" for i in range(len(places))]})
    whole = as_split(frame.assign(set=list(sets), fold=list(folds)))
    config = CrossfitConfig(learn_from_test=learn_from_test)
    try:
        runs = {k: fold_split(whole, k, config) for k in folds_of(whole)}
    except InputError:
        return
    manifest = fold_manifest(whole.frame).set_index(["fold", "subject_id"])["role"]
    for k, own in runs.items():
        assert set(own.frame["subject_id"]) == set(whole.frame["subject_id"])
        assert list(own.frame["fold"]) == list(whole.frame["fold"])
        for row in own.frame.itertuples():
            held_out = manifest.loc[(k, row.subject_id)] == "held_out"
            assert not held_out or row.set == "test"
    watch = monitors(whole, config)
    learnt = {k: own.subjects("train") for k, own in runs.items()}
    # Those who watch are seen by no encoder, so that they may anchor all of them.
    assert not watch & set().union(*learnt.values())
    tests = set(whole.subjects("test"))
    for row in whole.frame.itertuples():
        seen = {k for k, subjects in learnt.items() if row.subject_id in subjects}
        outside = row.subject_id in watch or (not learn_from_test and row.subject_id in tests)
        assert seen == (set() if outside else set(runs) - {row.fold})


def test_without_a_validation_set_some_subjects_watch(split: Split) -> None:
    frame = split.frame.assign(set="train")
    few = monitors(as_split(frame), CrossfitConfig(val_share=0.25))
    assert len(few) == 4
    assert few == monitors(as_split(frame.iloc[::-1]), CrossfitConfig(val_share=0.25))
    with pytest.raises(InputError, match=r"val_share: 1\.0"):
        monitors(as_split(frame), CrossfitConfig(val_share=1.0))


def test_bad_folds_are_named(split: Split) -> None:
    assert chosen_folds(split, "all") == [0, 1, 2]
    assert chosen_folds(split, 2) == [2]
    with pytest.raises(InputError, match="fold: 7; accepted are all and 0, 1, 2"):
        chosen_folds(split, 7)
    with pytest.raises(InputError, match="has 1 fold"):
        folds_of(as_split(split.frame.assign(fold=0)))
    lone = split.frame.assign(fold=[0] + [1] * (len(split.frame) - 1))
    with pytest.raises(InputError, match="fold 1: leaves no subject for val"):
        fold_split(as_split(lone), 1, CONFIG)


def test_each_fold_is_a_whole_run_with_a_split_of_its_own(run: Crossfit, split: Split) -> None:
    assert sorted(run.runs) == [0, 1, 2]
    assert run.monitors == {"s02", "s06", "s10", "s14"}
    assert read_split(run.folder).hash == split.hash
    hashes = set()
    for fold, folder in run.runs.items():
        own = read_split(folder)
        held_out = set(split.frame.loc[split.frame["fold"] == fold, "subject_id"])
        assert set(own.subjects("test")) == held_out
        _, spec = load_encoder(folder / "encoder")
        assert spec.extra["training_subjects"] == len(own.subjects("train"))
        assert run.record["folds"][str(fold)]["weights_sha256"] == spec.weights_sha256
        hashes.add(spec.weights_sha256)
    assert len(hashes) == 3
    doctor = json.loads((run.folder / "doctor.json").read_text())
    assert {finding["fold"] for finding in doctor["findings"]} <= {0, 1, 2}


def test_the_encoder_of_a_fold_never_sees_its_subjects(
    make_world: Callable[..., World],
    make_config: Callable[..., PretrainConfig],
    tmp_path: Path,
) -> None:
    # The volumes and scales of all but the subjects 0, 1 of every four are garbage in the second cohort;
    # let those be one fold.
    clean, whole = make_world(tmp_path / "clean")
    spoilt, _ = make_world(tmp_path / "spoilt", garbage=True)
    good = whole.frame["set"] == "train"
    number = np.arange(len(whole.frame))
    places = np.where(number % 8 == 0, "val", "train").astype(object)
    frame = whole.frame.assign(fold=np.where(good, 1 + number % 2, 0), set=places)
    own = fold_split(as_split(frame), 0, CONFIG)
    assert set(own.subjects("test")) == set(whole.subjects("val", "test"))
    for cohort, name in ((clean, "a"), (spoilt, "b")):
        pretrain(cohort, own, make_config(steps=4), tmp_path / name)
    for file in ("encoder/model.safetensors", "metrics.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_fold_that_is_there_is_left_and_another_is_asked_for(
    world: World,
    split: Split,
    run: Crossfit,
    make_config: Callable[..., PretrainConfig],
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    for fold in (0, 2):
        shutil.copytree(run.runs[fold], out / f"fold-{fold}")
    with pytest.raises(InputError, match=r"fold-1: holds no whole run[^\n]*--fold 1"):
        gather(split, out, CONFIG)
    assert read_crossfit(out) is None
    told: list[int] = []
    train_folds(trainer(world[0], make_config(steps=3), told), split, out, [1], CONFIG)
    assert told == [1]
    again = gather(split, out, CONFIG)
    for fold, folder in again.runs.items():
        assert folder_hash(folder / "encoder") == folder_hash(run.runs[fold] / "encoder")
    assert again.record == run.record
    with pytest.raises(InputError, match=r"fold-0: was trained with another split"):
        gather(as_split(split.frame.assign(fold=1 - split.frame["fold"] % 2)), out, CONFIG)
    shutil.rmtree(out / "fold-2")
    with pytest.raises(InputError, match="the run of fold 2 is absent"):
        read_crossfit(out)


def test_each_scan_is_embedded_by_the_encoder_that_never_saw_its_subject(
    world: World, run: Crossfit, vectors: xr.Dataset
) -> None:
    cohort = world[0]
    assert vectors.attrs["crossfit"] == 3
    folds = run.split.frame.set_index("subject_id")["fold"]
    assert list(vectors["fold"].values) == list(folds.loc[vectors["subject_id"].values])
    sets = run.split.frame.set_index("subject_id")["set"]
    assert list(vectors["set"].values) == list(sets.loc[vectors["subject_id"].values])
    source = ScanSource(cohort, "TINY", None)
    for fold, folder in run.runs.items():
        own = np.flatnonzero(vectors["fold"].values == fold)
        encoder, spec = load_encoder(folder / "encoder")
        plain = embed_rows(encoder, source, own, spec.intensity)
        here = vectors["embedding"].values[own]
        # Up to a shift, a turn and one factor: all distances keep their ratio.
        far = [
            np.linalg.norm(x[:, None] - x[None], axis=2)[np.triu_indices(len(own), 1)]
            for x in (plain, here)
        ]
        ratio = far[1] / far[0]
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)


def test_the_alignment_is_reported(run: Crossfit, vectors: xr.Dataset) -> None:
    report = json.loads(vectors.attrs["alignment"])
    assert report["anchors"] == 4 * 4
    assert report["anchor_subjects"] == 4
    assert 0 <= report["fold_share"] < 0.5
    for fold, figures in report["folds"].items():
        assert figures["encoder_hash"] == folder_hash(run.runs[int(fold)] / "encoder")
        # Encoders that started alike and took three steps have almost the same space.
        for name in ("held_out", "fitted", "before", "own", "seen"):
            assert 0 <= figures[name] <= 1, name
        assert figures["fitted"] <= figures["before"]
        assert 0.2 < figures["spread_own"] < 5
        assert figures["unrelated"] == (figures["held_out"] > UNRELATED)


def test_anchors_are_subjects_that_no_encoder_learnt_from(
    run: Crossfit, vectors: xr.Dataset
) -> None:
    anchors = np.isin(vectors["subject_id"].values, sorted(run.monitors))
    for folder in run.runs.values():
        assert not set(vectors["subject_id"].values[anchors]) & read_split(folder).subjects("train")


def test_pieces_and_shards_change_nothing(
    world: World, run: Crossfit, vectors: xr.Dataset, tmp_path: Path
) -> None:
    config = EmbedConfig(threads=1, piece=5, batch_size=3, align=EMBED.align)
    for number in (2, 0):
        assert embed_shard(world[0], run.folder, config, pieces=tmp_path, shard=(number, 3))
    there = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    told: list[tuple[int, int]] = []
    merged = embed(
        world[0], run.folder, config, pieces=tmp_path, progress=lambda *now: told.append(now)
    )
    now = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {name: now[name] for name in there} == there
    assert len(told) == len(now) - len(there)
    np.testing.assert_allclose(merged["embedding"], vectors["embedding"], atol=1e-4)
    assert merged.attrs["encoder_hash"] == vectors.attrs["encoder_hash"]


def test_views_are_turned_with_their_space(world: World, run: Crossfit) -> None:
    config = EmbedConfig(threads=1, views=ViewsConfig(count=2), align=EMBED.align)
    found = embed(world[0], run.folder, config)
    assert found["embedding_sd"].shape == found["embedding"].shape
    assert np.isfinite(found["embedding_sd"]).all()
    assert (found["uncertainty"] > 0).all()


def test_it_is_written_with_its_alignment(vectors: xr.Dataset, tmp_path: Path) -> None:
    write_embeddings(tmp_path, vectors)
    found = xr.open_zarr(tmp_path / "embeddings.zarr", consolidated=False, chunks=None)
    assert found.attrs["crossfit"] == 3
    assert json.loads((tmp_path / "alignment.json").read_text()) == json.loads(
        found.attrs["alignment"]
    )


def test_a_cohort_without_anchors_is_refused(world: World, run: Crossfit, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run.folder, out)
    record = json.loads((out / "crossfit.json").read_text()) | {"monitors": ["nobody"]}
    (out / "crossfit.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="none of its validation subjects"):
        embed(world[0], out, EMBED)
    (out / "crossfit.json").write_text(json.dumps(record | {"version": 9}))
    with pytest.raises(InputError, match="version 9"):
        read_crossfit(out)
