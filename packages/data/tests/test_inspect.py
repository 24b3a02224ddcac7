"""Numbers counted by hand on a small cohort, and what every picture must keep."""

import io
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.figure import Figure

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError
from spinmark_data.inspect.completeness import cell_completeness, scan_completeness
from spinmark_data.inspect.contact_sheet import (
    GAP,
    contact_figure,
    contact_sheet,
    middle_slice,
    mosaic,
    sample_scans,
    tiles,
)
from spinmark_data.inspect.picture import resample, window
from spinmark_data.inspect.records import CohortSummary
from spinmark_data.inspect.summary import frame, summarise, visit_order
from spinmark_data.inspect.terminal import RAMP, Mode, capability, render

PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))
NAN = float("nan")


def small_tables() -> dict[str, pd.DataFrame]:
    """Three people; joint c:R was never scanned."""
    variables = [("SEX", "demographic", "subjects"), ("AGE", "demographic", "visits"),
                 ("BMI", "demographic", "visits"), ("XRKL", "structure", "joints")]  # fmt: skip
    return {
        "subjects": pd.DataFrame({"subject_id": ["a", "b", "c"], "SEX": [1.0, 2.0, NAN]}),
        "visits": pd.DataFrame(
            {
                "subject_id": ["a", "b", "b"],
                "visit": ["V00", "V00", "V03"],
                "days": [0.0, 0.0, 700.0],
                "months": [0.0, 0.0, 24.0],
                "AGE": [60.0, NAN, NAN],
                "BMI": [25.0, 30.0, 31.0],
                "EXTRA": [1.0, NAN, 2.0],
            }
        ),
        "joints": pd.DataFrame(
            {
                "subject_id": ["a", "a", "b", "c"],
                "laterality": ["R", "L", "R", "R"],
                "visit": "V00",
                "joint_id": ["a:R", "a:L", "b:R", "c:R"],
                "days": 0.0,
                "XRKL": [2.0, NAN, 3.0, NAN],
            }
        ),
        "dictionary": pd.DataFrame(
            [
                dict.fromkeys(("label", "unit", "kind", "group", "codes", "source"), "")
                | {"variable": name, "role": role, "table": table}
                for name, role, table in variables
            ]
        ),
        "outcomes": pd.DataFrame(
            {
                "joint_id": ["a:R", "a:L", "b:R", "c:R"],
                "endpoint": "replacement",
                "subject_id": ["a", "a", "b", "c"],
                "laterality": ["R", "L", "R", "R"],
                "entry": 0.0,
                "lower": [100.0, 3000.0, 900.0, 800.0],
                "upper": [100.0, np.inf, 900.0, np.inf],
                "cause": ["event", "censored", "death", "censored"],
                "weight": 1.0,
            }
        ),
        "issues": pd.DataFrame(
            {
                "source": [f"s{n}" for n in range(9)],
                "kind": ["refused"] * 8 + ["repaired"],
                "reason": ["gap", "gap", "tilt", "r1", "r2", "r3", "r4", "gap", "side"],
                "action": "",
            }
        ),
    }


