"""Which scan each series of a release became, for label maps that refer to series."""

from pathlib import Path

from spinmark_data.cohort.ledger import read_ledger
from spinmark_data.cohort.reader import Cohort
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.series import read_file
from spinmark_data.ingest.discover import find_sources
from spinmark_data.ingest.images import files_of, source_key
from spinmark_data.ingest.limits import Refused


def scan_of_series(cohort: Cohort, release: Path, config: IngestConfig) -> dict[str, str]:
    """The scan_id of each stored series, by its SeriesInstanceUID.

    A cohort keeps no UIDs, so the first file of each stored series is read in the release.

    Args:
        cohort: The cohort.
        release: The release that it was made from.
        config: The settings of that ingest.

    Raises:
        InputError: The release is absent.
    """
    rows = read_ledger(cohort.folder, cohort.generation)
    stored = {row["source"]: str(row["scan_id"]) for row in rows}
    found: dict[str, str] = {}
    for source in find_sources(release, config).sources:
        scan_id = stored.get(source_key(source))
        if scan_id is None or source.kind == "nifti":
            continue
        try:
            header = read_file(files_of(release, source)[0], pixels=False)
        except Refused:
            continue
        if uid := str(header.get("SeriesInstanceUID") or ""):
            found[uid] = scan_id
    return found
