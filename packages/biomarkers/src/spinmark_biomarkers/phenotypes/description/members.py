"""Which joints to look at: the most typical members, random ones, and those at the border.

Prototypes alone flatter a phenotype. Random members show how wide it is, and boundary members,
whose best and second best phenotype are almost as probable, show where it ends.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import check_embeddings, scan_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.rows import defining_scans

if TYPE_CHECKING:
    from spinmark_biomarkers.phenotypes.discover import Phenotypes

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
On = Literal["all", "fitted", "test"]
KINDS = ("prototype", "boundary", "random")


def _same_scans(embeddings: xr.Dataset, phenotypes: "Phenotypes", what: str) -> xr.Dataset:
    ds = check_embeddings(embeddings)
    ids = phenotypes.dataset["scan_id"].values.astype(str)
    if not np.array_equal(ids, ds["scan_id"].values.astype(str)):
        raise InputError(f"{what}: embeddings and phenotypes differ in their scans; accepted equal")
    return ds


def prototypes(
    embeddings: xr.Dataset, phenotypes: "Phenotypes", *, per: int = 3
) -> dict[int, list[str]]:
    """Return the fitted scans nearest to the mean of each phenotype, one a subject.

    Args:
        embeddings: As given to `discover`.
        phenotypes: What it returned.
        per: Scans a phenotype, at most.

    Returns:
        For each phenotype its scan_ids, the nearest first.

    Raises:
        InputError: Where the two do not hold the same scans.
    """
    embeddings = _same_scans(embeddings, phenotypes, "prototypes")
    ds = phenotypes.dataset
    ids = ds["scan_id"].values.astype(str)
    x = np.asarray(embeddings["embedding"].values, dtype=np.float64)
    labels, fitted = ds["label"].values, ds["fitted"].values
    people = ds["subject_id"].values.astype(str)
    chosen: dict[int, list[str]] = {}
    for c in range(ds.sizes["phenotype"]):
        rows = np.flatnonzero((labels == c) & fitted)
        chosen[c] = [str(ids[row]) for row in _first_of_each(_nearest(x, ids, rows), people, per)]
    return chosen


def _nearest(x: Floats, ids: npt.NDArray[np.str_], rows: npt.NDArray[np.intp]) -> Rows:
    """Order rows by their distance from their mean; ties fall to the scan_id."""
    if rows.size == 0:
        return rows.astype(np.int64)
    # In the order of scan_id: the last bit of a mean depends on the order of its terms.
    rows = rows[np.argsort(ids[rows])]
    away = np.linalg.norm(x[rows] - x[rows].mean(axis=0), axis=1)
    return rows[np.lexsort((ids[rows], away))].astype(np.int64)


def _first_of_each(
    rows: Rows, people: npt.NDArray[np.str_], most: int, seen: set[str] | None = None
) -> list[int]:
    """Take rows in their order, of subjects that were not seen, and remember these."""
    seen = set() if seen is None else seen
    taken: list[int] = []
    for row in rows.tolist():
        if len(taken) == most:
            break
        if people[row] not in seen:
            seen.add(str(people[row]))
            taken.append(row)
    return taken


def members(
    embeddings: xr.Dataset,
    phenotypes: "Phenotypes",
    prototypes: int = 6,
    random: int = 6,
    boundary: int = 4,
    seed: int = 0,
    on: On = "all",
) -> pd.DataFrame:
    """Choose joints of each phenotype to look at; nobody is chosen twice, for whichever phenotype.

    Args:
        embeddings: As given to `discover`.
        phenotypes: What it returned.
        prototypes: Members nearest to the mean of the phenotype's eligible scans, at most.
        random: Members drawn at random from the others, at most.
        boundary: Members whose best and second best phenotype are nearest in probability, at most;
            none where there is one phenotype.
        seed: Seed of the random members.
        on: Who is eligible: `fitted`, the scans that the clusterer saw; `test`, the primary scans
            of test subjects; or `all`. Whoever may yet change the phenotypes after looking at them
            should look at fitted scans alone.

    Returns:
        `phenotype`, `kind` (`prototype`, `boundary`, `random`), `order` (from 0 within the kind,
        the most typical prototype and the most uncertain boundary member first) and `scan_id`.
        Where subjects run out, prototypes of all phenotypes come first, then boundary members,
        then random ones.

    Raises:
        InputError: A number below 0, an unknown `on`, no eligible scan, or embeddings and
            phenotypes of different scans.
    """
    asked = {"prototypes": prototypes, "random": random, "boundary": boundary}
    for name, number in asked.items():
        if number < 0:
            raise InputError(f"{name}: {number}; accepted is a whole number of at least 0")
    ds = _same_scans(embeddings, phenotypes, "members")
    found = phenotypes.dataset
    ids = found["scan_id"].values.astype(str)
    people = found["subject_id"].values.astype(str)
    labels = np.asarray(found["label"].values)
    eligible = _eligible(found, ds, on)
    x = np.asarray(ds["embedding"].values, dtype=np.float64)
    probability = np.asarray(found["probability"].values, dtype=np.float64)
    k = probability.shape[1]
    ranked = np.sort(probability, axis=1)
    margin = ranked[:, -1] - ranked[:, -2] if k > 1 else np.ones(len(ids))
    of = [np.flatnonzero((labels == c) & eligible) for c in range(k)]
    seen: set[str] = set()
    parts: list[tuple[int, int, int, str]] = []

    def take(kind: int, c: int, rows: Rows, most: int) -> None:
        for place, row in enumerate(_first_of_each(rows, people, most, seen)):
            parts.append((c, kind, place, str(ids[row])))

    for c, rows in enumerate(of):
        take(0, c, _nearest(x, ids, rows), prototypes)
    for c, rows in enumerate(of if k > 1 else []):
        take(1, c, rows[np.lexsort((ids[rows], margin[rows]))].astype(np.int64), boundary)
    for c, rows in enumerate(of):
        ordered = rows[np.argsort(ids[rows])].astype(np.int64)
        take(2, c, np.random.default_rng([seed, c]).permutation(ordered), random)
    frame = pd.DataFrame(sorted(parts), columns=["phenotype", "kind", "order", "scan_id"])
    frame["kind"] = np.array(KINDS, dtype=object)[frame["kind"].to_numpy(dtype=np.int64)]
    return frame


def _eligible(found: xr.Dataset, ds: xr.Dataset, on: str) -> npt.NDArray[np.bool_]:
    if on not in ("all", "fitted", "test"):
        raise InputError(f"on: '{on}'; accepted are all, fitted and test")
    fitted = np.asarray(found["fitted"].values, dtype=bool)
    scans = scan_frame(ds)
    defining = defining_scans(scans, str(found.attrs.get("visits", "baseline")))
    marks = {"all": defining, "fitted": fitted, "test": defining & (scans["set"] == "test")}
    eligible = np.asarray(marks[on], dtype=bool)
    if not eligible.any():
        raise InputError(
            f"on: '{on}', but no such scan has a phenotype; accepted are all and fitted"
        )
    return eligible
