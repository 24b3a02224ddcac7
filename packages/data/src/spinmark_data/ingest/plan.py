"""What an ingest would take and refuse, from headers alone."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.discover import discover
from spinmark_data.ingest.images import sequence_name
from spinmark_data.ingest.series import Refused, layout, read_file


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """What an ingest would do, from headers alone.

    Args:
        series: Series found.
        sequences: Series that would be taken, by sequence.
        refused: `(source, reason)` of whatever would be refused.
        bytes: Bytes of the files that would be read.
    """

    series: int
    sequences: dict[str, int]
    refused: list[tuple[str, str]] = field(default_factory=list)
    bytes: int = 0


def plan(release: Path, config: IngestConfig) -> IngestPlan:
    """What an ingest of a release would take and refuse; reads headers and writes nothing.

    Raises:
        InputError: The folder is absent or empty.
    """
    found = discover(release, config.table_map)
    refused = [(source, reason) for source, _, reason, _ in found.issues]
    taken: Counter[str] = Counter()
    size = 0
    for source in found.sources:
        name = source.sequence or "IMAGE"
        if source.kind == "dicom":
            try:
                headers = [read_file(release / file, pixels=False) for file in source.files]
                layout(headers)
            except Refused as error:
                refused.append((source.name, str(error)))
                continue
            text = str(headers[0].get("SeriesDescription", "") or "")
            name = source.sequence or sequence_name(text, str(headers[0].get("Modality", "") or ""))
        if config.sequences is None or name in config.sequences:
            taken[name] += 1
            size += sum((release / file).stat().st_size for file in source.files)
    return IngestPlan(
        series=len(found.sources),
        sequences=dict(sorted(taken.items())),
        refused=refused,
        bytes=size,
    )
