"""The OAI's lists of images, and what lies on the disk beside them."""

from pathlib import Path

import pytest

from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.discover import discover, find_sources
from spinmark_data.ingest.oai.series_index import is_manifest, read_index
from spinmark_data.ingest.source import Found
from spinmark_data.phantom.nda_images import NdaSeries, link_of, write_image03

HEAD = "Folder,ParticipantID,StudyDate,Barcode,StudyDescription,SeriesDescription"


def files(release: Path, *folders: str) -> None:
    for folder in folders:
        (release / folder).mkdir(parents=True)
        (release / folder / "001").write_bytes(b"x")


def contents(path: Path, *rows: str, head: str = HEAD) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{row}\r\n" for row in (head, *rows)).encode())


def reasons(found: Found) -> list[str]:
    return [reason for _, _, reason, _ in found.issues]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("contents.csv", True),
        ("contents.0E1.csv", True),
        ("contents_00m.csv", True),
        ("Contents.CSV", True),
        ("image03.txt", True),
        ("table_of_contents.csv", False),
        ("contentsless.csv", False),
    ],
)
def test_names_of_lists(name: str, is_one: bool) -> None:
    assert is_manifest(name) == is_one


def test_complete_data_with_its_list(tmp_path: Path) -> None:
    dess = "0.C.2/1000001/20040924/10012345"
    files(
        tmp_path / "00m",
        dess,
        "0.C.2/1000001/20040924/10012346",  # A reformat, by the list.
        "0.C.2/1000001/20040924/00012347",  # A radiograph.
        "0.C.2/1000002/20040925/10012348",  # On no list.
    )
    contents(
        tmp_path / "00m/0.C.2/contents.csv",
        f"{dess},1000001,20040924,10012345,OAI^MR^ENROLLMENT^RIGHT ,SAG_3D_DESS_RIGHT ",
        "0.C.2/1000001/20040924/10012346,1000001,20040924,1,OAI^MR^ENROLLMENT^RIGHT,COR_MPR_RIGHT",
        "0.C.2/1000001/20040924/00012347,1000001,20040924,1,SCREENING,Bilateral PA Fixed Flexion Knee",
        "0.C.2/1000003/20040926/10012349,1000003,20040926,1,OAI^MR^ENROLLMENT^LEFT,SAG_3D_DESS_LEFT",
        "0.C.2/1000003/20040926/10012350,1000009,20040926,1,OAI^MR^ENROLLMENT^LEFT,SAG_3D_DESS_LEFT",
        "no folder,1000003,20040926,1,x,y",
    )
    found = discover(tmp_path)
    assert found.oai
    # The cohort's names of series tell no day.
    assert [source.name for source in found.sources] == [
        "00m/0.C.2/1000001/10012345",
        "00m/0.C.2/1000002/10012348",
    ]
    first, second = found.sources
    assert (first.sequence, first.visit, first.date) == ("SAG_3D_DESS", "V00", "20040924")
    assert [(item.side, item.strong) for item in first.evidence] == [("R", True), ("R", True)]
    assert second.sequence == ""
    assert found.left_out == {"radiographs": 1, "localizers, reformats and thigh images": 1}
    assert [(gone.subject_id, gone.sequence) for gone in found.absent] == [
        ("1000003", "SAG_3D_DESS")
    ]
    told = reasons(found)
    assert "1 rows name no OAI series" in told
    assert "1 rows name another person than the path of their series" in told
    assert "1 series on the disk are in no list of images" in told
    assert "1 series are listed and have no files" in told
    asked = IngestConfig(sequences=["COR_MPR", "RADIOGRAPH"])
    named = {source.sequence for source in find_sources(tmp_path, asked).sources}
    assert named == {"COR_MPR", "RADIOGRAPH", ""}


def test_accession_numbers_and_paths_without_their_release_folder(tmp_path: Path) -> None:
    contents(
        tmp_path / "72m/8.C.1/contents.8C1.csv",
        "1000001/20101112/10012345,1000001,20101112,16600000001,OAI^MR^72 MONTH^LEFT,SAG_IW_TSE_LEFT",
        head=HEAD.replace("Barcode", "AccessionNumber"),
    )
    index = read_index(tmp_path, ["72m/8.C.1/contents.8C1.csv"])
    assert list(index.entries) == [("8.C.1", "1000001", "20101112", "10012345")]
    assert not index.issues


def test_nested_doubles_and_a_series_number_of_two_days(tmp_path: Path) -> None:
    files(
        tmp_path,
        "48m/48m/48m/6.C.1/1000001/20080924/10012345",
        "48m/6.C.1/1000001/20080924/10012345",
        "48m/6.C.1/1000001/20080925/10012345",
    )
    found = discover(tmp_path)
    assert [source.name for source in found.sources] == [
        "48m/6.C.1/1000001/10012345",
        "48m/6.C.1/1000001/10012345#2",
    ]
    assert [source.date for source in found.sources] == ["20080924", "20080925"]
    assert reasons(found) == ["the same series stands in another folder"]


def nda(series: str, subject: str, description: str, **fields: str) -> NdaSeries:
    given = {"visit": "V01", "study_description": "OAI^MR^12 MONTH^RIGHT"} | fields
    return NdaSeries(
        folder=f"12m/1.C.2/{subject}/20050924/{series}",
        subject_id=subject,
        series_description=description,
        accession_number="016600000001",
        radiograph=series.startswith("0"),
        **given,
    )


def test_an_nda_package(tmp_path: Path) -> None:
    here = nda("10012345", "1000001", "SAG_3D_DESS_RIGHT")
    gone = nda("10012346", "1000002", "SAG_3D_DESS_RIGHT")
    rows = [here, gone, nda("00012347", "1000001", "Lateral Right Knee")]
    rows.append(nda("10012348", "1000004", "MP_LOCATOR_RIGHT"))
    rows.append(nda("10012349", "1000005", "SAG_IW_TSE_RIGHT", visit="V03"))
    write_image03(tmp_path, rows)
    path = tmp_path / "image03" / f"{here.folder}.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    found = discover(tmp_path)
    (source,) = found.sources
    assert source.kind == "archive"
    assert source.name == "12m/1.C.2/1000001/10012345"
    assert (source.subject_id, source.visit, source.sequence) == ("1000001", "V01", "SAG_3D_DESS")
    assert {item.side for item in source.evidence} == {"R"}
    assert [item.link for item in found.absent if item.sequence == "SAG_3D_DESS"] == [link_of(gone)]
    # The row of descriptions is no row, and a visit that contradicts the path is told.
    assert "1 rows name another visit than the path of their series" in reasons(found)
    assert not [reason for reason in reasons(found) if "no OAI series" in reason]
    assert found.tables == []


def test_a_list_of_something_else_is_a_table(tmp_path: Path) -> None:
    contents(tmp_path / "contents.csv", "1,2", head="box,shelf")
    found = discover(tmp_path)
    assert not found.oai
    assert found.tables == ["contents.csv"]
