"""The OAI's lists of its own images: `contents.csv` of Complete Data, `image03.txt` of the NDA.

Both tell of every series whose it is, of which sequence and side, and where its files lie. They are
the index of a release; what lies on the disk is compared with it.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from spinmark_data.ingest.archives import ENDINGS
from spinmark_data.ingest.laterality import Evidence, side_of
from spinmark_data.ingest.sequences import sequence_name

Key = tuple[str, str, str, str]
Issue = tuple[str, str, str, str]

_ENDING = "|".join(re.escape(ending) for ending in ENDINGS)
_SERIES = re.compile(
    r"(?:^|/)(?P<group>\d{1,2}\.[A-Z]\.\d+)/(?P<id>\d+)/(?P<date>\d{8})/(?P<series>\d+)"
    rf"(?P<ending>{_ENDING})?/*$",
    re.IGNORECASE,
)
_CONTENTS = re.compile(r"contents([._].*)?\.csv", re.IGNORECASE)
_IMAGE03 = "image03.txt"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One series as a manifest names it.

    Args:
        key: Release folder, person, day of the study and series.
        sequence: Its sequence.
        evidence: What the manifest says of the side.
        link: Where the NDA keeps it; empty in Complete Data.
        manifest: Number of its manifest among those read.
    """

    key: Key
    sequence: str
    evidence: tuple[Evidence, ...] = ()
    link: str = ""
    manifest: int = 0


@dataclass(kw_only=True)
class SeriesIndex:
    """All that the manifests of a release name.

    Args:
        entries: Each series once, by its key.
        manifests: Paths of the manifests within the release.
        issues: `(source, kind, reason, action)` of rows that could not be used, counted.
    """

    entries: dict[Key, Entry] = field(default_factory=dict)
    manifests: list[str] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


def series_key(path: str) -> Key | None:
    """Release folder, person, day and series of an OAI path, or None if it is no such path.

    >>> series_key("00m/0.C.2/1000001/20040924/10012345.tar.gz")
    ('0.C.2', '1000001', '20040924', '10012345')
    """
    match = _SERIES.search(path)
    if match is None:
        return None
    return match["group"].upper(), match["id"], match["date"], match["series"]


def visit_of(key: Key) -> str:
    """The visit of a series, from its release folder.

    >>> visit_of(("10.E.1", "1000001", "20130102", "10012345"))
    'V10'
    """
    return f"V{int(key[0].split('.')[0]):02d}"


def is_manifest(name: str) -> bool:
    """Whether a file's name is that of a manifest."""
    return name.lower() == _IMAGE03 or _CONTENTS.fullmatch(name) is not None


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a manifest under lower-case names; what is read of them is ASCII."""
    tabs = path.name.lower() == _IMAGE03
    with path.open(encoding="latin-1", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if tabs else ",")
        header = [
            name.strip().removeprefix("\u00ef\u00bb\u00bf").strip('"').lower()
            for name in next(reader, [])
        ]
        for row in reader:
            if row:
                cells = (cell.strip() for cell in row)
                yield dict(zip(header, cells, strict=False))


def _contents(row: dict[str, str], folder: str) -> tuple[Key | None, str, str, str, str]:
    path = row.get("folder", "").replace("\\", "/").rstrip("/")
    # Some lists leave out the folder that they stand in.
    key = series_key(path) or series_key(f"{folder}/{path}")
    texts = row.get("seriesdescription", ""), row.get("studydescription", "")
    return key, row.get("participantid", ""), *texts, ""


def _image03(row: dict[str, str]) -> tuple[Key | None, str, str, str, str]:
    link = row.get("image_file", "").replace("\\", "/")
    texts = row.get("image_description", ""), row.get("comments_misc", "")
    return series_key(link), row.get("src_subject_id", ""), *texts, link


def _read(release: Path, name: str, index: SeriesIndex) -> None:
    counts: Counter[str] = Counter()
    number = len(index.manifests)
    nda = Path(name).name.lower() == _IMAGE03
    folder = Path(name).parent.as_posix()
    for line, row in enumerate(_rows(release / name)):
        if line == 0 and not nda and not {"folder", "seriesdescription"} <= row.keys():
            return  # A list of something else that has the same name.
        key, person, series, study, link = _image03(row) if nda else _contents(row, folder)
        if key is None:
            # The NDA's second row says in words what the columns are.
            counts["rows name no OAI series"] += not (nda and line == 0)
            continue
        if person and person != key[1]:
            counts["rows name another person than the path of their series"] += 1
            continue
        if nda and row.get("visit", "").upper() not in ("", visit_of(key)):
            counts["rows name another visit than the path of their series"] += 1
        entry = Entry(
            key=key,
            sequence=sequence_name(series),
            evidence=_evidence(series, study),
            link=link if link.startswith("s3://") else "",
            manifest=number,
        )
        before = index.entries.setdefault(key, entry)
        if before.sequence != entry.sequence:
            counts["rows name another sequence than an earlier row of their series"] += 1
        elif entry.link and not before.link:
            index.entries[key] = replace(before, link=entry.link)
    index.manifests.append(name)
    action = {"rows name another visit than the path of their series": "the path was followed"}
    index.issues += [
        (
            name,
            "repaired" if text in action else "refused",
            f"{n} {text}",
            action.get(text, "the rows were left out"),
        )
        for text, n in sorted(counts.items())
        if n
    ]


def _evidence(series: str, study: str) -> tuple[Evidence, ...]:
    told = (("manifest's series description", series), ("manifest's study description", study))
    return tuple(Evidence(words, side) for words, text in told if (side := side_of(text)))


def read_index(release: Path, names: list[str]) -> SeriesIndex:
    """Read the manifests of a release.

    Args:
        release: The release.
        names: Paths of its manifests within it.

    Returns:
        Every series that they name, and counted issues.
    """
    index = SeriesIndex()
    for name in sorted(names):
        try:
            _read(release, name, index)
        except csv.Error:
            index.issues.append(
                (name, "refused", "the list of images is damaged", "restore it from the release")
            )
    return index
