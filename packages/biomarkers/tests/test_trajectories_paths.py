"""Embeddings to paths: order, averages, who is left out, what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.paths import make_paths

from .trajectory_cases import cohort


def table(*rows):
    """(subject, side, visit, rank, days, a, b) a scan."""
    names = ["subject_id", "laterality", "visit", "rank", "days", "a", "b"]
    return pd.DataFrame(rows, columns=names)


PLAIN = table(
    ("S1", "R", "V00", 0, 0.0, 0.0, 0.0),
    ("S1", "R", "V00", 1, 0.0, 2.0, 4.0),
    ("S1", "R", "V06", 0, 1461.0, 5.0, 1.0),
    ("S1", "L", "V00", 0, 0.0, 7.0, 3.0),
    ("S2", "R", "V00", 0, 3.0, 1.0, -4.0),
    ("S2", "R", "V03", 0, 730.5, 2.0, 2.0),
    ("S2", "R", "V06", 0, 1461.0, -3.0, 6.0),
)


def made(frame, **options):
    return make_paths(from_frame(frame, fitted_subjects=["S1"]), **options)


def test_rescans_are_averaged_and_a_joint_of_one_visit_is_left_out_with_a_reason():
    paths = made(PLAIN)
    assert paths.joints["joint_id"].tolist() == ["S1:R", "S2:R"]
    assert paths.joints["visits"].tolist() == [2, 3]
    assert paths.joints["known_at"].tolist() == [1461.0, 1461.0]
    assert paths.left_out.to_dict("records") == [
        {"joint_id": "S1:L", "reason": "scans on one day only"}
    ]
    assert paths.scans.tolist() == [[2, 1, 0], [1, 1, 1]]
    assert paths.replicates == 1
    assert paths.years[1].tolist() == pytest.approx([3 / 365.25, 2.0, 4.0])
    assert paths.labels.tolist() == [["V00", "V06", ""], ["V00", "V03", "V06"]]
    assert paths.fitted.tolist() == [True, False]
    x = np.array([[1.0, 2.0], [5.0, 1.0]])
    assert paths.points[0, :2] == pytest.approx(paths.projection(x))
    # Two scans two and four apart: sums of squares of 2 and 8, whatever the axes.
    assert np.trace(paths.scatter) == pytest.approx(10.0)


def test_the_projection_knows_fitted_subjects_alone():
    frame = PLAIN.copy()
    frame.loc[frame["subject_id"] == "S2", ["a", "b"]] *= 100
    assert made(frame).projection.axes == pytest.approx(made(PLAIN).projection.axes)


def test_two_visits_on_one_day_are_one_point():
    frame = pd.concat([PLAIN, table(("S2", "R", "V04", 0, 730.5, 4.0, 4.0))])
    paths = made(frame)
    assert paths.joints["visits"].tolist() == [2, 3]
    assert paths.scans[1].tolist() == [1, 2, 1]
    assert paths.points[1, 1] == pytest.approx(paths.projection(np.array([[3.0, 3.0]]))[0])


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_show(random):
    order = list(range(len(PLAIN)))
    random.shuffle(order)
    one, other = made(PLAIN), made(PLAIN.iloc[order])
    assert np.array_equal(one.points, other.points)
    assert one.joints.equals(other.joints)
    assert np.array_equal(one.scatter, other.scatter)


def refused(frame, match, **options):
    with pytest.raises(InputError, match=match) as caught:
        made(frame, **options)
    assert "\n" not in str(caught.value)
    assert "accepted" in str(caught.value)


def test_bad_input_is_told_in_one_line():
    refused(PLAIN.assign(days=5.0), "none of 3 joints has scans on two days")
    refused(PLAIN[PLAIN["visit"] == "V00"], "none of 3 joints has scans on two days")
    days = PLAIN["days"].where(PLAIN["visit"] != "V06", np.nan)
    refused(PLAIN.assign(days=days), "days: not a number at 2 scans, such as S1:R:V06")
    # In one joint V06 comes before V03; the visits' order is that of their median days.
    swapped = PLAIN.copy()
    swapped.loc[6, "days"] = 400.0
    refused(swapped, "S2:R has visit V06 on day 400, before V03 on day 730.5")
    again = PLAIN.assign(scan_id=[f"scan{i}" for i in range(len(PLAIN))])
    again = pd.concat([again, again.iloc[[6]].assign(scan_id="other")])
    refused(again, "S2:R:V06:0 .* stands 2 times")
    twin = PLAIN[PLAIN["subject_id"] == "S2"].assign(subject_id="S3")
    refused(pd.concat([PLAIN, twin]), "subjects S2 and S3 have the very same embedding")
    refused(PLAIN, "components: 0", components=0)
    with pytest.raises(InputError, match="no scan of the sets train and val"):
        make_paths(from_frame(PLAIN, fitted_subjects=[]))


def test_an_encoder_that_learnt_from_an_outcome_is_refused():
    ds, _ = cohort(people=4)
    ds.attrs["uses"] = json.dumps(["outcome:replacement"])
    with pytest.raises(InputError, match="outcome:replacement"):
        make_paths(ds)
