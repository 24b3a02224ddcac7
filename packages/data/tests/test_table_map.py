"""The table map: whose each series of a plain folder is, and what in it cannot be used."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.ingest.discover import discover
from spinmark_data.ingest.own.table_map import MapRow, apply_table_map, read_table_map
from spinmark_data.ingest.source import Source


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for name in ("a/x.nii.gz", "b/scan_0.nii.gz", "b/scan_1.nii.gz"):
        path = tmp_path / "r" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "r"


def table(release: Path, text: str) -> Path:
    path = release.parent / "map.csv"
    path.write_text(text, encoding="utf-8")
    return path


def people(release: Path, text: str) -> dict[str, str]:
    found = discover(release, table(release, text))
    return {source.name: source.subject_id for source in found.sources}


def test_the_longest_path_wins_however_it_is_written(release: Path) -> None:
    rows = f"b,B\n./b/../b/scan_0.nii.gz,C\n{release}/a/x.nii.gz,A\n,\n"
    for text in (rows, "".join(reversed(rows.splitlines(keepends=True)))):
        assert people(release, f"path,subject_id\n{text}") == {
            "a/x.nii.gz": "A",
            "b/scan_0.nii.gz": "C",
            "b/scan_1.nii.gz": "B",
        }
    assert set(people(release, "path,subject_id\n.,X\n").values()) == {"X"}


def test_what_fits_nothing_is_told(release: Path) -> None:
    text = "path,subject_id,side\nb,B,R\nb/typo.nii.gz,D,R\n../r/a,E,R\n/elsewhere/a,F,R\n"
    found = discover(release, table(release, text))
    assert sorted((name, reason) for name, _, reason, _ in found.issues) == [
        ("../r/a", "a row of the table map fits no series of the release"),
        ("a/x.nii.gz", "no row of the table map names it"),
        ("b/typo.nii.gz", "a row of the table map fits no series of the release"),
        ("elsewhere/a", "a row of the table map fits no series of the release"),
        ("map.csv", "1 columns are not known: side"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,name\nb,B\n", r"lacks \['subject_id'\]"),
        ("path,subject_id\nb\n", "line 2 has 1 cells, the header 2"),
        ("path,subject_id\nb,B,R\n", "line 2 has 3 cells, the header 2"),
        ("path,subject_id\nb,\n", "line 2 has no subject_id"),
        ("path,subject_id\n,B\n", "line 2 has no path"),
        ("path,subject_id,days\nb,B,nan\n", "days has 1 cells such as 'aaa'; a finite number"),
        ("path,subject_id,days\nb,B,-inf\n", "days has 1 cells such as '-aaa'"),
        ("path,subject_id,laterality\nb,B,Jane Roe\n", "laterality has 1 cells such as 'aaaa aaa'"),
        ("path,subject_id\nb,B\n./b/,C\n", "line 3 names a path that a line before names"),
        ("path,subject_id\nb,A:B\n", "1 values of subject_id hold ':'"),
        ("path,subject_id\nb,..\n", "1 values of subject_id hold ':'"),
        ("path,subject_id,sequence\nb,B,../../x\n", "1 values of sequence hold ':'"),
    ],
)
def test_what_cannot_be_used_is_named(release: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        discover(release, table(release, text))


def test_rows_that_say_the_same_are_one_and_other_encodings_are_named(release: Path) -> None:
    assert people(release, "path,subject_id\nb,B\nb/,B\n")["b/scan_0.nii.gz"] == "B"
    (release.parent / "map.csv").write_bytes("path,subject_id\nb,M\u00fcller\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8"):
        read_table_map(release.parent / "map.csv", release)


def test_two_people_for_one_series_are_a_contradiction() -> None:
    series = Source(name="p", files=("p/a/1", "p/b/1"))
    a, b = MapRow(subject_id="A"), MapRow(subject_id="B")
    with pytest.raises(InputError, match="rows of p/a and p/b differ"):
        apply_table_map([series], {"p/a": a, "p/b": b})
    (told,), _ = apply_table_map([series], {"p": b, "p/a": a})
    assert told.subject_id == "A"


PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)


@given(st.lists(PATHS, max_size=6, unique=True), st.lists(PATHS, max_size=6, unique=True))
def test_as_a_search_of_all_rows_would_say(files: list[str], given_rows: list[str]) -> None:
    sources = [Source(name=f"{file}.nii", files=(f"{file}.nii",)) for file in files]
    rows = {path: MapRow(subject_id=path) for path in given_rows}
    mapped, issues = apply_table_map(sources, rows)
    used = set()
    for before, after in zip(sources, mapped, strict=True):
        fitting = [r for r in rows if PurePosixPath(before.name).is_relative_to(r)]
        used |= set(fitting)
        assert after.subject_id == max(fitting, key=len, default="")
    assert {name for name, kind, *_ in issues if kind == "refused"} == set(rows) - used
