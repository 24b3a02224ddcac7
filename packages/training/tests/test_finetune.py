"""Fine-tuning: who may be learnt from, what is drawn, and that it finds what is in the images."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split, split_hash
from spinmark_models.config import EncoderConfig
from spinmark_models.export import load_encoder
from spinmark_training.config import (
    DataConfig,
    FinetuneConfig,
    MonitorConfig,
    ObjectiveConfig,
    OptimConfig,
    PretrainConfig,
    TrainerConfig,
)
from spinmark_training.embedding.vectors import embed_rows
from spinmark_training.errors import InputError
from spinmark_training.objectives.supervised import label_columns
from spinmark_training.pretrain import pretrain
from spinmark_training.probes.few_labels import FewLabels
from spinmark_training.probes.finetune import Finetuner, batch_rows, finetune, held_out_rows
from spinmark_training.sources import ScanSource

from .embedded_batch import known_of
from .tiny_cohort import SEQUENCE, write_tiny

World = tuple[Cohort, Split, Path]
TARGETS = ["PAIN1", "WORN", "HIGH"]
CLASSES = {"HIGH": (0.0, 1.0)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A cohort, its split, and a run that saw the images without labels."""
    folder = tmp_path_factory.mktemp("world")
    cohort, split = write_tiny(folder / "cohort")
    config = PretrainConfig(
        data=DataConfig(sequence=SEQUENCE, subjects_per_batch=10),
        encoder=EncoderConfig(widths=(4, 8), embedding=8),
        objective=ObjectiveConfig(temperature=0.1),
        optim=OptimConfig(steps=4, lr=1e-3),
        trainer=TrainerConfig(threads=1),
        monitor=MonitorConfig(every=0, variables=(), leakage=None, lidar_scans=0),
    )
    pretrain(cohort, split, config, folder / "run")
    return cohort, split, folder / "run"


def values(world: World) -> pd.DataFrame:
    """All targets of all scans, by scan."""
    scans = world[0].scans(SEQUENCE)
    keys = ["subject_id", "laterality", "visit"]
    joined = scans[keys].merge(world[0].table("joints"), on=keys, how="left")
    joined["HIGH"] = (joined["PAIN1"] > 0).astype(float)
    return joined[TARGETS].set_index(pd.Index(scans["scan_id"], dtype=object))


def of_set(world: World, name: str) -> list[str]:
    scans = world[0].scans(SEQUENCE)
    return [str(s) for s in scans["scan_id"][scans["subject_id"].isin(world[1].subjects(name))]]


def config(**changes: object) -> FinetuneConfig:
    return FinetuneConfig(**{"steps": 6, "marks": 0, "threads": 1, **changes})  # type: ignore[arg-type]


def test_a_fit_is_the_same_each_time_and_another_by_another_seed(world: World) -> None:
    labels, asked = values(world).loc[of_set(world, "train")], of_set(world, "test")
    tuner = Finetuner(*world, config())
    first = tuner(labels, asked, seed=3, classes=CLASSES)
    assert_frame_equal(tuner(labels, asked, seed=3, classes=CLASSES), first)
    torch.manual_seed(77)
    again = finetune(*world, labels, asked, config(), seed=3, classes=CLASSES)
    assert_frame_equal(again, first)
    assert list(first.columns) == TARGETS
    assert list(first.index) == asked
    assert first["HIGH"].between(0, 1).all()
    other = tuner(labels, asked, seed=4, classes=CLASSES)
    assert not np.allclose(other, first)
    fresh = finetune(*world, labels, asked, config(fresh=True), seed=3, classes=CLASSES)
    assert not np.allclose(fresh, first)


