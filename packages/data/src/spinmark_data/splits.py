"""Splits by subject: both knees and all visits of a person stand on one side.

A subject's place depends on the seed, on its identifier and on who else is in the cohort, never on
the order of the rows.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path

import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.splits_config import SETS, SplitConfig

FILE = "split.parquet"
COLUMNS = ("subject_id", "set", "fold")
# A cohort without sites or outcomes is still to be split with the defaults; any other name that is
# absent is a slip of the pen.
_OPTIONAL = ("SITE", "event")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """A split that was read back.

    Args:
        frame: `subject_id`, `set` (`train`, `val`, `test`) and `fold`, by subject_id.
        hash: Names the split: sha256 of the frame as canonical CSV.
    """

    frame: pd.DataFrame
    hash: str

    def subjects(self, *sets: str) -> frozenset[str]:
        """The subjects of these sets.

        Raises:
            InputError: A set of another name than train, val and test.
        """
        if unknown := sorted(set(sets) - set(SETS)):
            raise InputError(f"Unknown set {unknown}; valid sets are {list(SETS)}.")
        return frozenset(self.frame.loc[self.frame["set"].isin(sets), "subject_id"])


def _sort_key(seed: int, subject: str) -> str:
    # A hash rather than a generator: the order of two subjects does not depend on the others.
    return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()


def _apportion(
    size: int, shares: Mapping[str, float], given: dict[str, int], total: int
) -> list[str]:
    """Who gets how many of a stratum, each within one of its exact share.

    Args:
        size: Subjects of the stratum.
        shares: Share by name; they sum to 1.
        given: Subjects that each has got from the strata before; updated.
        total: Subjects of the strata up to and with this one.

    Returns:
        A name a subject, in the order of `shares`.
    """
    exact = {name: size * share for name, share in shares.items()}
    counts = {name: floor(value + 1e-9) for name, value in exact.items()}
    left = size - sum(counts.values())
    # What remains goes to those furthest behind over all strata, so that rounding does not add up.
    open_to = [name for name in shares if exact[name] - counts[name] > 1e-9]
    open_to.sort(key=lambda name: given[name] + counts[name] - shares[name] * total)
    for name in open_to[:left]:
        counts[name] += 1
    for name, count in counts.items():
        given[name] += count
    return [name for name, count in counts.items() for _ in range(count)]


def _allocate(strata: Mapping[str, list[str]], shares: Mapping[str, float]) -> dict[str, str]:
    """A name for each subject, the strata taken in order of their keys."""
    given = dict.fromkeys(shares, 0)
    total = 0
    places: dict[str, str] = {}
    for key in sorted(strata):
        total += len(strata[key])
        names = _apportion(len(strata[key]), shares, given, total)
        places.update(zip(strata[key], names, strict=True))
    return places


def _group(subjects: Iterable[str], keys: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for subject in subjects:
        groups.setdefault(keys[subject], []).append(subject)
    return groups


def _strata(
    subjects: pd.DataFrame, config: SplitConfig, outcomes: pd.DataFrame | None
) -> dict[str, str]:
    """The stratum of each subject, as text."""
    ids = subjects["subject_id"].astype(str)
    parts: list[pd.Series] = []
    for name in config.stratify:
        if name == "event" and outcomes is not None and len(outcomes):
            events = outcomes.loc[outcomes["cause"] == "event", "subject_id"].astype(str)
            parts.append(ids.isin(set(events)).astype(str))
        elif name in subjects.columns:
            parts.append(subjects[name].astype(object).where(subjects[name].notna(), "").map(str))
        elif name in _OPTIONAL:
            _LOG.info("The cohort has no %s; the split is not stratified by it.", name)
        else:
            raise InputError(
                f"stratify: no column '{name}' among the subjects; "
                f"accepted are 'event' and {sorted(map(str, subjects.columns))}."
            )
    keys = ["|".join(values) for values in zip(*parts, strict=True)] if parts else [""] * len(ids)
    return dict(zip(ids, keys, strict=True))


def _left_out(subjects: pd.DataFrame, config: SplitConfig) -> list[str]:
    """The subjects that form the test set by their site or by when they enrolled, if any."""
    ids = subjects["subject_id"].astype(str)
    if config.leave_out_site is not None:
        if "SITE" not in subjects.columns:
            raise InputError("leave_out_site: the subjects have no column SITE.")
        sites = subjects["SITE"].astype(object).where(subjects["SITE"].notna(), "").map(str)
        if config.leave_out_site not in set(sites):
            raise InputError(
                f"leave_out_site='{config.leave_out_site}': no such site; "
                f"the cohort's sites are {sorted(set(sites))}."
            )
        return list(ids[sites == config.leave_out_site])
    if config.forward_column is None or config.forward_after is None:
        return []
    name = config.forward_column
    if name not in subjects.columns:
        raise InputError(
            f"forward_column: no column '{name}' among the subjects; "
            f"accepted are {sorted(map(str, subjects.columns))}."
        )
    values = pd.to_numeric(subjects[name], errors="coerce")
    if values.isna().any():
        raise InputError(
            f"forward_column='{name}': {int(values.isna().sum())} subjects have no number there, "
            "so that it is unknown who enrolled later."
        )
    late = values > config.forward_after
    if not late.any() or late.all():
        raise InputError(
            f"forward_after={config.forward_after:g}: {int(late.sum())} of {len(ids)} subjects have a "
            f"'{name}' above it ({values.min():g} to {values.max():g}); both sides are needed."
        )
    return list(ids[late])


def fold_manifest(frame: pd.DataFrame) -> pd.DataFrame:
    """Who is held out of each fold, for cross-fitting.

    The encoder of a fold is fitted without the subjects that it holds out, and only they are embedded
    by it; over all folds each subject is held out once.

    Args:
        frame: `subject_id`, `set`, `fold`.

    Returns:
        `fold`, `subject_id`, `role` (`fit` or `held_out`), by fold and subject.
    """
    check_disjoint(frame)
    ordered = frame.sort_values("subject_id")
    parts = [
        pd.DataFrame(
            {
                "fold": fold,
                "subject_id": ordered["subject_id"].to_numpy(),
                "role": ["held_out" if own == fold else "fit" for own in ordered["fold"]],
            }
        )
        for fold in sorted(frame["fold"].unique())
    ]
    return pd.concat(parts, ignore_index=True)


def split_subjects(
    subjects: pd.DataFrame, config: SplitConfig, *, outcomes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Divide subjects into train, val and test, and into folds.

    Within every stratum each set holds its share to within one subject.

    Args:
        subjects: One row a subject, with `subject_id` and the columns to stratify by.
        config: Shares, folds, seed and strata.
        outcomes: The cohort's outcomes, for the stratum `event`.

    Returns:
        `subject_id`, `set` and `fold`, sorted by subject_id.

    Raises:
        InputError: No subjects, a subject twice, an unknown stratum, site or column, or a set that
            would stay empty.
    """
    if subjects.empty:
        raise InputError("The cohort has no subjects to split.")
    ids = subjects["subject_id"].astype(str)
    if ids.duplicated().any():
        raise InputError(f"{int(ids.duplicated().sum())} subjects stand twice; one row a subject.")
    strata = _strata(subjects, config, outcomes)
    order = sorted(strata, key=lambda subject: _sort_key(config.seed, subject))
    shares = {name: getattr(config, name) for name in SETS}
    places = dict.fromkeys(_left_out(subjects, config), "test")
    if places:
        rest = config.train + config.val
        shares = {"train": config.train / rest, "val": config.val / rest, "test": 0.0}
    remaining = [subject for subject in order if subject not in places]
    places |= _allocate(_group(remaining, strata), shares)
    empty = [name for name in SETS if getattr(config, name) > 0 and name not in places.values()]
    if empty:
        raise InputError(
            f"{len(order)} subjects leave {empty} empty; use more subjects or larger shares."
        )
    # Folds are balanced within each set and stratum, so that any set can be cross-fitted.
    within = {subject: f"{places[subject]}|{strata[subject]}" for subject in order}
    folds = _allocate(
        _group(order, within), {str(fold): 1 / config.folds for fold in range(config.folds)}
    )
    names = sorted(order)
    frame = pd.DataFrame(
        {
            "subject_id": pd.Series(names, dtype=object),
            "set": pd.Series([places[name] for name in names], dtype=object),
            "fold": pd.Series([int(folds[name]) for name in names], dtype="int64"),
        }
    )
    check_disjoint(frame)
    return frame


