"""Second views from further sequences: which scans they are of, what is read, and what is learnt."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, split_hash
from spinmark_models.config import (
    ClinicalEncoderConfig,
    EncoderConfig,
    IntensityRule,
    ProjectionConfig,
)
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import (
    DataConfig,
    DistilConfig,
    MonitorConfig,
    ObjectiveConfig,
    OptimConfig,
    PretrainConfig,
    TeacherConfig,
    TrainerConfig,
)
from spinmark_training.datamodule import SubjectDataModule
from spinmark_training.distil import distil, shuffled_rows
from spinmark_training.errors import InputError
from spinmark_training.feed.jobs import Job
from spinmark_training.pretrain import pretrain
from spinmark_training.side_information import SideInformation
from spinmark_training.sources import ScanSource

SHAPE, SPACING = (8, 16, 16), (3.0, 1.5, 1.5)
SUBJECTS = 12
SETS = ("train", "train", "train", "train", "val", "test")  # by subject, over and over
STILL = AugmentConfig(
    rotation_deg=0, translation_mm=0, scale=0, log_gamma=0, contrast=0, brightness=0, bias=0
)

World = tuple[Cohort, Split]
Rows = npt.NDArray[np.int64]


def _sagittal() -> pd.DataFrame:
    keys = [
        (f"s{i:02d}", side, visit, 0)
        for i in range(SUBJECTS)
        for side in ("LR" if i != 3 else "R")
        for visit in ("V00", "V01")
    ]
    keys.append(("s01", "L", "V00", 1))
    frame = pd.DataFrame(keys, columns=["subject_id", "laterality", "visit", "rank"])
    return frame.assign(days=365.25 * frame["visit"].str[1:].astype(float), scale=0.5)


def _coronal(sagittal: pd.DataFrame) -> pd.DataFrame:
    """In another order, with gaps, a rescan, and a visit that the other sequence has not."""
    joint = sagittal["subject_id"] + sagittal["laterality"]
    gone = (joint == "s00L") | ((joint == "s01R") & (sagittal["visit"] == "V01"))
    frame = sagittal[~gone & (sagittal["rank"] == 0)].sample(frac=1, random_state=3)
    late = frame.iloc[:4].assign(visit="V09", days=3000.0)
    again = frame[frame["visit"] == "V00"].iloc[:3].assign(rank=1)
    return pd.concat([frame, late, again], ignore_index=True).assign(scale=2.0)


def _volumes(scans: pd.DataFrame, look: int, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Each joint's hidden pattern: as it is, upside down in brightness, or squared."""
    noise = np.random.default_rng(look)
    volumes = []
    for subject, side in zip(scans["subject_id"], scans["laterality"], strict=True):
        own = np.random.default_rng((int(subject[1:]), "LR".index(side)))
        pattern = own.uniform(0.1, 1, (2, 4, 4)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
        seen = (pattern, 1.1 - pattern, pattern**2)[look]
        volumes.append(1000 * seen + noise.uniform(0, 40, SHAPE))
    return np.stack(volumes).astype(kind)


def _write(folder: Path) -> World:
    sagittal = _sagittal()
    coronal = _coronal(sagittal)
    axial = sagittal[(sagittal["visit"] == "V00") & (sagittal["rank"] == 0)]
    held_out = sagittal[sagittal["subject_id"].isin(["s05", "s11"])]
    plain = {"spacing_mm": SPACING}

    def odd(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> SequenceVolumes:
        volume = np.ones((len(sagittal), *shape), np.uint16)
        return SequenceVolumes(volume=volume, scans=sagittal, spacing_mm=spacing)

    volumes = {
        "SAG": SequenceVolumes(volume=_volumes(sagittal, 0, np.uint16), scans=sagittal, **plain),
        "COR": SequenceVolumes(volume=_volumes(coronal, 1, np.uint16), scans=coronal, **plain),
        "AX": SequenceVolumes(volume=_volumes(axial, 2, np.int16), scans=axial, **plain),
        "HELD": SequenceVolumes(volume=_volumes(held_out, 0, np.uint16), scans=held_out, **plain),
        "THIN": odd(SHAPE, (1.5, 1.5, 1.5)),
        "SMALL": odd((8, 12, 12), SPACING),
        "ECHO": odd((2, *SHAPE), SPACING),
    }
    joints = sagittal.loc[sagittal["rank"] == 0, ["subject_id", "laterality", "visit", "days"]]
    joints = joints.assign(WOMKP=np.random.default_rng(1).uniform(0, 20, len(joints)))
    people = [f"s{i:02d}" for i in range(SUBJECTS)]
    tables = {
        "subjects": pd.DataFrame({"subject_id": people, "SITE": list("ABC") * 4}),
        "joints": joints,
        "dictionary": pd.DataFrame(
            [("WOMKP", "continuous", "symptom", "joints")],
            columns=["variable", "kind", "role", "table"],
        ).assign(label="", unit="", group="", codes="{}", source=""),
    }
    write_cohort(folder, volumes=volumes, tables=tables, provenance={})
    frame = pd.DataFrame({"subject_id": people, "set": list(SETS) * 2, "fold": [0] * SUBJECTS})
    return Cohort.open(folder), Split(frame=frame, hash=split_hash(frame))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> World:
    return _write(tmp_path_factory.mktemp("several") / "cohort")


def source_of(world: World, *extra: str, cache_gb: float = 0.0) -> ScanSource:
    return ScanSource(world[0], "SAG", world[1], ("train",), cache_gb, extra=extra)


def data_of(source: ScanSource, **given: Any) -> SubjectDataModule:
    options: dict[str, Any] = {"subjects_per_batch": 8, "cross_visit": 0.5, "seed": 0} | given
    return SubjectDataModule(source, augment=STILL, intensity=IntensityRule(), **options)


def pairs(source: ScanSource, batches: int = 6, **given: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scans behind first and second views."""
    data = data_of(source, **given)
    try:
        found = list(islice(data.start(), batches))
    finally:
        data.close()
    one, two = (
        source.scans.iloc[np.concatenate([getattr(batch, name) for batch in found])]
        for name in ("first", "second")
    )
    return one.reset_index(), two.reset_index()


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_of_the_main_sequence_come_first_and_keep_their_numbers(several: World) -> None:
    alone, both = source_of(several), source_of(several, "COR", "AX")
    assert both.sequence == "SAG"
    assert both.sequences == ("SAG", "COR", "AX")
    n = len(alone.scans)
    pd.testing.assert_frame_equal(both.scans.iloc[:n], alone.scans)
    assert list(both.rows[: len(alone.rows)]) == list(alone.rows)
    assert (np.diff(both.rows) > 0).all()
    behind = [several[0].scans(name)["scan_id"] for name in ("COR", "AX")]
    assert list(both.scans["scan_id"][n:]) == [*behind[0], *behind[1]]


def test_of_further_sequences_only_what_can_be_a_second_view_may_be_read(several: World) -> None:
    source = source_of(several, "COR")
    coronal = source.scans.iloc[source.rows].query("sequence == 'COR'")
    scans = several[0].scans("COR")
    known = {
        (s, side, v)
        for s, side, v, rank in zip(
            *(_sagittal()[c] for c in ("subject_id", "laterality", "visit", "rank")), strict=True
        )
        if rank == 0 and s in several[1].subjects("train")
    }
    expected = [
        name
        for name, s, side, v, rank in zip(
            *(scans[c] for c in ("scan_id", "subject_id", "laterality", "visit", "rank")),
            strict=True,
        )
        if rank == 0 and (s, side, v) in known
    ]
    assert list(coronal["scan_id"]) == expected
    assert 0 < len(expected) < len(scans)
    for row in set(range(len(source.scans))) - set(source.rows.tolist()):
        with pytest.raises(PermissionError):
            source.boxes(np.array([row]), np.zeros((1, 3), np.int64), (2, 2, 2))


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
@pytest.mark.parametrize("extra", [("COR",), ("COR", "AX")])
def test_every_row_is_read_from_its_sequence(
    several: World, cache_gb: float, extra: tuple[str, ...]
) -> None:
    cohort, _ = several
    source = source_of(several, *extra, cache_gb=cache_gb)
    rows = np.random.default_rng(0).permutation(source.rows)
    stored = source.stored(rows)
    starts = np.random.default_rng(1).integers(0, 4, (len(rows), 3))
    boxes = source.boxes(rows, starts, (4, 8, 8))
    rule = IntensityRule(low=2, high=90)
    factor, shift = source.unit_scale(rows, rule)
    single = {name: ScanSource(cohort, name, None) for name in source.sequences}
    for k, row in enumerate(rows):
        name = source.scans["sequence"][row]
        index = list(single[name].scans["scan_id"]).index(source.scans["scan_id"][row])
        truth = cohort.read(name, np.array([index]))[0]
        np.testing.assert_array_equal(stored[k], truth)
        z, y, x = starts[k]
        np.testing.assert_array_equal(boxes[k], truth[z : z + 4, y : y + 8, x : x + 8])
        alone = single[name].unit_scale(np.array([index]), rule)
        assert (factor[k], shift[k]) == (alone[0][0], alone[1][0])
    arrived = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(arrived.stored(rows), stored)


@pytest.mark.slow  # a kernel is compiled
def test_views_do_not_depend_on_the_type_that_integers_have_in_memory(several: World) -> None:
    """Beside a sequence of another type integers are widened, and views stay as they were."""
    found = []
    for source in (source_of(several, "COR"), source_of(several, "COR", "AX")):
        maker = data_of(source)._maker
        rows = source.rows[source.scans["sequence"].to_numpy()[source.rows] == "COR"][:3]
        job = Job(0, slice(0, 3), rows, rows, np.arange(3), np.zeros(3, np.int64))
        samples = maker.read(job)
        found.append((samples.volumes.dtype, maker.cut(samples, torch.device("cpu")).whole))
    assert found[0][0] != found[1][0]
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("cross_visit", [0.0, 0.5, 1.0])
def test_pairs_are_of_one_joint_and_the_second_of_the_further_sequence_where_there_is_one(
    several: World, cross_visit: float
) -> None:
    one, two = pairs(source_of(several, "COR"), cross_visit=cross_visit, visits_per_joint=2)
    assert (one["sequence"] == "SAG").all()
    assert list(one["joint_id"]) == list(two["joint_id"])
    assert set(one["rank"]) | set(two["rank"]) == {0}
    assert ((one["visit"] == two["visit"]) == (cross_visit == 0)).all() or cross_visit == 0.5
    coronal = several[0].scans("COR")
    there = set(zip(coronal["joint_id"], coronal["visit"], strict=True))
    has = [key in there for key in zip(two["joint_id"], two["visit"], strict=True)]
    assert list(two["sequence"] == "COR") == has
    assert 0 < sum(has) < len(has)
    # A joint without a coronal scan is drawn as it was.
    assert set(two.loc[two["joint_id"] == "s00:L", "sequence"]) == {"SAG"}


def test_first_views_and_visits_are_those_of_a_run_without(several: World) -> None:
    one, two = pairs(source_of(several), visits_per_joint=2)
    first, second = pairs(source_of(several, "COR", "AX"), visits_per_joint=2)
    pd.testing.assert_frame_equal(one, first)
    assert list(two["visit"]) == list(second["visit"])
    fallen_back = (second["sequence"] == "SAG").to_numpy()
    assert fallen_back.any()
    assert list(two["index"][fallen_back]) == list(second["index"][fallen_back])


def test_several_further_sequences_are_as_likely(several: World) -> None:
    _, two = pairs(source_of(several, "COR", "AX"), batches=60, cross_visit=0)
    joint = two.query("joint_id == 's00:R' and visit == 'V00'")["sequence"]
    assert set(joint) == {"COR", "AX"}
    both = two[two["visit"] == "V00"].query("joint_id != 's00:L'")["sequence"]
    # Some 450 draws with equal chances: five standard deviations are 0.12.
    assert len(both) > 400
    assert abs(float((both == "AX").mean()) - 0.5) < 0.12


@pytest.mark.parametrize(
    "options",
    [{"prefetch": 0}, {"micro_batch": 3}, {"cache": 1.0}, {"processes": (0, 1)}],
)
def test_batches_are_the_same_however_they_are_fed(several: World, options: dict[str, Any]) -> None:
    def views(cache: float = 0.0, **given: Any) -> Iterator[torch.Tensor]:
        data = data_of(source_of(several, "COR", "AX", cache_gb=cache), **given)
        try:
            for batch in islice(data.start(), 3):
                yield batch.second
                cuts = [cut.whole.reshape(2, -1, *SHAPE) for cut in batch.stream()]
                yield torch.cat(cuts, dim=1)
        finally:
            data.close()

    assert all(torch.equal(*pair) for pair in zip(views(), views(**options), strict=True))


def test_a_visit_is_known_by_the_same_numbers_in_each_sequence(several: World) -> None:
    cohort, _ = several
    source, alone = source_of(several, "COR"), source_of(several)
    known, before = SideInformation(cohort, source), SideInformation(cohort, alone)
    n = len(alone.scans)
    assert len(known) == len(source.scans) > n
    for mine, theirs in (
        (known.days(), before.days()),
        (known.joints(), before.joints()),
        (known.subjects(), before.subjects()),
        (known.numbers(("WOMKP",))[:, 0], before.numbers(("WOMKP",))[:, 0]),
        (known.codes("SITE")[0], before.codes("SITE")[0]),
    ):
        assert torch.equal(mine[:n].nan_to_num(-9), theirs.nan_to_num(-9))
        keys = source.scans[["joint_id", "visit"]].apply(tuple, axis=1)
        by_key = {keys[row]: float(mine[row]) for row in alone.rows}
        behind = source.rows[source.rows >= n]
        assert [float(mine[row]) for row in behind] == [by_key[keys[row]] for row in behind]
        hidden = np.setdiff1d(np.arange(n, len(keys)), behind)
        assert all(float(mine[row]) == -1 or mine[row].isnan() for row in hidden)


def test_sequences_of_a_visit_take_the_same_table_of_somebody_else(several: World) -> None:
    source = source_of(several, "COR")
    taken = shuffled_rows(source.scans, source.rows, 4)
    scans = source.scans.iloc[source.rows].reset_index(drop=True)
    assert scans.assign(taken=taken).groupby(["joint_id", "visit"])["taken"].nunique().max() == 1
    owners = source.scans["subject_id"].to_numpy()
    assert (owners[taken] != owners[source.rows]).all()


def test_bad_input_is_said_in_one_line(several: World) -> None:
    told = refusal(lambda: source_of(several, "NONE"))
    assert "data.sequences: 'NONE'; accepted are further sequences beside SAG" in told
    assert "'COR'" in told
    assert "data.sequences: 'SAG';" in refusal(lambda: source_of(several, "SAG"))
    assert "data.sequences: 'COR';" in refusal(lambda: source_of(several, "COR", "AX", "COR"))
    assert "no joint of these subjects" in refusal(lambda: source_of(several, "HELD"))
    assert "data.sequences: 'ECHO' has volumes with 4" in refusal(
        lambda: source_of(several, "ECHO")
    )
    for name, grid in (("THIN", "(1.5, 1.5, 1.5) mm"), ("SMALL", "(8, 12, 12) voxels")):
        told = refusal(lambda name=name: source_of(several, name))  # type: ignore[misc]
        assert told.startswith(f"data.sequences: {name} has ")
        assert grid in told
        assert "(8, 16, 16)" in told
        assert "(3.0, 1.5, 1.5) mm" in told
        assert "`spinmark crop`" in told


def test_a_scan_without_a_scale_is_named_with_its_sequence(several: World) -> None:
    class Spoilt(Cohort):
        def scans(self, sequence: str) -> pd.DataFrame:
            found = super().scans(sequence)
            if sequence == "COR":
                found["scale"] = np.nan
            return found

    spoilt = Spoilt(several[0].path, several[0].manifest)
    with pytest.raises(InputError, match=r"^scan \S+ of COR has scale nan and .* finite numbers"):
        data_of(source_of((spoilt, several[1]), "COR"))


def run_config(steps: int, *sequences: str, name: str = "clip", lr: float = 1e-2) -> PretrainConfig:
    return PretrainConfig(
        data=DataConfig(sequence="SAG", sequences=sequences, subjects_per_batch=8, cross_visit=0.0),
        encoder=EncoderConfig(widths=(4, 8), embedding=8),
        projection=ProjectionConfig(hidden=16, out=8),
        objective=ObjectiveConfig(name=name),
        optim=OptimConfig(steps=steps, lr=lr),
        augment=STILL,
        trainer=TrainerConfig(threads=1, checkpoint_every_steps=2, log_every=2),
        monitor=MonitorConfig(every=0),
    )


def outcome(run: Path) -> list[str]:
    names = ("encoder/model.safetensors", "encoder/encoder.json", "metrics.csv", "doctor.json")
    return [hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_two_sequences_are_matched(several: World, tmp_path: Path, name: str) -> None:
    summary = pretrain(*several, run_config(40, "COR", name=name), tmp_path)
    last = summary.rows[-1]
    assert last["loss_ssl"] < 0.4 * last["chance"]


def test_a_run_goes_on_to_the_last_bit(several: World, tmp_path: Path) -> None:
    def config() -> PretrainConfig:
        made = run_config(6, "COR", "AX")
        data = replace(made.data, subjects_per_batch=3, cross_visit=0.5)
        return replace(made, data=data, augment=AugmentConfig())

    def progress(done: int, total: int) -> None:
        if done == 3:
            raise InterruptedError("stopped by the test")

    pretrain(*several, config(), tmp_path / "calm")
    with pytest.raises(InterruptedError):
        pretrain(*several, config(), tmp_path / "cut", progress=progress)
    assert pretrain(*several, config(), tmp_path / "cut").resumed_at == 2
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "calm")
    pretrain(*several, replace(config(), data=replace(config().data, sequences=())), tmp_path / "o")
    assert outcome(tmp_path / "o")[0] != outcome(tmp_path / "calm")[0]


def test_held_out_scans_are_never_read_of_a_further_sequence(
    several: World, tmp_path: Path
) -> None:
    cohort, split = several
    seen: dict[str, set[int]] = {"SAG": set(), "COR": set()}

    class Spy(Cohort):
        def read(self, sequence: str, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
            seen[sequence].update(np.asarray(indices).tolist())
            return super().read(sequence, indices)

        def crop(self, sequence: str, index: int, *given: Any, **named: Any) -> npt.NDArray[Any]:
            seen[sequence].add(int(index))
            return super().crop(sequence, index, *given, **named)

    for cache in (0.0, 1.0):
        config = run_config(4, "COR")
        config.data.cache_gb = cache
        pretrain(Spy(cohort.path, cohort.manifest), split, config, tmp_path / str(cache))
        owners = cohort.scans("COR")["subject_id"]
        assert set(owners.iloc[sorted(seen["COR"])]) <= split.subjects("train")
        assert len(seen["COR"]) > 8
        owners = cohort.scans("SAG")["subject_id"]
        assert set(owners.iloc[sorted(seen["SAG"])]) <= split.subjects("train", "val")


def test_tables_teach_over_two_sequences(several: World, tmp_path: Path) -> None:
    pretrain(*several, run_config(2), tmp_path / "base")
    start = run_config(4, "COR")
    config = DistilConfig(
        data=start.data,
        projection=start.projection,
        optim=start.optim,
        trainer=start.trainer,
        monitor=start.monitor,
        teacher=TeacherConfig(
            roles=("symptom",),
            encoder=ClinicalEncoderConfig(hidden=8, latent=2, token=2),
            steps=5,
        ),
    )
    summary = distil(*several, tmp_path / "base", config, tmp_path / "run")
    assert np.isfinite(summary.rows[-1]["loss"])
