"""What is asked for of a release, how much it is, and under which names it comes."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.location import locate
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.discover import find_sources
from spinmark_data.ingest.own.tables import read_plain_tables
from spinmark_data.ingest.plan import plan, survey
from spinmark_data.ingest.plan_report import grouped
from spinmark_data.ingest.pseudonyms import pseudonymise_tables, read_key
from spinmark_data.ingest.run import ingest
from spinmark_data.ingest.selection import amount, describe
from spinmark_data.ingest.selection_config import SelectionConfig, chosen_subjects
from spinmark_data.ingest.staging import stage_all, work_hash
from spinmark_data.phantom.nda_images import NdaSeries, write_image03

KEY = "0123456789abcdef0123456789abcdef"


def package(folder: Path) -> Path:
    """Two people at two visits with two sequences each; only the first person's files are there."""
    rows = []
    for subject in ("1000001", "1000002"):
        for visit, release in (("V00", "00m/0.C.2"), ("V01", "12m/1.C.2")):
            for number, name in enumerate(("SAG_3D_DESS", "SAG_IW_TSE")):
                series = NdaSeries(
                    folder=f"{release}/{subject}/20040924/1001234{number}",
                    subject_id=subject,
                    visit=visit,
                    series_description=f"{name}_RIGHT",
                    study_description="OAI^MR^ENROLLMENT^RIGHT",
                    accession_number="016600000001",
                )
                rows.append(series)
                if subject == "1000001":
                    path = folder / "image03" / f"{series.folder}.tar.gz"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(bytes(3_000_000 if number == 0 else 1_000_000))
    write_image03(folder, rows)
    return folder


def test_a_selection_counts_series_bytes_and_links(tmp_path: Path) -> None:
    package(tmp_path)
    _, everything = survey(tmp_path, IngestConfig())
    assert everything.series == {"SAG_3D_DESS": 2, "SAG_IW_TSE": 2}
    assert everything.bytes == {"SAG_3D_DESS": 6_000_000, "SAG_IW_TSE": 2_000_000}
    assert everything.absent == {"SAG_3D_DESS": 2, "SAG_IW_TSE": 2}
    # Of what is not there, as much as its sequence has taken so far.
    assert everything.absent_bytes == {"SAG_3D_DESS": 6_000_000, "SAG_IW_TSE": 2_000_000}
    config = IngestConfig(sequences=["SAG_3D_DESS"], visits=["V01"])
    found, told = survey(tmp_path, config)
    assert [source.name for source in found.sources] == ["12m/1.C.2/1000001/10012340"]
    assert told.left_out == {"of other sequences": 2, "of other visits": 1}
    assert told.links == [
        "s3://NDAR_Central_1/submission_00001/12m/1.C.2/1000002/20040924/10012340.tar.gz"
    ]
    assert describe(told) == [
        "1 series selected, 3.0 MB on the disk:",
        "  1 of SAG_3D_DESS, 3.0 MB",
        "1 series are listed and not on the disk, about 3.0 MB:",
        "  1 of SAG_3D_DESS, about 3.0 MB",
        "Not asked for: 2 of other sequences, 1 of other visits.",
    ]
    nobody, told = survey(tmp_path, IngestConfig(subjects=["1000002"]))
    assert not nobody.sources
    # Nothing of it is there: what such a series usually takes.
    assert told.absent_bytes["SAG_3D_DESS"] == 2 * 47_300_000
    some, told = survey(tmp_path, IngestConfig(limit=3))
    assert (len(some.sources), told.left_out) == (3, {"beyond the limit": 1})


def test_amounts_run_to_terabytes() -> None:
    assert amount(10_400_000_000_000) == "10.400 TB"


