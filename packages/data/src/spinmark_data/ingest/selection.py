"""What of a release is asked for, and how much that is, before any image is opened."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from spinmark_data.ingest.oai.series_index import is_manifest
from spinmark_data.ingest.pseudonyms import read_key
from spinmark_data.ingest.selection_config import SelectionConfig, check_limit, chosen_subjects
from spinmark_data.ingest.sequences import EXPECTED_MB, OTHER_MB, RADIOGRAPH, set_aside
from spinmark_data.ingest.source import Absent, Found, Source

RADIOGRAPHS = "radiographs"
ASIDE = "localizers, reformats and thigh images"
SEQUENCES = "of other sequences"
VISITS = "of other visits"
SUBJECTS = "of other people"
LIMIT = "beyond the limit"
_LIST = "list of images: "


@dataclass(frozen=True)
class Wanted:
    """What is asked for; each field None where everything is.

    Args:
        sequences: Names of sequences.
        visits: Names of visits.
        subjects: Identifiers of people, as the release has them.
    """

    sequences: frozenset[str] | None = None
    visits: frozenset[str] | None = None
    subjects: frozenset[str] | None = None

    @classmethod
    def of(cls, config: SelectionConfig) -> "Wanted":
        """What a configuration asks for.

        Raises:
            InputError: The file of subjects is absent or empty.
        """

        def names(given: list[str] | None) -> frozenset[str] | None:
            return None if given is None else frozenset(given)

        return cls(names(config.sequences), names(config.visits), chosen_subjects(config))

    def why_not(self, *, subject_id: str, visit: str, sequence: str, layout: str = "plain") -> str:
        """Why a series is not asked for, or nothing; what is not known yet (empty) is no reason."""
        if self.sequences is not None and sequence and sequence not in self.sequences:
            return SEQUENCES
        if self.sequences is None and layout == "oai":
            if sequence == RADIOGRAPH:
                return RADIOGRAPHS
            if set_aside(sequence):
                return ASIDE
        if self.visits is not None and visit and visit not in self.visits:
            return VISITS
        if self.subjects is not None and subject_id and subject_id not in self.subjects:
            return SUBJECTS
        return ""


def _limited(sources: Iterable[Source], limit: int | None, left_out: Counter[str]) -> list[Source]:
    kept = list(sources)
    if limit is None or len(kept) <= limit:
        return kept
    left_out[LIMIT] += len(kept) - limit
    return kept[:limit]


def select(found: Found, config: SelectionConfig) -> Found:
    """What was found, less what is not asked for.

    Series whose headers have to tell who and what they are stay; the ingest judges them when it has
    read them. With a site's key every series gets a code for a name.

    Args:
        found: All that a release holds.
        config: What is asked for.

    Raises:
        InputError: The file of subjects or of the key cannot be used, or the limit is below 1.
    """
    check_limit(config.limit)
    wanted = Wanted.of(config)
    left_out = Counter(found.left_out)
    kept = []
    for source in found.sources:
        why = wanted.why_not(
            subject_id=source.subject_id,
            visit=source.visit,
            sequence=source.sequence,
            layout=source.layout,
        )
        left_out[why] += bool(why)
        if not why:
            kept.append(source)
    sources = _limited(sorted(kept, key=lambda source: source.name), config.limit, left_out)
    absent = [
        series
        for series in found.absent
        if not wanted.why_not(
            subject_id=series.subject_id,
            visit=series.visit,
            sequence=series.sequence,
            layout="oai",
        )
    ]
    if config.limit is not None:
        absent = absent[: max(config.limit - len(sources), 0)]
    selected = replace(found, sources=sources, absent=absent, left_out=+left_out)
    selected.issues = [*found.issues, *_absent_issues(absent)]
    return selected if config.pseudonymise is None else _coded(selected, config.pseudonymise)


def _absent_issues(absent: list[Absent]) -> list[tuple[str, str, str, str]]:
    counts = Counter(series.sequence for series in absent)
    return [
        (
            f"{_LIST}{name}",
            "refused",
            f"{n} series are listed and have no files",
            "download them, or leave them out",
        )
        for name, n in sorted(counts.items())
    ]


def _coded(found: Found, key_file: Path) -> Found:
    """The same with codes for names: a path may hold a hospital number or a name."""
    key = read_key(key_file)

    def code(name: str) -> str:
        return f"series-{key.code(name, 'series')}"

    def shown(name: str) -> str:
        last = PurePosixPath(name).name
        return last if is_manifest(last) or name.startswith(_LIST) else code(name)

    # A code has another place in the alphabet, and of rescans the last is the primary one.
    sources = [
        replace(source, name=code(source.name), place=place)
        for place, source in enumerate(sorted(found.sources, key=lambda source: source.name))
    ]
    return replace(
        found,
        sources=sorted(sources, key=lambda source: source.name),
        issues=[(shown(name), kind, reason, do) for name, kind, reason, do in found.issues],
        paths={code(source.name): found.paths[source.name] for source in found.sources}
        | {shown(name): name for name, *_ in found.issues if shown(name) != name},
    )


@dataclass(kw_only=True)
class Estimate:
    """How much a selection is.

    Args:
        series: Series on the disk, by sequence; `""` where only headers tell.
        bytes: Bytes of their files, by sequence.
        absent: Series that are listed and not there, by sequence.
        absent_bytes: What they are likely to take, by sequence.
        left_out: Series that nobody asked for, by reason.
        links: Where the NDA keeps the series that are not there.
    """

    series: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)
    absent_bytes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)


def estimate(release: Path, found: Found) -> Estimate:
    """Count a selection and its bytes.

    Series on the disk count with the sizes of their files, series that are not there yet with the
    mean of their sequence on the disk, or else with what such a series usually takes.
    """
    series: Counter[str] = Counter()
    size: dict[str, int] = defaultdict(int)
    for source in found.sources:
        series[source.sequence] += 1
        size[source.sequence] += sum((release / file).stat().st_size for file in source.files)
    absent = Counter(item.sequence for item in found.absent)
    expected = {}
    for name, count in absent.items():
        usual = EXPECTED_MB.get(name, OTHER_MB) * 1e6
        expected[name] = round(count * (size[name] / series[name] if series[name] else usual))
    return Estimate(
        series=dict(sorted(series.items())),
        bytes=dict(sorted((name, n) for name, n in size.items() if series[name])),
        absent=dict(sorted(absent.items())),
        absent_bytes=dict(sorted(expected.items())),
        left_out=dict(sorted(found.left_out.items())),
        links=sorted({item.link for item in found.absent if item.link}),
    )


def amount(size: float) -> str:
    """Bytes in words.

    >>> amount(4.73e7), amount(2.5e9), amount(1.04e13)
    ('47.3 MB', '2.50 GB', '10.400 TB')
    """
    for unit, bytes_, digits in (("TB", 1e12, 3), ("GB", 1e9, 2)):
        if size >= bytes_:
            return f"{size / bytes_:.{digits}f} {unit}"
    return f"{size / 1e6:.1f} MB"


def describe(told: Estimate) -> list[str]:
    """An estimate in lines for a person to read."""
    whole = sum(told.bytes.values())
    lines = [f"{sum(told.series.values())} series selected, {amount(whole)} on the disk:"]
    for name, n in told.series.items():
        label = name or "series whose headers tell what they are"
        lines.append(
            f"  {n} of {label}, {amount(told.bytes[name])}"
            if name
            else f"  {n} {label}, {amount(told.bytes[name])}"
        )
    if told.absent:
        total = sum(told.absent.values())
        size = sum(told.absent_bytes.values())
        lines.append(f"{total} series are listed and not on the disk, about {amount(size)}:")
        lines += [
            f"  {n} of {name}, about {amount(told.absent_bytes[name])}"
            for name, n in told.absent.items()
        ]
    if told.left_out:
        what = ", ".join(f"{n} {why}" for why, n in told.left_out.items())
        lines.append(f"Not asked for: {what}.")
    return lines
