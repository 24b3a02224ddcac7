"""Images as an NDA package has them: a tar.gz a series, and `image03.txt` as their index.

Columns as in the NDA's structure `image03`: tab-delimited, quoted, a row of names and a row that says
what they are.
"""

import gzip
import io
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spinmark_data.phantom.series_names import (
    accession_number,
    series_description,
    study_description,
)

BUCKET = "s3://NDAR_Central_1/submission_00001"
PACKAGE = "image03"
COLUMNS: Mapping[str, str] = {
    "subjectkey": "The NDAR Global Unique Identifier (GUID) for research subject",
    "src_subject_id": "Subject ID how it's defined in lab/project",
    "interview_date": "Date on which the interview/genetic test/sampling/imaging was completed",
    "interview_age": "Age in months at the time of the interview",
    "sex": "Sex of subject at birth",
    "image_file": "Data file",
    "image_description": "Image description",
    "scan_type": "Type of Scan",
    "image_modality": "Image modality",
    "image_file_format": "Image file format",
    "visit": "Visit name",
    "study": "Study name",
    "accession_number": "Accession number",
    "comments_misc": "Miscellaneous comments on study, interview, methodology relevant to this form",
}


@dataclass(frozen=True, kw_only=True)
class NdaSeries:
    """One row of the index.

    Args:
        folder: Where the series lies in the release, such as `00m/0.C.2/<ID>/<date>/<series>`.
        subject_id: Whose it is.
        visit: Such as `V00`.
        series_description: As in the DICOM header.
        study_description: As in the DICOM header, with its spaces.
        accession_number: Twelve digits.
        radiograph: Whether it is an X-ray.
    """

    folder: str
    subject_id: str
    visit: str
    series_description: str
    study_description: str
    accession_number: str
    radiograph: bool = False


def pack_series(folder: Path, archive: Path) -> None:
    """Pack the files of a folder as `./001`, `./002`, ..., the same bytes at every call."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        root = tarfile.TarInfo("./")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(root)
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            member = tarfile.TarInfo(f"./{path.name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def link_of(series: NdaSeries) -> str:
    """Where the NDA keeps a series."""
    return f"{BUCKET}/{series.folder}.tar.gz"


def write_image03(package: Path, series: Iterable[NdaSeries]) -> Path:
    """Write `image03.txt` into a package; return its path."""
    rows = [list(COLUMNS), list(COLUMNS.values())]
    for one in series:
        date = one.folder.split("/")[-2]
        modality = "X-Ray" if one.radiograph else "MRI"
        cells = {
            "subjectkey": f"NDAR_INV{one.subject_id[-7:].rjust(8, '0')}",
            "src_subject_id": one.subject_id,
            "interview_date": f"{date[4:6]}/{date[6:]}/{date[:4]}",
            "image_file": link_of(one),
            "image_description": one.series_description,
            "scan_type": "X-Ray" if one.radiograph else "MR structural (T2)",
            "image_modality": modality,
            "image_file_format": "DICOM",
            "visit": one.visit,
            "study": "OAI",
            "accession_number": one.accession_number,
            "comments_misc": one.study_description.replace("^", " "),
        }
        rows.append([cells.get(name, "") for name in COLUMNS])
    text = "".join("\t".join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    path = package / "image03.txt"
    path.write_bytes(text.encode("ascii"))
    return path


def pack_release(release: Path, package: Path, series: Iterable[NdaSeries]) -> Path:
    """Turn image folders into a package as the NDA's download tool leaves it.

    Args:
        release: Holds the folders of the series.
        package: Gains `image03.txt` and `image03/<folder>.tar.gz`.
        series: What to pack; rows whose folder is not there stand in the index only, as series that
            were not downloaded do.

    Returns:
        The path of the index.
    """
    package.mkdir(parents=True, exist_ok=True)
    rows = list(series)
    for one in rows:
        folder = release / one.folder
        if folder.is_dir():
            pack_series(folder, package / PACKAGE / f"{one.folder}.tar.gz")
    return write_image03(package, rows)


def pack_images(release: Path, package: Path, plan: pd.DataFrame) -> Path:
    """Turn the rendered image folders of a phantom into archives; the folders are removed.

    Args:
        release: Holds the folders.
        package: Gains `image03.txt` and the archives.
        plan: The scans, from `plan_scans`.

    Returns:
        The path of the index.
    """
    rows = [
        NdaSeries(
            folder=row["folder"],
            subject_id=row["subject_id"],
            visit=row["visit"],
            series_description=series_description(row["laterality"], row["sequence"]),
            study_description=study_description(row["visit"], row["laterality"]),
            accession_number=accession_number(row["series"]),
        )
        for row in plan.to_dict("records")
    ]
    index = pack_release(release, package, rows)
    for top in sorted({str(row.folder).split("/")[0] for row in rows}):
        shutil.rmtree(release / top)
    return index