def test_random_numbers_of_others_are_left_alone(world: World) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    labels = values(world).loc[of_set(world, "train")]
    finetune(*world, labels[["WORN"]], of_set(world, "test"), config(steps=1), seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_not_labelled_is_not_looked_at(world: World) -> None:
    everything, asked = values(world), of_set(world, "test")
    train = of_set(world, "train")
    few = everything.loc[train[:12]].copy()
    few.loc[train[:4], "WORN"] = math.nan
    padded = few.reindex(everything.index)
    shuffled = few.iloc[np.random.default_rng(0).permutation(len(few))]
    plain = finetune(*world, few, asked, config(), seed=1, classes=CLASSES)
    for same in (padded, shuffled):
        found = finetune(*world, same, asked, config(), seed=1, classes=CLASSES)
        assert_frame_equal(found, plain)
    few.iloc[-1, 0] += 5
    assert not np.allclose(finetune(*world, few, asked, config(), seed=1, classes=CLASSES), plain)


def test_heads_alone_leave_the_encoder_as_it_was(world: World) -> None:
    """With all steps for the heads, predictions are linear in the run's own embeddings."""
    labels = values(world).loc[of_set(world, "train"), ["PAIN1"]]
    every = [str(name) for name in values(world).index]
    alone = config(steps=20, heads_first=0.99)
    found = finetune(*world, labels, every, alone, seed=0)["PAIN1"].to_numpy()
    encoder, spec = load_encoder(world[2] / "encoder")
    source = ScanSource(world[0], SEQUENCE, None)
    x = embed_rows(encoder, source, source.rows, spec.intensity).astype(np.float64)
    x = np.column_stack([x, np.ones(len(x))])
    left = found - x @ np.linalg.lstsq(x, found, rcond=None)[0]
    assert np.abs(left).max() < 1e-4 * np.ptp(found)
    both = finetune(*world, labels, every, config(steps=20), seed=0)["PAIN1"].to_numpy()
    left = both - x @ np.linalg.lstsq(x, both, rcond=None)[0]
    assert np.abs(left).max() > 1e-3 * np.ptp(both)


def test_fine_tuning_finds_what_is_in_the_images(world: World) -> None:
    labels, asked = values(world).loc[of_set(world, "train")], of_set(world, "test")
    truth = values(world).loc[asked]
    long = config(fresh=True, steps=80, lr=5e-3, head_lr=5e-3)
    found = finetune(*world, labels, asked, long, seed=0, classes=CLASSES)
    assert np.corrcoef(found["WORN"], truth["WORN"])[0, 1] > 0.3
    high = truth["HIGH"] == 1
    assert found["HIGH"][high].mean() > found["HIGH"][~high].mean() + 0.1


def test_a_target_that_takes_one_value_is_said_as_it_is(world: World) -> None:
    train, asked = of_set(world, "train"), of_set(world, "test")
    labels = values(world).loc[train[:6]].assign(WORN=2.0, HIGH=1.0)
    found = finetune(*world, labels, asked, config(steps=2), seed=0, classes=CLASSES)
    assert (found["WORN"] == 2).all()
    assert (found["HIGH"] == 1).all()
    assert found["PAIN1"].nunique() > 1
    none = finetune(*world, labels[["WORN"]], asked, config(), seed=0)
    assert (none["WORN"] == 2).all()


def test_who_is_held_out_cannot_be_learnt_from(world: World) -> None:
    everything, asked = values(world), of_set(world, "test")
    for name in ("val", "test"):
        with pytest.raises(InputError, match="is of no training subject") as error:
            finetune(*world, everything.loc[of_set(world, name)], asked, config(), seed=0)
        assert "\n" not in str(error.value)
    cohort, split, run = world
    frame = split.frame.copy()
    frame["set"] = frame["set"].replace({"train": "test", "test": "train"})
    turned = Split(frame=frame, hash=split_hash(frame))
    with pytest.raises(InputError, match=r"run: .* has learnt from subject"):
        Finetuner(cohort, turned, run, config())
    Finetuner(cohort, turned, run, config(fresh=True))


def test_bad_input_is_refused_in_one_line(world: World) -> None:
    labels, asked = values(world).loc[of_set(world, "train")], of_set(world, "test")
    tuner = Finetuner(*world, config())
    bad = [
        (lambda: tuner(labels, ["nobody"], seed=0), "predict: no scan 'nobody'"),
        (
            lambda: tuner(labels.rename({labels.index[0]: "x"}), asked, seed=0),
            "labels: no scan 'x'",
        ),
        (lambda: tuner(labels.assign(WORN=math.nan), asked, seed=0), "labels: none of 'WORN'"),
        (
            lambda: tuner(labels, asked, seed=0, classes={"HIGH": (0.0, 2.0)}),
            r"labels: HIGH is 1.0 of a scan; its classes are \[0.0, 2.0\]",
        ),
        (lambda: Finetuner(*world, config(steps=0)), "steps: 0; accepted are 1 and more"),
        (lambda: Finetuner(*world, config(lr=0.0)), "lr: 0.0; accepted are numbers above 0"),
        (lambda: Finetuner(*world, config(heads_first=1.0)), "heads_first: 1.0"),
        (lambda: Finetuner(*world, config(huber_delta=math.nan)), "huber_delta: nan"),
        (lambda: Finetuner(*world, config(lr=1e30))(labels, asked, seed=0), "no numbers"),
    ]
    for call, message in bad:
        with pytest.raises(InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 40), size=st.integers(2, 40), seed=st.integers(0, 99))
def test_every_label_is_seen_equally_often(n: int, size: int, seed: int) -> None:
    rows, size = np.arange(100, 100 + n), min(size, n)
    steps = [batch_rows(rows, size, step, seed) for step in range(3 * n)]
    assert all(len(each) == size for each in steps)
    # Whole epochs: 3 n steps of `size` scans are 3 `size` epochs of n.
    assert_array_equal(np.sort(np.concatenate(steps)), np.sort(np.tile(rows, 3 * size)))
    assert Counter(steps[0].tolist()).most_common(1)[0][1] == 1


