"""Draws of labelled joints: nested, by subject, and the same whatever the order of the rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.labels import LabelDraws


def scans(subjects=12, visits=2, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (f"s{i:02d}", f"s{i:02d}:{side}", f"s{i:02d}:{side}:{v}", 365.0 * v, 0)
        for i in range(subjects)
        for side in "RL"
        for v in range(visits)
    ]
    frame = pd.DataFrame(rows, columns=["subject_id", "joint_id", "scan_id", "days", "rank"])
    train = np.arange(subjects) < subjects * 3 // 4
    frame["set"] = np.where(train[np.repeat(np.arange(subjects), 2 * visits)], "train", "test")
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50),
    budgets=st.tuples(st.integers(1, 18), st.integers(1, 18)).map(sorted),
    missing=st.floats(0, 0.6),
)
def test_a_smaller_budget_is_the_front_of_a_larger_one(seed, budgets, missing):
    frame = scans(seed=seed)
    known = np.random.default_rng(seed).random(len(frame)) >= missing
    draws = LabelDraws(frame, draws=2, seed=seed)
    few, many = (draws.rows(known, budget, draw=1) for budget in budgets)
    assert many[: len(few)].tolist() == few.tolist()
    everyone = draws.rows(known, None, draw=1)
    assert everyone[: len(many)].tolist() == many.tolist()
    chosen = frame.iloc[everyone]
    assert (chosen["set"] == "train").all()
    assert known[everyone].all()
    assert chosen["joint_id"].is_unique
    # Every training joint with a value is there, at its first scan that has one.
    usable = frame[known & (frame["set"] == "train").to_numpy()]
    first = usable.sort_values("days").drop_duplicates("joint_id").set_index("joint_id")["scan_id"]
    assert chosen.set_index("joint_id")["scan_id"].to_dict() == first.to_dict()


def test_the_order_of_the_rows_and_the_number_of_draws_do_not_matter():
    frame = scans()
    mixed = frame.iloc[np.random.default_rng(4).permutation(len(frame))].reset_index(drop=True)
    known = np.ones(len(frame), bool)
    a = LabelDraws(frame, draws=1, seed=7).rows(known, 6, draw=0)
    b = LabelDraws(mixed, draws=5, seed=7).rows(known, 6, draw=0)
    assert frame["scan_id"].iloc[a].tolist() == mixed["scan_id"].iloc[b].tolist()


def test_both_knees_of_a_subject_stand_together():
    frame = scans()
    draws = LabelDraws(frame, draws=6, seed=0)
    known = np.ones(len(frame), bool)
    firsts = []
    for draw in range(6):
        rows = frame.iloc[draws.rows(known, None, draw=draw)]
        pairs = rows["subject_id"].to_numpy().reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()
        firsts.append(rows["joint_id"].iloc[0])
    assert len(set(firsts)) > 1
    assert {one[-1] for one in firsts} == {"R", "L"}


def test_a_target_that_few_have_takes_the_same_people_in_the_same_order():
    frame = scans()
    draws = LabelDraws(frame, draws=1, seed=3)
    known = np.ones(len(frame), bool)
    order = frame["joint_id"].iloc[draws.rows(known, None, draw=0)].tolist()
    rare = frame["joint_id"].isin(order[3::2]).to_numpy()
    assert frame["joint_id"].iloc[draws.rows(rare, None, draw=0)].tolist() == order[3::2]


def test_events_are_counted_and_not_joints():
    frame = scans()
    draws = LabelDraws(frame, draws=1, seed=3)
    known = np.ones(len(frame), bool)
    event = (frame["joint_id"].str[-1] == "R").to_numpy()
    rows = draws.rows(known, 4, draw=0, event=event)
    assert event[rows].sum() == 4
    assert event[rows[-1]]
    assert draws.rows(known, 100, draw=0, event=event).size == 18


def test_what_cannot_be_drawn_is_refused():
    frame = scans()
    with pytest.raises(InputError, match="no column 'rank'"):
        LabelDraws(frame.drop(columns="rank"), draws=1, seed=0)
    with pytest.raises(InputError, match="none is of set 'train'"):
        LabelDraws(frame.assign(set="test"), draws=1, seed=0)
    draws = LabelDraws(frame, draws=2, seed=0)
    known = np.ones(len(frame), bool)
    with pytest.raises(InputError, match="labels: 0"):
        draws.rows(known, 0, draw=0)
    with pytest.raises(InputError, match="draw: 2; accepted are 0 to 1"):
        draws.rows(known, 5, draw=2)
    with pytest.raises(InputError, match="known: shape"):
        draws.rows(known[1:], 5, draw=0)