def small_volumes() -> dict[str, SequenceVolumes]:
    rng = np.random.default_rng(0)
    sag = pd.DataFrame(
        {
            "subject_id": ["a", "a", "a", "b", "b"],
            "laterality": ["R", "R", "L", "R", "R"],
            "visit": ["V00", "V00", "V00", "V00", "V03"],
            "rank": [0, 1, 0, 0, 0],
            "days": [0.0, 0.0, 0.0, 0.0, 700.0],
            "site": ["A", "A", "A", "B", "B"],
            "scanner": ["x", "x", "x", "y", ""],
        }
    )
    t2 = pd.DataFrame({"subject_id": ["b"], "laterality": ["R"], "visit": ["V03"], "days": 700.0})
    return {
        "SAG": SequenceVolumes(
            volume=rng.integers(0, 900, (5, 4, 6, 8)).astype(np.int16),
            scans=sag,
            spacing_mm=(3.0, 2.0, 1.0),
        ),
        "T2": SequenceVolumes(
            volume=rng.integers(0, 200, (1, 2, 3, 4, 4)).astype(np.uint8),
            scans=t2,
            spacing_mm=(3.0, 0.5, 0.5),
        ),
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    path = tmp_path_factory.mktemp("inspect") / "cohort"
    write_cohort(path, volumes=small_volumes(), tables=small_tables(), provenance={})
    return Cohort.open(path)


@pytest.fixture(scope="module")
def summary(cohort: Cohort) -> CohortSummary:
    return summarise(cohort)


def test_sizes_are_those_of_the_files(cohort: Cohort, summary: CohortSummary) -> None:
    sag, t2 = summary.sequences
    assert (sag.sequence, sag.shape, sag.spacing_mm) == ("SAG", (4, 6, 8), (3.0, 2.0, 1.0))
    assert (sag.scans, sag.subjects, sag.joints, sag.dtype) == (5, 2, 3, "int16")
    assert (t2.shape, t2.scans, t2.dtype) == ((2, 3, 4, 4), 1, "uint8")
    assert (sag.bytes_uncompressed, t2.bytes_uncompressed) == (5 * 4 * 6 * 8 * 2, 2 * 3 * 4 * 4)
    for row in (sag, t2):
        shards = (cohort.path / "images.zarr" / row.sequence / "volume" / "c").rglob("*")
        assert row.bytes_stored == sum(f.stat().st_size for f in shards if f.is_file())
        assert row.compression == row.bytes_uncompressed / row.bytes_stored
    assert summary.bytes_images == sag.bytes_stored + t2.bytes_stored
    files = list((cohort.path / "tables").glob("*.parquet"))
    assert summary.bytes_tables == sum(file.stat().st_size for file in files)
    assert (summary.subjects, summary.joints) == (3, 4)
    assert (summary.generation, summary.hash) == (1, cohort.hash)


def test_completeness_by_sequence_and_visit(summary: CohortSummary) -> None:
    table = frame(summary.completeness).set_index(["sequence", "visit"])
    columns = ["scans", "rescans", "joints", "joints_seen", "share"]
    assert table.loc[("SAG", "V00"), columns].tolist() == [4, 1, 3, 4, 0.75]
    assert table.loc[("SAG", "V03"), columns].tolist() == [1, 0, 1, 4, 0.25]
    assert table.loc[("T2", "V00"), columns].tolist() == [0, 0, 0, 4, 0.0]
    assert table.loc[("T2", "V03"), columns].tolist() == [1, 0, 1, 4, 0.25]
    assert len(table) == 4
    sites = [(s.sequence, s.site, s.scanner, s.scans, s.subjects) for s in summary.sites]
    assert sites == [
        ("SAG", "A", "x", 3, 1),
        ("SAG", "B", "", 1, 1),
        ("SAG", "B", "y", 1, 1),
        ("T2", "", "", 1, 1),
    ]


def test_cells_are_counted_by_role_and_visit(summary: CohortSummary) -> None:
    table = frame(summary.observed).set_index(["table", "role", "visit"])
    columns = ["rows", "variables", "asked", "observed"]
    assert table.loc[("subjects", "demographic", ""), columns].tolist() == [3, 1, 1, 2]
    assert table.loc[("visits", "demographic", "V00"), columns].tolist() == [2, 2, 2, 3]
    assert table.loc[("visits", "demographic", "V00"), "share"] == 0.75
    # Nobody has an age at V03, so that it counts as not asked, not as missing.
    assert table.loc[("visits", "demographic", "V03"), columns].tolist() == [1, 2, 1, 1]
    assert table.loc[("visits", "", "V03"), "share"] == 1.0
    assert table.loc[("joints", "structure", "V00"), columns].tolist() == [4, 1, 1, 2]
    assert len(table) == 6


def test_outcomes_issues_and_tables(summary: CohortSummary) -> None:
    (outcome,) = summary.outcomes
    assert (outcome.endpoint, outcome.joints, outcome.subjects) == ("replacement", 4, 3)
    assert (outcome.events, outcome.deaths, outcome.censored) == (1, 1, 2)
    refused, repaired = summary.issues
    assert (refused.kind, refused.count) == ("refused", 8)
    assert refused.reasons == (("gap", 3), ("r1", 1), ("r2", 1), ("r3", 1), ("r4", 1))
    assert (repaired.kind, repaired.count, repaired.reasons) == ("repaired", 1, (("side", 1),))
    assert {t.table: (t.rows, t.columns) for t in summary.tables} == {
        "subjects": (3, 2),
        "visits": (3, 7),
        "joints": (4, 6),
        "morphometry": (0, 3),
        "missing": (0, 5),
        "outcomes": (4, 9),
        "dictionary": (4, 9),
        "issues": (9, 4),
        "flow": (0, 5),
    }


def test_a_summary_is_json(summary: CohortSummary) -> None:
    again = json.loads(json.dumps(asdict(summary), allow_nan=False))
    assert again["completeness"][0]["share"] == 0.75
    assert again["issues"][0]["reasons"][0] == ["gap", 3]
    assert again["visits"] == ["V00", "V03"]


def test_an_empty_cohort_is_summarised(tmp_path: Path) -> None:
    write_cohort(tmp_path / "c", volumes={}, tables={}, provenance={})
    summary = summarise(Cohort.open(tmp_path / "c"))
    assert (summary.subjects, summary.bytes_images, summary.sequences) == (0, 0, ())
    assert summary.completeness == summary.observed == summary.outcomes == summary.issues == ()
    assert drawn(scan_completeness(summary)) == ["no scans"]
    assert drawn(cell_completeness(summary)) == ["no variables"]


def test_visits_follow_their_days_not_their_names() -> None:
    rows = pd.DataFrame(
        {"visit": ["later", "12m", "12m", "6m", "?"], "days": [9e3, 365, 400, 180, NAN]}
    )
    assert visit_order([rows.head(3), rows.tail(2)]) == ["6m", "12m", "later", "?"]


def drawn(figure: Figure) -> list[str]:
    figure.savefig(io.BytesIO(), format="png")
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_heat_maps_show_shares(summary: CohortSummary) -> None:
    figure = scan_completeness(summary)
    assert drawn(figure) == ["75%\n4 scans", "25%\n1 scans", "0%\n0 scans", "25%\n1 scans"]
    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_array_equal(shown, [[0.75, 0.25], [0.0, 0.25]])
    cells = cell_completeness(summary)
    assert drawn(cells) == ["50%", "100%", "75%", "100%", "50%", ""]
    names = [label.get_text() for label in cells.axes[0].get_yticklabels()]
    assert names == ["not in dictionary (visits)", "demographic (visits)", "structure (joints)"]


@settings(deadline=None)
@given(arrays(np.int16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_window_is_monotone_and_reaches_both_ends(image: np.ndarray) -> None:
    grey = window(image)
    assert grey.shape == image.shape
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(grey.ravel()[order].astype(int)) >= 0).all()
    assert (grey.min(), grey.max()) == ((0, 255) if image.min() < image.max() else (0, 0))


def test_a_window_clips_at_the_percentiles() -> None:
    # Of 0 to 1000, percentile 1 is 10 and percentile 99.5 is 995.
    grey = window(np.arange(1001).reshape(7, 143))
    expected = np.clip(np.rint(255 * (np.arange(1001) - 10) / 985), 0, 255)
    np.testing.assert_array_equal(grey.ravel(), expected)


@settings(deadline=None)
@given(PICTURES, st.integers(1, 15), st.integers(1, 15))
def test_resampling_keeps_mean_and_range(picture: np.ndarray, height: int, width: int) -> None:
    other = resample(picture, (height, width))
    assert other.shape == (height, width)
    assert other.mean() == pytest.approx(picture.mean(), abs=1e-6)
    assert other.min() >= picture.min() - 1e-6
    assert other.max() <= picture.max() + 1e-6
    np.testing.assert_allclose(resample(picture, picture.shape), picture)


def test_middle_slices_are_of_echo_0_and_true_in_proportion(cohort: Cohort) -> None:
    volumes = small_volumes()
    np.testing.assert_array_equal(middle_slice(cohort, "SAG", 3), volumes["SAG"].volume[3, 2])
    np.testing.assert_array_equal(middle_slice(cohort, "T2", 0), volumes["T2"].volume[0, 0, 1])
    # 6 rows of 2 mm and 8 columns of 1 mm are 12 to 8.
    assert {tile.picture.shape for tile in tiles(cohort, "SAG")} == {(12, 8)}
    assert contact_sheet(cohort, "SAG", columns=3).shape == (2 * 12 + GAP, 3 * 8 + 2 * GAP)
    (tile,) = tiles(cohort, "T2")
    np.testing.assert_array_equal(tile.picture, window(volumes["T2"].volume[0, 0, 1]))


def test_a_negative_scale_turns_the_picture(tmp_path: Path) -> None:
    volume = np.arange(48, dtype=np.int16).reshape(1, 3, 4, 4)
    scans = pd.DataFrame({"subject_id": ["a"], "scale": [-1.0], "offset": [100.0]})
    given_ = {"SAG": SequenceVolumes(volume=volume, scans=scans)}
    write_cohort(tmp_path / "c", volumes=given_, tables={}, provenance={})
    (tile,) = tiles(Cohort.open(tmp_path / "c"), "SAG")
    assert tile.picture[0, 0] == 255
    assert tile.picture[3, 3] == 0


def test_a_sheet_is_the_same_for_the_same_seed(cohort: Cohort) -> None:
    first, again = (contact_sheet(cohort, "SAG", scans=3, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8
    chosen = {tuple(t.scan_id for t in tiles(cohort, "SAG", scans=2, seed=s)) for s in range(8)}
    assert len(chosen) > 1


def many_scans() -> pd.DataFrame:
    rows = [(v, s, n) for v in ("V00", "V03") for s in "ABC" for n in range(20 if s == "A" else 2)]
    return pd.DataFrame(
        [{"scan_id": f"{n}{s}:{v}", "visit": v, "site": s} for v, s, n in rows]
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(1, 12))
def test_a_sample_is_even_over_visits_and_sites(seed: int, count: int) -> None:
    scans = many_scans()
    taken = scans.iloc[sample_scans(scans, count, seed)]
    assert len(taken) == count
    visits = taken["visit"].value_counts().reindex(["V00", "V03"], fill_value=0)
    assert visits.max() - visits.min() <= 1
    for _, rows in taken.groupby("visit"):
        sites = rows["site"].value_counts().reindex(list("ABC"), fill_value=0)
        assert sites.max() - sites.min() <= 1
    shuffled = scans.sample(frac=1.0, random_state=seed).reset_index(drop=True)
    other = shuffled.iloc[sample_scans(shuffled, count, seed)]
    assert other["scan_id"].tolist() == taken["scan_id"].tolist()


def test_all_scans_are_taken_where_there_are_fewer() -> None:
    scans = many_scans().head(3)
    assert sorted(sample_scans(scans, 12, 0).tolist()) == [0, 1, 2]


def test_a_labelled_sheet_names_scans_and_sites(cohort: Cohort) -> None:
    figure = contact_figure(cohort, "SAG", scans=5)
    shown = [axes for axes in figure.axes if axes.images]
    expected = sorted(cohort.scans("SAG")["scan_id"])
    assert sorted(axes.get_title() for axes in shown) == expected
    assert {axes.get_xlabel() for axes in shown} == {"site A", "site B"}
    assert {axes.images[0].get_cmap().name for axes in shown} == {"gray"}
    figure.savefig(io.BytesIO(), format="png")


def test_what_cannot_be_shown_is_said(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unknown sequence 'AX'"):
        tiles(cohort, "AX")
    with pytest.raises(InputError, match="scans: 0"):
        tiles(cohort, "SAG", scans=0)
    none = SequenceVolumes(
        volume=np.zeros((0, 2, 3, 4), dtype=np.int16), scans=pd.DataFrame({"subject_id": []})
    )
    write_cohort(tmp_path / "c", volumes={"SAG": none}, tables={}, provenance={})
    empty = Cohort.open(tmp_path / "c")
    with pytest.raises(InputError, match=r"'SAG' of .* has no scans"):
        tiles(empty, "SAG")
    assert summarise(empty).sequences[0].compression is None


class Stream(io.StringIO):
    """A stream that says whether it is a terminal, and of which encoding."""

    def __init__(self, tty: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty, self._encoding = tty, encoding

    def isatty(self) -> bool:
        return self._tty

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


@pytest.mark.parametrize(
    ("tty", "encoding", "environ", "mode"),
    [
        (True, "utf-8", {"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        (True, "utf-8", {"TERM": "xterm-256color"}, "256"),
        (True, "utf-8", {"TERM": "xterm"}, "ascii"),
        (True, "utf-8", {"TERM": "dumb", "COLORTERM": "truecolor"}, "ascii"),
        (True, "utf-8", {"TERM": "xterm-256color", "NO_COLOR": "1"}, "ascii"),
        (True, "ascii", {"TERM": "xterm-256color"}, "ascii"),
        (False, "utf-8", {"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ascii"),
    ],
)
def test_a_stream_gets_what_it_can_show(
    tty: bool, encoding: str, environ: dict[str, str], mode: Mode
) -> None:
    assert capability(Stream(tty, encoding), environ) == mode


def test_ascii_is_a_ramp_of_bare_characters() -> None:
    # Ten columns of rising grey, each letter two pixels high.
    ramp = np.tile(np.linspace(0, 255, 10).round().astype(np.uint8), (4, 1))
    assert render(ramp, columns=80) == f"{RAMP}\n{RAMP}"
    assert render(np.zeros((2, 3), dtype=np.uint8), columns=80) == ""


def pixels(text: str) -> np.ndarray:
    """Decode half blocks of 24-bit colour: what a terminal would show."""
    rows = []
    for line in text.split("\n"):
        assert line.endswith("\x1b[0m")
        pairs: list[list[int]] = []
        now = [0, 0]
        for code, block in re.findall(r"\x1b\[([\d;]+)m|(▀)", line):
            if block:
                pairs.append(now)
            elif code != "0":
                numbers = [int(word) for word in code.split(";")]
                assert numbers[:2] == [38, 2]
                assert numbers[5:7] == [48, 2]
                assert len({*numbers[2:5]}) == len({*numbers[7:10]}) == 1
                now = [numbers[2], numbers[7]]
        rows += [[upper for upper, _ in pairs], [lower for _, lower in pairs]]
    return np.array(rows)


@settings(deadline=None)
@given(PICTURES)
def test_half_blocks_show_every_pixel(picture: np.ndarray) -> None:
    shown = pixels(render(picture, columns=80, mode="truecolor"))
    np.testing.assert_array_equal(shown[: len(picture)], picture)
    assert (shown[len(picture) :] == 0).all()


@settings(deadline=None)
@given(st.integers(0, 255))
def test_256_colours_take_the_nearest_grey(level: int) -> None:
    text = render(np.full((2, 1), level, dtype=np.uint8), columns=1, mode="256")
    found = re.fullmatch(r"\x1b\[38;5;(\d+);48;5;(\d+)m▀\x1b\[0m", text)
    assert found is not None
    assert found[1] == found[2]
    # xterm: 16 is black, 231 white, 232 to 255 are 8, 18, ..., 238.
    levels = {16: 0, 231: 255} | {232 + n: 8 + 10 * n for n in range(24)}
    error = abs(levels[int(found[1])] - level)
    assert error == min(abs(other - level) for other in levels.values())


@pytest.mark.parametrize("mode", ["ascii", "256", "truecolor"])
def test_a_picture_is_no_wider_than_the_terminal(mode: Mode) -> None:
    picture = np.full((40, 60), 200, dtype=np.uint8)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in
             render(picture, columns=30, mode=mode).split("\n")]  # fmt: skip
    # Half the width, half the height, and a character is two pixels high.
    assert {len(line) for line in lines} == {30}
    assert len(lines) == 10


def test_a_mosaic_is_filled_row_by_row(cohort: Cohort) -> None:
    shown = tiles(cohort, "SAG", scans=5)
    sheet = mosaic(shown, columns=2)
    np.testing.assert_array_equal(sheet[12 + GAP : 24 + GAP, 8 + GAP :], shown[3].picture)
    assert (sheet[-12:, 8 + GAP :] == 0).all()