def test_few_labels_are_those_of_the_supervised_objective(world: World) -> None:
    """The same columns by another way, where every training scan is labelled."""
    known = known_of(world[:2], SEQUENCE)
    expected = label_columns(known, ("PAIN1", "WORN", "SEX"))
    scans = world[0].scans(SEQUENCE)
    table = values(world)[["PAIN1", "WORN"]].reset_index(drop=True)
    sex = world[0].table("subjects").set_index("subject_id")["SEX"]
    table["SEX"] = sex.loc[scans["subject_id"]].to_numpy()
    table.loc[~scans["subject_id"].isin(world[1].subjects("train"))] = math.nan
    few = FewLabels.of(table, {"SEX": (1.0, 2.0)})
    columns = few.columns()
    assert columns.names == expected.names
    assert columns.sizes == expected.sizes
    torch.testing.assert_close(columns.numbers, expected.numbers, equal_nan=True)
    assert torch.equal(columns.codes, expected.codes)
    rows = few.rows
    logits = 50 * torch.nn.functional.one_hot(columns.codes[rows, 0], 2).double()
    said = few.said(columns.numbers[rows], [logits])
    assert said["PAIN1"].to_numpy() == pytest.approx(table["PAIN1"].to_numpy()[rows])
    assert_array_equal(said["SEX"].round() + 1, table["SEX"].to_numpy()[rows])


def test_of_more_classes_the_one_that_exceeds_its_share_most_is_said() -> None:
    table = pd.DataFrame({"RACE": [0.0, 3.0, 7.0, math.nan, 3.0, 3.0]})
    few = FewLabels.of(table, {"RACE": (0.0, 3.0, 5.0, 7.0)})
    assert few.columns().codes[:, 0].tolist() == [0, 1, 2, -1, 1, 1]
    shares = torch.tensor([[0.1, 0.2, 0.7], [0.05, 0.9, 0.05], [0.3, 0.6, 0.1]])
    said = few.said(torch.empty(3, 0), [shares.log()])
    assert said["RACE"].tolist() == [7.0, 3.0, 0.0]


def test_a_target_stops_where_held_out_labels_are_said_best(world: World) -> None:
    labels = values(world).loc[of_set(world, "train"), ["WORN"]]
    tuner = Finetuner(
        *world, config(fresh=True, steps=60, marks=2, lr=5e-3, head_lr=5e-3, held_share=0.5)
    )
    few = FewLabels.of(tuner._by_row(labels), {})
    assert tuner._chosen_steps(few, 1)["WORN"] > 0
    # Where the others' labels say the reverse, what is learnt makes it worse, and the constant is best.
    held = held_out_rows(few.rows, tuner.scans["subject_id"].to_numpy(), 0.5, 1)
    table = few.table.copy()
    table.iloc[held] = 2 * table.iloc[held].mean() - table.iloc[held]
    assert tuner._chosen_steps(FewLabels.of(table, {}), 1)["WORN"] == 0


def test_the_choice_is_one_of_the_marks_and_the_fit_that_without_it(world: World) -> None:
    labels, asked = values(world).loc[of_set(world, "train"), ["PAIN1"]], of_set(world, "test")
    tuner = Finetuner(*world, config(steps=6, marks=3))
    step = tuner._chosen_steps(FewLabels.of(tuner._by_row(labels), {}), 2)["PAIN1"]
    assert step in (0, 2, 4, 6)
    few = FewLabels.of(tuner._by_row(labels), {})
    rows = tuner._rows_of(asked, "predict")
    by_step = dict(tuner._fit(few, rows, 2, [0, 2, 4, 6]))
    found = tuner(labels, asked, seed=2)["PAIN1"].to_numpy()
    assert found == pytest.approx(by_step[step]["PAIN1"].to_numpy(), abs=1e-6)
    assert by_step[0]["PAIN1"].nunique() == 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), people=st.integers(2, 20), share=st.floats(0.05, 0.95))
def test_whole_subjects_are_held_out(seed: int, people: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    subjects = rng.integers(0, people, 60).astype(str).astype(object)
    rows = np.sort(rng.permutation(60)[:40])
    held = held_out_rows(rows, subjects, share, seed)
    left = np.setdiff1d(rows, held)
    assert not set(subjects[held]) & set(subjects[left])
    assert len(set(subjects[held])) == round(share * len(set(subjects[rows])))


def test_errors_are_squared_of_numbers_and_probabilities_and_shares_of_wrong_classes() -> None:
    table = pd.DataFrame({"x": [1.0, 2.0, math.nan], "b": [1.0, 2.0, 2.0], "c": [0.0, 1.0, 2.0]})
    few = FewLabels.of(table, {"b": (1.0, 2.0), "c": (0.0, 1.0, 2.0)})
    said = pd.DataFrame({"x": [0.0, 4.0, 9.0], "b": [0.5, 0.5, 1.0], "c": [0.0, 2.0, 2.0]})
    found = few.errors(said, np.arange(3))
    assert found == pytest.approx({"x": 2.5, "b": 0.5 / 3, "c": 1 / 3})
    assert math.isnan(few.errors(said.iloc[2:], np.array([2]))["x"])
    left = few.without(np.array([0, 1]))
    assert left is not None
    assert list(left.table.columns) == ["b", "c"]
    assert few.without(np.arange(3)) is None