def test_people_from_a_list_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text("1000001\n\n 0007 \n")
    assert chosen_subjects(SelectionConfig()) is None
    for given in (tmp_path / "people.txt", ["1000001", "0007"], Path("[1000001, '0007']")):
        assert chosen_subjects(SelectionConfig(subjects=given)) == {"1000001", "0007"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subjects": Path("no.txt")}, "subjects no.txt does not exist"),
        ({"subjects": Path("[]")}, "names nobody"),
        ({"subjects": ["a"], "pseudonymise": Path("k")}, "which the cohort's run.json would show"),
        ({"subjects": Path("[a]"), "pseudonymise": Path("k")}, "give a text file"),
        ({"limit": 0}, "limit is 0; a whole number of at least 1"),
        ({"pseudonymise": Path("no.key")}, "no.key cannot be read"),
    ],
)
def test_what_cannot_be_selected(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    package(tmp_path)
    with pytest.raises(InputError, match=message):
        find_sources(tmp_path, IngestConfig(**fields))


def test_the_work_hash_follows_what_changes_shards(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text(KEY)
    (tmp_path / "b.key").write_text(KEY[::-1])
    configs = [
        IngestConfig(),
        IngestConfig(sequences=["A"]),
        IngestConfig(visits=["V00"]),
        IngestConfig(subjects=["x"]),
        IngestConfig(pseudonymise=tmp_path / "a.key"),
        IngestConfig(pseudonymise=tmp_path / "b.key"),
    ]
    assert len({work_hash(config) for config in configs}) == len(configs)
    assert work_hash(IngestConfig(workers=9, limit=2)) == work_hash(IngestConfig())


def test_a_key_replaces_every_identifier(tmp_path: Path, write_release) -> None:
    write_release(tmp_path, ["1000001", "1000002"])
    key = tmp_path / "site.key"
    key.write_text(f"{KEY}\n")
    (tmp_path / "clinic.csv").write_text(
        "subject_id,laterality,visit,WOMKP,AGE\n1000001,R,V00,3,60\n1000002,L,V00,,61\n"
    )
    config = IngestConfig(workers=1, table_map=tmp_path / "map.csv", pseudonymise=key)
    found = find_sources(tmp_path / "release", config)
    records = stage_all(
        tmp_path / "release", locate(tmp_path / "c"), "work", found.sources, config, None
    )
    tables = read_plain_tables(tmp_path / "clinic.csv")
    coded = pseudonymise_tables(tables, read_key(key))
    # An independent way to the code, by the words of RFC 2104.
    import hashlib

    inner = bytes(b ^ 0x36 for b in KEY.encode().ljust(64, b"\0"))
    outer = bytes(b ^ 0x5C for b in KEY.encode().ljust(64, b"\0"))
    text = b"spinmark:subject:1000001"
    code = hashlib.sha256(outer + hashlib.sha256(inner + text).digest()).hexdigest()[:16]
    assert {record["subject_id"] for record in records} == set(coded.subjects["subject_id"])
    assert f"p{code}" in set(coded.subjects["subject_id"])
    assert set(coded.joints["joint_id"]) == {
        f"{row.subject_id}:{row.laterality}" for row in coded.joints.itertuples()
    }
    assert list(coded.missing["subject_id"]) == [read_key(key).subject("1000002")]
    written = b"".join(p.read_bytes() for p in (tmp_path / "c").rglob("*") if p.is_file())
    shown = json.dumps(records) + repr(found.issues) + pd.concat(coded.tables()).to_csv()
    for secret in ("1000001", "1000002", KEY, "_V00_"):
        assert secret not in shown
        assert secret.encode() not in written
    # Whoever has the release and the key can tell which is which.
    assert set(found.paths) == {source.name for source in found.sources}
    assert "1000001_V00_R.nii" in found.paths.values()


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("secret")
    with pytest.raises(InputError, match="holds 6 characters") as caught:
        read_key(tmp_path / "k")
    assert "secret" not in str(caught.value).replace("spinmark", "")


def test_refusals_are_told_in_groups(tmp_path: Path) -> None:
    rows = [(f"s{k}", f"uneven slice increment: steps from {k} to 9 mm") for k in range(5)]
    assert grouped([*rows, ("t", "the file is empty")]) == [
        "5: uneven slice increment: steps from 0 to 9 mm",
        "     s0",
        "     s1",
        "     s2",
        "     and 2 more",
        "1: the file is empty",
        "     t",
    ]


def test_a_plan_refuses_what_the_ingest_refuses(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ["1000001"])
    cut = release / "1000001_V00_L.nii"
    cut.write_bytes(cut.read_bytes()[:-20])
    config = IngestConfig(table_map=tmp_path / "map.csv", workers=1)
    seen = plan(release, config)
    assert seen.sequences == {"DESS": 1}
    found = find_sources(release, config)
    records = stage_all(release, locate(tmp_path / "c"), "work", found.sources, config, None)
    refused = [(r["source"], r["reason"]) for r in records if r["status"] == "refused"]
    assert seen.refused == refused


def test_a_key_leaves_the_order_of_rescans(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    lines = ["path,subject_id,laterality,visit,sequence"]
    for number in range(6):
        voxels = np.full((4, 5, 6), number, np.int16)
        voxels[0, 0, 0] = 99
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(release / f"s{number}.nii")
        lines.append(f"s{number}.nii,a,R,V00,DESS")
    (tmp_path / "map.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "key").write_text("k" * 40)
    found = []
    for name, key in (("plain", None), ("coded", tmp_path / "key")):
        config = IngestConfig(workers=1, table_map=tmp_path / "map.csv", pseudonymise=key)
        ingest(release, tmp_path / name, config)
        scans = Cohort.open(tmp_path / name).scans("DESS").sort_values("rank")
        found.append(scans["source_sha256"].tolist())
    assert found[0] == found[1]