def check_disjoint(frame: pd.DataFrame) -> None:
    """Refuse a split that could leak.

    Args:
        frame: `subject_id`, `set`, `fold`.

    Raises:
        InputError: A column is absent, a subject stands twice, or a set has another name.
    """
    if absent := [name for name in COLUMNS if name not in frame.columns]:
        raise InputError(f"The split lacks {absent}; it needs {list(COLUMNS)}.")
    twice = frame["subject_id"].duplicated()
    if twice.any():
        raise InputError(
            f"The split holds {int(twice.sum())} subjects more than once; "
            "a subject belongs to one set and one fold."
        )
    if unknown := sorted(set(frame["set"]) - set(SETS), key=str):
        raise InputError(f"The split holds the sets {unknown}; valid sets are {list(SETS)}.")


def split_hash(frame: pd.DataFrame) -> str:
    """The sha256 that names a split: of its rows by subject_id, written as CSV."""
    canonical = (
        frame.loc[:, list(COLUMNS)]
        .sort_values("subject_id")
        .to_csv(index=False, lineterminator="\n")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_split(folder: Path, frame: pd.DataFrame) -> str:
    """Write `split.parquet` into a folder that exists, and return the split's hash."""
    check_disjoint(frame)
    frame.loc[:, list(COLUMNS)].to_parquet(folder / FILE, index=False)
    return split_hash(frame)


def read_split(folder: Path) -> Split:
    """Read the split of a folder: one that `write_split` wrote, or the copy in a run.

    Raises:
        InputError: There is no split, or it could leak.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {FILE}; make one with `spinmark split`.")
    frame = pd.read_parquet(path)
    check_disjoint(frame)
    frame = frame.loc[:, list(COLUMNS)].sort_values("subject_id").reset_index(drop=True)
    return Split(frame=frame, hash=split_hash(frame))
