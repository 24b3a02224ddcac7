"""Splits by subject."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.splits import (
    check_disjoint,
    fold_manifest,
    read_split,
    split_hash,
    split_subjects,
    write_split,
)
from spinmark_data.splits_config import SplitConfig
from spinmark_data.splits_forward import time_forward


def cohort(n: int, sites: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": [f"{1000001 + i}" for i in range(n)],
            "SITE": ["ABCDE"[i % sites] for i in range(n)],
        }
    )


def outcomes(subjects: pd.DataFrame, every: int) -> pd.DataFrame:
    rows = [
        {"subject_id": subject, "laterality": side, "cause": "event" if i % every == 0 else "death"}
        for i, subject in enumerate(subjects["subject_id"])
        for side in "RL"
    ]
    return pd.DataFrame(rows)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20, 160),
    st.integers(1, 5),
    st.integers(2, 9),
    st.integers(0, 2**31),
    st.sampled_from([(0.6, 0.15, 0.25), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3)]),
)
def test_shares_hold_in_every_stratum(
    n: int, sites: int, every: int, seed: int, shares: tuple[float, float, float]
) -> None:
    subjects = cohort(n, sites)
    events = outcomes(subjects, every)
    config = SplitConfig(train=shares[0], val=shares[1], test=shares[2], seed=seed)
    frame = split_subjects(subjects, config, outcomes=events)
    assert list(frame["subject_id"]) == sorted(subjects["subject_id"])
    happened = set(events.loc[events["cause"] == "event", "subject_id"])
    stratum = {
        subject: (site, subject in happened)
        for subject, site in subjects.itertuples(index=False, name=None)
    }
    sizes = Counter(stratum.values())
    met = Counter((stratum[row.subject_id], row.set) for row in frame.itertuples())
    for key, size in sizes.items():
        for name, share in zip(("train", "val", "test"), shares, strict=True):
            assert abs(met[key, name] - share * size) < 1
    for name, share in zip(("train", "val", "test"), shares, strict=True):
        assert abs((frame["set"] == name).sum() - share * n) < 2
    folds = frame["fold"].value_counts()
    assert set(folds.index) == set(range(5))
    assert folds.max() - folds.min() <= 3
    shuffled = subjects.sample(frac=1, random_state=seed % 1000)
    again = split_subjects(shuffled, config, outcomes=events.iloc[::-1])
    assert split_hash(again) == split_hash(frame)


def test_both_knees_and_all_visits_stand_on_one_side() -> None:
    frame = split_subjects(cohort(60), SplitConfig())
    scans = pd.DataFrame(
        [(subject, side, visit) for subject in cohort(60)["subject_id"] for side in "RL"
         for visit in ("V00", "V03")],
        columns=["subject_id", "laterality", "visit"],
    ).merge(frame, on="subject_id", validate="many_to_one")  # fmt: skip
    assert scans.groupby("subject_id")["set"].nunique().eq(1).all()
    assert scans.groupby("subject_id")["fold"].nunique().eq(1).all()


def test_another_seed_is_another_split() -> None:
    hashes = {split_hash(split_subjects(cohort(40), SplitConfig(seed=seed))) for seed in range(5)}
    assert len(hashes) == 5


def test_literal_counts() -> None:
    frame = split_subjects(cohort(40), SplitConfig())
    assert dict(frame["set"].value_counts()) == {"train": 24, "test": 10, "val": 6}


def test_a_site_is_left_out() -> None:
    subjects = cohort(60)
    frame = split_subjects(subjects, SplitConfig(leave_out_site="B")).merge(subjects)
    assert set(frame.loc[frame["set"] == "test", "SITE"]) == {"B"}
    assert set(frame.loc[frame["SITE"] == "B", "set"]) == {"test"}
    assert (frame["set"] == "train").sum() == 32
    with pytest.raises(InputError, match=r"no such site; the cohort's sites are \['A', 'B', 'C'\]"):
        split_subjects(subjects, SplitConfig(leave_out_site="Z"))


def test_a_split_is_read_back(tmp_path: Path) -> None:
    frame = split_subjects(cohort(30), SplitConfig())
    written = write_split(tmp_path, frame)
    split = read_split(tmp_path)
    assert split.hash == written == split_hash(frame)
    assert split.subjects("train", "val").isdisjoint(split.subjects("test"))
    assert split.subjects("train", "val", "test") == set(frame["subject_id"])
    with pytest.raises(InputError, match="Unknown set"):
        split.subjects("valid")
    with pytest.raises(InputError, match=r"holds no split\.parquet"):
        read_split(tmp_path / "nowhere")


def test_a_leaking_split_is_refused(tmp_path: Path) -> None:
    frame = split_subjects(cohort(30), SplitConfig())
    with pytest.raises(InputError, match="1 subjects more than once"):
        check_disjoint(pd.concat([frame, frame.iloc[[0]].assign(set="test")]))
    with pytest.raises(InputError, match=r"sets \['holdout'\]"):
        write_split(tmp_path, frame.assign(set="holdout"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"train": 0.7}, "must sum to 1"),
        ({"train": 1.2, "val": -0.2, "test": 0.0}, "between 0 and 1"),
        ({"train": 0.0, "val": 0.5, "test": 0.5}, "train=0"),
        ({"folds": 1}, "at least 2"),
    ],
)
def test_wrong_parameters_are_named(config: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SplitConfig(**config)  # type: ignore[arg-type]


def test_unusable_cohorts_are_named() -> None:
    with pytest.raises(InputError, match="no column 'SIET'"):
        split_subjects(cohort(30), SplitConfig(stratify=("SIET",)))
    with pytest.raises(InputError, match="no subjects"):
        split_subjects(cohort(0), SplitConfig())
    with pytest.raises(InputError, match=r"leave .* empty"):
        split_subjects(cohort(2, 1), SplitConfig())
    with pytest.raises(InputError, match="stand twice"):
        split_subjects(pd.concat([cohort(9), cohort(1)]), SplitConfig())


def test_a_cohort_without_sites_or_outcomes_is_split() -> None:
    assert len(split_subjects(cohort(30)[["subject_id"]], SplitConfig())) == 30


EARLIER = {
    "plain": "94b793a9d56c8673a161285dc665ddeed9e9f6edccb088e251fd66a8b1710a03",
    "site": "62f4d182518b86f9b9a8053eb4476c045f3e89f0b27daf30b3b948c75b18b14c",
}


def test_hashes_of_earlier_splits_stand() -> None:
    # Made by the code of before time-forward splits came.
    assert split_hash(split_subjects(cohort(40), SplitConfig())) == EARLIER["plain"]
    assert (
        split_hash(split_subjects(cohort(60), SplitConfig(leave_out_site="B"))) == EARLIER["site"]
    )


def test_each_fold_holds_every_subject_out_once() -> None:
    frame = split_subjects(cohort(37), SplitConfig(folds=4))
    manifest = fold_manifest(frame)
    assert manifest.groupby("fold").size().tolist() == [37] * 4
    out = manifest[manifest["role"] == "held_out"]
    assert sorted(out["subject_id"]) == sorted(frame["subject_id"])
    own = frame.set_index("subject_id")["fold"]
    assert (out["fold"].to_numpy() == own.loc[out["subject_id"]].to_numpy()).all()
    assert set(manifest["role"]) == {"fit", "held_out"}


def test_who_enrolled_later_is_tested_on() -> None:
    subjects = cohort(60).assign(CHRTHLF=[1.0] * 40 + [2.0] * 20)
    config = SplitConfig(forward_column="CHRTHLF", forward_after=1.0)
    frame = split_subjects(subjects, config).merge(subjects)
    assert set(frame.loc[frame["CHRTHLF"] == 2, "set"]) == {"test"}
    assert set(frame.loc[frame["CHRTHLF"] == 1, "set"]) == {"train", "val"}
    with pytest.raises(InputError, match="no column 'HALF'"):
        split_subjects(subjects, SplitConfig(forward_column="HALF", forward_after=1.0))
    with pytest.raises(InputError, match="0 of 60 subjects have a 'CHRTHLF' above it"):
        split_subjects(subjects, SplitConfig(forward_column="CHRTHLF", forward_after=2.0))
    with pytest.raises(InputError, match="1 subjects have no number"):
        split_subjects(subjects.assign(CHRTHLF=[float("nan")] + [2.0] * 59), config)


def visits(subjects: pd.DataFrame) -> pd.DataFrame:
    """Three scans a subject; one day in twenty is unknown."""
    rows = [
        (f"{subject}:R:{visit}:SAG:0", subject, visit, day if (at + place) % 20 else float("nan"))
        for at, subject in enumerate(subjects["subject_id"])
        for place, (visit, day) in enumerate([("V00", 0.0), ("V01", 365.0), ("V03", 730.0)])
    ]
    return pd.DataFrame(rows, columns=["scan_id", "subject_id", "visit", "days"])


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("cut", [{"forward_day": 300.0}, {"forward_visit": "V01"}])
def test_forward_in_time_no_side_sees_the_other(cut: dict[str, object], same: bool) -> None:
    config = SplitConfig(forward_same_subjects=same, **cut)  # type: ignore[arg-type]
    subjects = cohort(60)
    split = split_subjects(subjects, config)
    scans = visits(subjects)
    found = time_forward(scans, split, config)
    assert list(found["scan_id"]) == list(scans["scan_id"])
    fitted, tested = found[found["set"].isin(["train", "val"])], found[found["set"] == "test"]
    assert (fitted["visit"] < "V01").all()
    assert (tested["visit"] >= "V01").all()
    fresh = tested[~tested["seen"]]
    assert set(fresh["subject_id"]).isdisjoint(fitted["subject_id"])
    assert tested["seen"].any() == same
    fit_people = set(split.loc[split["set"] != "test", "subject_id"])
    assert set(tested.loc[tested["seen"], "subject_id"]) <= fit_people
    # A scan is used, or it is said why not.
    assert ((found["set"] == "") == (found["why"] != "")).all()
    if "forward_day" in cut:
        assert (found.loc[found["days"].isna(), "why"] == "day unknown").all()
        assert fitted["days"].max() < 300 <= tested["days"].min()
    assert set(found["why"]) >= {"", "before the cut"}


def test_a_cut_that_leaves_a_side_empty_is_refused() -> None:
    subjects = cohort(30)
    split, scans = split_subjects(subjects, SplitConfig()), visits(subjects)
    for day, side in ((0.0, "train"), (5000.0, "test")):
        with pytest.raises(InputError, match=f"no scan in {side}"):
            time_forward(scans, split, SplitConfig(forward_day=day))
    with pytest.raises(InputError, match=r"no scan is of it; there are \['V00'"):
        time_forward(scans, split, SplitConfig(forward_visit="V09"))
    with pytest.raises(InputError, match="needs forward_day or forward_visit"):
        time_forward(scans, split, SplitConfig())
    with pytest.raises(InputError, match="87 scans are of subjects whom"):
        time_forward(scans, split.iloc[:1], SplitConfig(forward_day=100.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forward_column": "CHRTHLF"}, "go together"),
        ({"forward_column": "A", "forward_after": 1.0, "leave_out_site": "B"}, "give one"),
        ({"forward_day": 1.0, "forward_visit": "V01"}, "give one"),
        ({"forward_same_subjects": True}, "needs forward_day or forward_visit"),
    ],
)
def test_forward_options_go_together(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SplitConfig(**options)  # type: ignore[arg-type]


def test_visits_are_ordered_by_their_days() -> None:
    subjects = cohort(60)
    config = SplitConfig(forward_visit="12m")
    split, scans = split_subjects(subjects, config), visits(subjects)
    scans["visit"] = scans["visit"].map({"V00": "base", "V01": "6m", "V03": "12m"})
    found = time_forward(scans, split, config)
    assert set(found.loc[found["set"] == "test", "visit"]) == {"12m"}
    assert set(found.loc[found["set"].isin(["train", "val"]), "visit"]) == {"base", "6m"}
    undated = scans.assign(days=float("nan"))
    with pytest.raises(InputError, match="the order of visits is unknown"):
        time_forward(undated, split, config)
    numbered = visits(subjects).assign(days=float("nan"))
    found = time_forward(numbered, split, SplitConfig(forward_visit="V03"))
    assert set(found.loc[found["set"] == "test", "visit"]) == {"V03"}
