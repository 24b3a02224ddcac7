"""What `spinmark probe` reads: arms, targets and the scans that they share, all checked."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark.errors import InputError
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_biomarkers.evaluation.probing.targets import Kind, Target
from spinmark_data.cohort.reader import Cohort
from spinmark_data.features import PLACES, TABLE_KEYS
from spinmark_data.splits import Split

if TYPE_CHECKING:
    import xarray as xr

KEYS = ["subject_id", "laterality", "visit"]
COLUMNS = ("scan_id", *KEYS, "joint_id", "rank", "days", "site")
OUTCOMES = "outcome"


def folders(given: Path | list[Path], option: str) -> list[Path]:
    """Return the folders of one arm: a run each.

    Raises:
        InputError: None is given, or one twice.
    """
    found = [given] if isinstance(given, Path) else list(given)
    if not found or len(set(found)) < len(found):
        raise InputError(f"--{option}: {list(map(str, found))}; accepted are different folders")
    return found


@dataclass(frozen=True)
class Arm:
    """A representation, with a matrix a run.

    Args:
        name: Its name.
        folders: Where its runs are.
        runs: Embeddings (scan, feature), rows as in the scans of `read_arms`.
        parts: Features of each named part, where all runs have the same.
        uses: What any of the runs learnt from: variables, and endpoints as `outcome:NAME`.
    """

    name: str
    folders: Sequence[Path]
    runs: Sequence[npt.NDArray[Any]]
    parts: Mapping[str, npt.NDArray[np.bool_]]
    uses: frozenset[str]


def read_arms(
    given: Mapping[str, list[Path] | Path], cohort: Cohort, split: Split, on: str
) -> tuple[pd.DataFrame, list[Arm]]:
    """Read the embeddings of all arms and see to it that they can be compared.

    Args:
        given: Folders by name.
        cohort: The cohort.
        split: The split.
        on: The set that is scored.

    Returns:
        The primary scans of the training and the scored set, and the arms.

    Raises:
        InputError: No arm; embeddings of another cohort or split, or fitted on scored subjects; arms
            with other scans than the first.
    """
    if not given:
        raise InputError("--embeddings is empty; name at least one, as --embeddings.ssl DIR")
    scans: pd.DataFrame | None = None
    first, arms = "", []
    for name, where in given.items():
        option = f"embeddings.{name}"
        runs, parts, uses = [], [], set[str]()
        for folder in folders(where, option):
            found = open_embeddings(folder)
            check_origin(found, cohort, split, f"--{option} {folder}", on)
            if scans is None:
                scans, first = _scans(found, split, on), f"--{option}"
            runs.append(_rows(found, scans, f"--{option} {folder}", first))
            parts.append(_parts(found))
            uses.update(json.loads(found.attrs.get("uses", "[]")))
        same = all(part == parts[0] for part in parts)
        named = {
            label: np.array([one == label for one in parts[0]]) for label in dict.fromkeys(parts[0])
        }
        known = named if same else {}
        arms.append(Arm(name, folders(where, option), runs, known, frozenset(uses)))
    assert scans is not None
    return scans, arms


def check_origin(found: "xr.Dataset", cohort: Cohort, split: Split, name: str, on: str) -> None:
    """Refuse embeddings that are of something else, or that have seen scored subjects.

    Raises:
        InputError: They are or have.
    """
    generations = {str(one["hash"]) for one in cohort.manifest.get("generations", [])}
    of = found.attrs.get("cohort_hash")
    if of is not None and of not in {cohort.hash, *generations}:
        raise InputError(f"{name}: is of cohort {str(of)[:12]}, but --cohort is {cohort.hash[:12]}")
    of = found.attrs.get("split_hash")
    if of is not None and of != split.hash and "crossfit" not in found.attrs:
        raise InputError(f"{name}: is of split {str(of)[:12]}, but --split is {split.hash[:12]}")
    if "crossfit" in found.attrs:
        return
    sets = dict(zip(split.frame["subject_id"], split.frame["set"], strict=True))
    pairs = zip(
        found["subject_id"].to_numpy().astype(str), found["set"].to_numpy().astype(str), strict=True
    )
    seen = sorted({s for s, where in pairs if where == "train" and sets.get(s) == on})
    if seen:
        raise InputError(
            f"{name}: was fitted on {len(seen)} subjects of set {on}, such as {seen[0]}; accepted are "
            "embeddings whose encoder never saw them"
        )


def _scans(found: "xr.Dataset", split: Split, on: str) -> pd.DataFrame:
    scans = pd.DataFrame({name: found[name].to_numpy() for name in COLUMNS})
    scans = scans.merge(split.frame[["subject_id", "set"]], on="subject_id", how="left")
    kept = scans[scans["set"].isin(["train", on]) & (scans["rank"] == 0)].reset_index(drop=True)
    for name in ("train", on):
        if not (kept["set"] == name).any():
            raise InputError(f"set {name}: no scan of the embeddings is in it")
    return kept


def _rows(found: "xr.Dataset", scans: pd.DataFrame, name: str, first: str) -> npt.NDArray[Any]:
    index = pd.Index(found["scan_id"].to_numpy().astype(object))
    rows = index.get_indexer(pd.Index(scans["scan_id"]))
    if (rows < 0).any():
        lost = scans["scan_id"][rows < 0]
        raise InputError(
            f"{name}: lacks {len(lost)} scans of {first}, such as {lost.iloc[0]}; accepted are arms "
            "with the same scans"
        )
    subjects = set(scans["subject_id"])
    mine = found["subject_id"].to_numpy()
    primary = (found["rank"].to_numpy() == 0) & np.array([one in subjects for one in mine])
    if more := int(primary.sum()) - len(scans):
        raise InputError(f"{name}: has {more} scans more than {first}; accepted are the same scans")
    return np.asarray(found["embedding"].to_numpy()[rows])


def _parts(found: "xr.Dataset") -> tuple[str, ...]:
    return tuple(found["part"].to_numpy().astype(str)) if "part" in found.coords else ()


def variables(cohort: Cohort, scans: pd.DataFrame) -> list[Target]:
    """Return every variable of the dictionary that a table holds, outcomes among them.

    Args:
        cohort: The cohort.
        scans: The scans.

    Returns:
        Numbers (continuous, ordinal) and classes; what is no number stands for its place among the
        sorted values. Nothing of this is an input of anything.
    """
    dictionary = cohort.dictionary
    found = []
    for table, key in TABLE_KEYS.items():
        rows = dictionary[dictionary["table"] == table]
        frame = cohort.table(table)
        names = [v for v in rows["variable"] if v in frame.columns and v not in PLACES]
        if not names:
            continue
        joined = scans[key].merge(frame[[*key, *names]], on=key, how="left", validate="many_to_one")
        for name, role, kind in zip(rows["variable"], rows["role"], rows["kind"], strict=True):
            if name in names:
                found.append(_variable(joined[name], str(name), str(role), str(kind)))
    return found


def _variable(cells: pd.Series, name: str, role: str, kind: str) -> Target:
    values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    present = cells.notna().to_numpy()
    if (present & ~np.isfinite(values)).any():
        codes = np.unique(cells[present].astype(str).to_numpy(), return_inverse=True)[1]
        values = np.full(len(cells), np.nan)
        values[present] = codes
    classes = np.unique(values[np.isfinite(values)]).size
    of: Kind = "number" if kind in ("continuous", "ordinal") else "nominal"
    if of == "nominal" and classes <= 2:
        of = "binary"
    return Target(name=name, role=role, kind=of, values=values)


def latents(truth: Path, schema: Mapping[str, Any], scans: pd.DataFrame) -> list[Target]:
    """Return the true latents of a phantom.

    Raises:
        InputError: A scan has none.
    """
    names = [str(name) for name in schema["latents"]]
    # Every series of a joint and visit has the same truth; rescans and other sequences repeat it.
    frame = pd.read_parquet(truth / "scans.parquet").drop_duplicates(KEYS)
    joined = scans[KEYS].merge(frame[[*KEYS, *names]], on=KEYS, how="left", validate="many_to_one")
    lost = joined[names[0]].isna()
    if lost.any():
        raise InputError(
            f"--truth: {int(lost.sum())} scans have none, such as {scans['scan_id'][lost].iloc[0]}; "
            "give the truth of the phantom that the cohort came from"
        )
    return [
        Target(name=name, role="latent", kind="number", values=joined[name].to_numpy(np.float64))
        for name in names
    ]


def events(outcomes: pd.DataFrame, scans: pd.DataFrame) -> list[Target]:
    """Return each endpoint as a time from the scan, of joints that have not had it yet.

    An event known to an interval is taken in its middle; a death ends follow-up as censoring does, so
    that what is ranked is the hazard of the event itself.
    """
    found = []
    for name, rows in outcomes.groupby("endpoint", sort=True):
        joined = scans[["joint_id", "days"]].merge(rows, on="joint_id", how="left")
        event = (joined["cause"] == "event").to_numpy()
        end = np.where(event, (joined["lower"] + joined["upper"]) / 2, joined["lower"])
        time = end.astype(np.float64) - joined["days"].to_numpy(np.float64)
        time = np.where(time > 0, time, np.nan)
        found.append(
            Target(
                name=str(name),
                role=OUTCOMES,
                kind="event",
                values=time,
                event=event & np.isfinite(time),
            )
        )
    return found


def chosen(targets: Sequence[Target], names: Sequence[str]) -> list[Target]:
    """Return the targets that are asked for; all that vary where none are.

    Raises:
        InputError: No such target, or one that is asked for by name and is constant.
    """
    by_name = {target.name: target for target in targets}
    if len(by_name) < len(targets):
        twice = next(t.name for t in targets if by_name[t.name] is not t)
        raise InputError(f"targets: two are named '{twice}'; accepted are different names")
    if not names:
        return [target for target in targets if not target.constant(np.arange(target.values.size))]
    if unknown := [name for name in names if name not in by_name]:
        near = difflib.get_close_matches(unknown[0], list(by_name), n=5, cutoff=0.3)
        shown = near or list(by_name)[:5]
        raise InputError(
            f"--targets: no '{unknown[0]}'; accepted are {len(by_name)} names, such as "
            f"{', '.join(shown)}"
        )
    for name in names:
        if by_name[name].constant(np.arange(by_name[name].values.size)):
            raise InputError(f"--targets: '{name}' is constant in these scans; nothing can be read")
    return [by_name[name] for name in dict.fromkeys(names)]
