"""Figures draw what they were given, whatever is absent."""

import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spinmark_data.figures import cohort_flow, cohort_overview
from spinmark_data.ingest.tableset import empty_table


def texts(figure: Figure) -> str:
    figure.savefig(io.BytesIO(), format="png")
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_flow_tells_counts_and_exclusions() -> None:
    flow = pd.DataFrame(
        {
            "step": ["enrolled", "replaced before"],
            "unit": ["subjects", "joints"],
            "n": [1200, 2390],
            "excluded": [0, 10],
            "reason": "",
        }
    )
    assert texts(cohort_flow(flow)) == "1,200 subjects\n2,390 joints, 10 out"
    assert "no exclusions" in texts(cohort_flow(empty_table("flow")))


def test_overview_counts_scans() -> None:
    scans = pd.DataFrame({"sequence": "DESS", "visit": ["V00", "V00", "V03"]})
    visits = pd.DataFrame({"subject_id": ["a", "b"], "visit": "V00", "AGE": [60, np.nan]})
    joints = pd.DataFrame(
        {"visit": ["V00", "V03"], "XRKL": [1.0, 2.0], "WOMKP": [np.nan, 3.0], "GONE": np.nan}
    )
    figure = cohort_overview(scans, visits, joints)
    assert texts(figure) == "2\n1"
    lines = figure.axes[1].lines
    assert list(lines[0].get_ydata()) == [50]
    assert list(lines[1].get_ydata()) == [0, 0]


def test_overview_of_nothing_says_so() -> None:
    empty = cohort_overview(
        pd.DataFrame({"sequence": [], "visit": []}), empty_table("visits"), empty_table("joints")
    )
    assert texts(empty) == "no scans\nno variables\nno XRKL\nno WOMKP"
