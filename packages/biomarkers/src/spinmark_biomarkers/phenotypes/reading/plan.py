"""The whole study before any image is read: which joint stands on which sheet, under which code."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import scan_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.members import members
from spinmark_biomarkers.phenotypes.discover import Phenotypes
from spinmark_biomarkers.phenotypes.reading.codes import place_letters, random_codes
from spinmark_biomarkers.phenotypes.reading.config import ReadingConfig
from spinmark_biomarkers.phenotypes.reading.oddone import Pool, distances, make_items
from spinmark_biomarkers.phenotypes.rows import defining_scans

KINDS = ("prototype", "random", "boundary")
SHEET_COLUMNS = ("code", "phenotype", "place", "kind", "scan_id")
ITEM_COLUMNS = ("code", "type", "phenotype", "odd_phenotype", "answer", "distance", "repeats")
LEAST = {
    "prototypes": 1, "random": 0, "boundary": 0, "per_item": 3, "odd_items": 0, "controls": 0, "repeats": 0,
    "readers": 1,
}  # fmt: skip
MOST_PER_ITEM = 8


@dataclass(frozen=True, kw_only=True)
class ReadingPlan:
    """Who stands where. Only the organiser sees it.

    Args:
        sheets: `code`, `phenotype`, `place` (from 1), `kind`, `scan_id`: a row a joint of a sheet, the
            sheets in the order in which they are shown.
        items: `code`, `type` (`phenotype`, `control`, `repeat`), `phenotype`, `odd_phenotype`, `answer`,
            `distance` between the two phenotypes, `repeats` (code of the item that it repeats), and a
            scan_id under each letter: a row an item of the odd-one-out task, in order.
        signs: Known signs that readers choose from.
        frozen_hash: Of the phenotypes.
        k: Phenotypes that there are.
        notes: What could not be made as asked, in words.
    """

    sheets: pd.DataFrame
    items: pd.DataFrame
    signs: tuple[str, ...]
    frozen_hash: str
    k: int
    notes: list[str] = field(default_factory=list)

    @property
    def letters(self) -> list[str]:
        """The letters of the joints of an item."""
        return [name for name in self.items.columns if len(name) == 1]

    @property
    def set_id(self) -> str:
        """16 hexadecimal digits that change with any joint, code or answer."""
        digest = hashlib.sha256()
        for frame in (self.sheets, self.items):
            digest.update(frame.to_csv(index=False, lineterminator="\n").encode())
        digest.update("\n".join([*self.signs, self.frozen_hash, str(self.k)]).encode())
        return digest.hexdigest()[:16]

    def scan_ids(self) -> list[str]:
        """All scans that are shown, sorted."""
        shown = [self.sheets["scan_id"], *(self.items[letter] for letter in self.letters)]
        return sorted({str(one) for column in shown for one in column})


def plan_readings(
    embeddings: xr.Dataset,
    phenotypes: Phenotypes,
    config: ReadingConfig,
    *,
    available: npt.ArrayLike | None = None,
) -> ReadingPlan:
    """Choose the joints of all sheets and items.

    Nobody is on two sheets. Items take people who are on no sheet, as long as there are such. No
    outcome is seen.

    Args:
        embeddings: As given to `discover`.
        phenotypes: What it returned.
        config: Numbers and seed.
        available: scan_ids that have a volume; others are left out. By default all have.

    Raises:
        InputError: A number is out of range, the two differ in their scans, or no scan has a volume.
    """
    _check(config)
    embeddings, phenotypes, notes = _with_volumes(embeddings, phenotypes, available)
    ds = phenotypes.dataset
    k, frozen = int(ds.sizes["phenotype"]), str(ds.attrs["frozen_hash"])
    # With the seed alone, phenotype 0 would stand under the same code in every study.
    rng = np.random.default_rng([config.seed, int(frozen[:16], 16)])
    chosen = members(
        embeddings,
        phenotypes,
        prototypes=config.prototypes,
        random=config.random,
        boundary=config.boundary,
        seed=config.seed,
        on=config.people,
    )
    shown = sorted(set(chosen["phenotype"]))
    people = pd.Series(ds["subject_id"].values.astype(str), index=ds["scan_id"].values.astype(str))
    pool, apart = _pool(embeddings, phenotypes, config, rng)
    pool.used.update({str(people[one]): 1 for one in chosen["scan_id"]})
    rows, short = make_items(pool, apart, config)
    codes = random_codes(len(shown) + len(rows), rng)
    return ReadingPlan(
        sheets=_sheets(chosen, dict(zip(shown, codes, strict=False)), rng),
        items=_items(rows, codes[len(shown) :], config.per_item),
        signs=tuple(config.signs),
        frozen_hash=frozen,
        k=k,
        notes=[*notes, *_short_sheets(chosen, k, config), *short],
    )


def _check(config: ReadingConfig) -> None:
    for name, least in LEAST.items():
        if getattr(config, name) < least:
            raise InputError(f"{name}: {getattr(config, name)}; accepted is at least {least}")
    if config.per_item > MOST_PER_ITEM:
        raise InputError(f"per_item: {config.per_item}; accepted is at most {MOST_PER_ITEM}")
    if len({one.strip().casefold() for one in config.signs}) < max(2, len(config.signs)):
        raise InputError(f"signs: {config.signs}; accepted are two or more, each of another name")
    odd = [one for one in config.signs if not one.strip() or set(one) & set('|"\n')]
    if odd:
        raise InputError(f"signs: {odd[0]!r}; accepted are words without | and quotes")


def _with_volumes(
    embeddings: xr.Dataset, phenotypes: Phenotypes, available: npt.ArrayLike | None
) -> tuple[xr.Dataset, Phenotypes, list[str]]:
    if available is None:
        return embeddings, phenotypes, []
    ids = phenotypes.dataset["scan_id"].values.astype(str)
    if not np.array_equal(ids, embeddings["scan_id"].values.astype(str)):
        raise InputError(
            "reading sheets: embeddings and phenotypes differ in their scans; accepted are the "
            "embeddings that the phenotypes were found in"
        )
    here = np.isin(ids, np.asarray(available, dtype=object).astype(str))
    if not here.any():
        raise InputError(
            f"reading sheets: none of {ids.size} scans with a phenotype (such as {ids[0]}) has a volume; "
            "accepted is the cohort that was embedded"
        )
    if here.all():
        return embeddings, phenotypes, []
    kept = replace(phenotypes, dataset=phenotypes.dataset.isel(scan=np.flatnonzero(here)))
    notes = [f"{int((~here).sum())} of {ids.size} scans with a phenotype have no volume"]
    return embeddings.isel(scan=np.flatnonzero(here)), kept, notes


def _pool(
    embeddings: xr.Dataset, phenotypes: Phenotypes, config: ReadingConfig, rng: np.random.Generator
) -> tuple[Pool, npt.NDArray[np.float64]]:
    """The joints that items are drawn from, and the distances of the phenotypes."""
    ds = phenotypes.dataset
    scans = scan_frame(embeddings).assign(label=ds["label"].values.astype(np.int64))
    defining = defining_scans(scans, str(ds.attrs.get("visits", "baseline")))
    marks = {
        "all": defining,
        "fitted": np.asarray(ds["fitted"].values, dtype=bool),
        "test": defining & (scans["set"] == "test").to_numpy(),
    }
    rows = np.flatnonzero(marks[config.people])
    rows = rows[np.argsort(scans["scan_id"].to_numpy().astype(str)[rows])]
    x = np.asarray(embeddings["embedding"].values, dtype=np.float64)[rows]
    frame = scans.iloc[rows][["scan_id", "subject_id", "label"]].reset_index(drop=True)
    apart = distances(x, frame["label"].to_numpy(np.int64), int(ds.sizes["phenotype"]))
    return Pool(scans=frame, used={}, rng=rng), apart


def _sheets(chosen: pd.DataFrame, codes: dict[int, str], rng: np.random.Generator) -> pd.DataFrame:
    """Number the joints of each sheet, in random order within their kind."""
    parts = []
    for number in rng.permutation(sorted(codes)):
        own = chosen[chosen["phenotype"] == number]
        kinds = [own[own["kind"] == kind] for kind in KINDS]
        mixed = pd.concat([part.iloc[rng.permutation(len(part))] for part in kinds])
        parts.append(mixed.assign(code=codes[int(number)], place=np.arange(1, len(mixed) + 1)))
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=[*SHEET_COLUMNS])
    return frame[list(SHEET_COLUMNS)].reset_index(drop=True)


def _items(rows: list[dict[str, object]], codes: list[str], per_item: int) -> pd.DataFrame:
    letters = [*place_letters(per_item)]
    # What a repeat repeats is known by its place, which the shuffle of the second half left alone.
    full = [
        {
            **row,
            "code": code,
            "repeats": codes[int(str(row["first"]))] if row["first"] != -1 else "",
        }
        for row, code in zip(rows, codes, strict=True)
    ]
    return pd.DataFrame(full, columns=[*ITEM_COLUMNS, *letters])


def _short_sheets(chosen: pd.DataFrame, k: int, config: ReadingConfig) -> list[str]:
    asked = config.prototypes + config.random + config.boundary
    notes = []
    for number in range(k):
        found = int((chosen["phenotype"] == number).sum())
        if found == 0:
            notes.append(f"phenotype {number}: no sheet, since no subject of it is left")
        elif found < asked:
            notes.append(
                f"phenotype {number}: {found} joints for a sheet of {asked}, of as many subjects"
            )
    return notes
