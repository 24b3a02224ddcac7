"""What `spinmark describe` reads of a cohort and its phenotypes, checked to belong together."""

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark.errors import InputError
from spinmark_biomarkers.embeddings import (
    features_of_part,
    never_seen,
    open_embeddings,
    scan_frame,
)
from spinmark_biomarkers.phenotypes.description.config import DescribeConfig
from spinmark_biomarkers.phenotypes.rows import defining_scans
from spinmark_biomarkers.phenotypes.store import read_phenotypes
from spinmark_data.cohort.reader import Cohort
from spinmark_data.features import clinical_features, morphometric_features
from spinmark_data.quality.outliers import RULES
from spinmark_data.visit_history import CHANGE

if TYPE_CHECKING:
    import xarray as xr

    from spinmark_biomarkers.phenotypes.discover import Phenotypes

Progress = Callable[[int, int], None]
# Confounders that stand with the scans, not in a table.
OF_SCANS = ("site", "scanner")


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What is described, a row a scan that defines a phenotype.

    Args:
        cohort: The cohort.
        embeddings: The embeddings, as they were clustered.
        phenotypes: The phenotypes.
        scans: Coordinates of the scans and `label`, in the order of scan_id.
        shown: Which of them are described.
        values: Their variables, indexed by scan_id.
        dictionary: The variables' rows, with `used`.
        adjust: Confounders.
        measures: Numbers of each scan for the batch panel.
        morphometry: Measures of label maps; None without any.
        notes: What a reader must know of it.
    """

    cohort: Cohort
    embeddings: "xr.Dataset"
    phenotypes: "Phenotypes"
    scans: pd.DataFrame
    shown: npt.NDArray[np.bool_]
    values: pd.DataFrame
    dictionary: pd.DataFrame
    adjust: pd.DataFrame
    measures: pd.DataFrame
    morphometry: pd.DataFrame | None
    notes: tuple[str, ...]


def gather(
    cohort: Path, embeddings: Path, phenotypes: Path, quality: Path | None, config: DescribeConfig
) -> Material:
    """Read what is described and see to it that it belongs together.

    Raises:
        InputError: Artefacts of different origin, a variable that may not describe, or nobody to describe.
    """
    opened, ds, found = (
        Cohort.open(cohort),
        open_embeddings(embeddings),
        read_phenotypes(phenotypes),
    )
    _check_origin(opened, ds, found)
    ds = features_of_part(ds, found.facts.get("config", {}).get("part"))
    scans = scan_frame(ds).assign(label=np.asarray(found.dataset["label"].values))
    scans["unseen"] = never_seen(ds)
    kept = defining_scans(scans, str(found.dataset.attrs.get("visits", "baseline")))
    scans = scans[kept].sort_values("scan_id", kind="stable").reset_index(drop=True)
    people = set(opened.table("subjects")["subject_id"].astype(str))
    if not scans["subject_id"].isin(people).any():
        raise InputError(
            f"--cohort {cohort}: holds none of the {scans['subject_id'].nunique()} subjects of the phenotypes; "
            "accepted is the cohort that was embedded"
        )
    used, notes = _used(ds), []
    values, dictionary = _variables(opened, scans, config, used)
    adjust, absent = _confounders(opened, scans, config.adjust)
    if absent:
        notes.append(f"Not adjusted for {', '.join(absent)}: not in this cohort.")
    measured = not opened.table("morphometry").empty
    return Material(
        cohort=opened,
        embeddings=ds,
        phenotypes=found,
        scans=scans,
        shown=_shown(scans, config.on),
        values=values,
        dictionary=dictionary,
        adjust=adjust,
        measures=_measures(opened, str(ds.attrs.get("sequence", "")), scans, quality),
        morphometry=morphometric_features(opened, scans).values if measured else None,
        notes=tuple(notes),
    )


def _check_origin(cohort: Cohort, ds: "xr.Dataset", found: "Phenotypes") -> None:
    generations = {str(one["hash"]) for one in cohort.manifest.get("generations", [])}
    of = ds.attrs.get("cohort_hash")
    if of is not None and of not in {cohort.hash, *generations}:
        raise InputError(
            f"--embeddings: of cohort {str(of)[:12]}, but --cohort is {cohort.hash[:12]}"
        )
    mine, theirs = (one["scan_id"].values.astype(str) for one in (ds, found.dataset))
    if not np.array_equal(mine, theirs):
        raise InputError(
            f"--phenotypes: {len(set(theirs) - set(mine))} of their {len(theirs)} scans are not in "
            "--embeddings; "
            "accepted are the embeddings that they were found in"
        )


def _used(ds: "xr.Dataset") -> set[str]:
    """Variables that the encoder learnt from; a role stands for all of it."""
    names = {str(name).removesuffix(CHANGE) for name in json.loads(ds.attrs.get("uses", "[]"))}
    # Radiomics of structures is read off the label maps that the measures come from.
    return names | ({"role:morphometric"} if ds.attrs.get("radiomics") == "structures" else set())


def _variables(
    cohort: Cohort, scans: pd.DataFrame, config: DescribeConfig, used: set[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    dictionary = cohort.dictionary
    roles = dict(zip(dictionary["variable"], dictionary["role"], strict=True))
    for name in config.variables:
        if name not in roles:
            near = difflib.get_close_matches(name, list(roles), n=3, cutoff=0.3) or list(roles)[:3]
            raise InputError(
                f"--variables: no '{name}' in the dictionary; accepted are names such as {', '.join(near)}"
            )
        if roles[name] == "outcome":
            raise InputError(
                f"--variables: {name} has the role outcome, which no description may see; accepted are "
                "variables of other roles"
            )
    if config.variables:
        table = clinical_features(cohort, scans, roles=[], add=config.variables)
    else:
        table = clinical_features(cohort, scans, roles=config.roles)
    marks = [
        name in used or f"role:{role}" in used
        for name, role in zip(table.dictionary["variable"], table.dictionary["role"], strict=True)
    ]
    return table.values, table.dictionary.assign(used=marks)


def _confounders(
    cohort: Cohort, scans: pd.DataFrame, names: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    dictionary = cohort.dictionary
    tables = [name for name in names if name not in OF_SCANS]
    roles = dict(zip(dictionary["variable"], dictionary["role"], strict=True))
    kinds = dict(zip(dictionary["variable"], dictionary["kind"], strict=True))
    refused = [name for name in tables if roles.get(name) == "outcome"]
    if refused:
        raise InputError(
            f"--adjust: {refused[0]} has the role outcome; accepted are variables of other roles, "
            "site and scanner"
        )
    there = [name for name in tables if name in roles and roles[name] != "administrative"]
    frame = pd.DataFrame(index=pd.Index(scans["scan_id"].to_numpy(), name="scan_id"))
    if there:
        frame = clinical_features(cohort, scans, roles=[], add=there).values
        for name in there:
            if kinds[name] == "nominal":
                frame[name] = frame[name].map(lambda v: None if np.isnan(v) else f"{v:g}")
    for name in names:
        if name in OF_SCANS:
            frame[name] = scans[name].to_numpy(dtype=object)
    frame = frame[[name for name in names if name in frame.columns]]
    # What nobody has would leave no complete case.
    empty = [str(name) for name in frame.columns if frame[name].isna().all()]
    return frame.drop(columns=empty), [n for n in names if n not in frame.columns or n in empty]


def _shown(scans: pd.DataFrame, on: str) -> npt.NDArray[np.bool_]:
    marks = {
        "test": scans["set"] == "test",
        "unseen": scans["unseen"],
        "all": np.ones(len(scans), dtype=bool),
    }
    shown = np.asarray(marks[on], dtype=bool)
    if scans.loc[shown, "label"].nunique() < 2:
        raise InputError(
            f"--on {on}: {int(shown.sum())} joints of {scans.loc[shown, 'label'].nunique()} "
            "phenotypes; accepted "
            "are joints of at least 2, such as --on all"
        )
    return shown


def _measures(
    cohort: Cohort, sequence: str, scans: pd.DataFrame, quality: Path | None
) -> pd.DataFrame:
    """Spacings as acquired, echo times, and metrics of quality: whatever is known of each scan."""
    index = pd.Index(scans["scan_id"].to_numpy())
    frame = pd.DataFrame(index=index)
    if sequence in cohort.sequences:
        rows, affine, echoes = cohort.coordinates(sequence)
        at = pd.Index(rows["scan_id"]).get_indexer(index)
        spacing = np.where((at >= 0)[:, None], np.linalg.norm(affine[at, :3, :3], axis=1), np.nan)
        for axis, name in enumerate(("z", "y", "x")):
            # A float's last bits are no other protocol.
            frame[f"spacing {name}, mm"] = spacing[:, axis].round(3)
        if echoes is not None:
            frame["first echo time, ms"] = np.where(at >= 0, echoes[at, 0], np.nan).round(3)
    if quality is not None:
        table = pd.read_parquet(quality / "quality.parquet").set_index("scan_id").reindex(index)
        for name, rule in RULES.items():
            if name in table.columns:
                frame[rule.label] = table[name].to_numpy(np.float64)
    return frame
