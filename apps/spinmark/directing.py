"""What `spinmark directions` reads of a cohort and writes beside the axes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spinmark.errors import InputError
from spinmark_biomarkers.phenotypes.description.discovery_rate import with_rates
from spinmark_biomarkers.phenotypes.description.enrichment import describe_axis
from spinmark_biomarkers.phenotypes.directions.find import Directions
from spinmark_biomarkers.phenotypes.directions.members import members_along
from spinmark_data.cohort.reader import Cohort
from spinmark_data.features import clinical_features

if TYPE_CHECKING:
    import xarray as xr

# Confounders that stand with the scans, not in a table.
OF_SCANS = ("site", "scanner")


@dataclass(frozen=True, kw_only=True)
class Variables:
    """Variables of the scans that define joints' scores, a row a scan.

    Args:
        scores: Scans and scores, as `Directions.score_frame` gives them, of those described.
        values: Variables, indexed by scan_id.
        dictionary: Their rows, with `used`.
        adjust: Confounders.
    """

    scores: pd.DataFrame
    values: pd.DataFrame
    dictionary: pd.DataFrame
    adjust: pd.DataFrame


def gather(
    cohort: Cohort,
    embeddings: "xr.Dataset",
    found: Directions,
    *,
    roles: Sequence[str],
    adjust: Sequence[str],
    on: str,
) -> Variables:
    """Read the variables that describe axes.

    Args:
        cohort: The cohort that was embedded.
        embeddings: The embeddings; their `uses` says what the encoder learnt from.
        found: The axes.
        roles: Roles of the variables; `outcome` is refused.
        adjust: Confounders: variables, `site` and `scanner`.
        on: `test` for test subjects, `all` for everyone.

    Raises:
        InputError: An outcome, another cohort, or nobody to describe.
    """
    dictionary = cohort.dictionary
    outcomes = set(dictionary.loc[dictionary["role"] == "outcome", "variable"]) & set(adjust)
    if "outcome" in roles or outcomes:
        what = "--roles: outcome" if "outcome" in roles else f"--adjust: {min(outcomes)}"
        raise InputError(f"{what} tells what becomes of people, which no description may see")
    generations = {str(one["hash"]) for one in cohort.manifest.get("generations", [])}
    of = embeddings.attrs.get("cohort_hash")
    if of is not None and of not in {cohort.hash, *generations}:
        raise InputError(
            f"--embeddings: of cohort {str(of)[:12]}, but --cohort is {cohort.hash[:12]}"
        )
    scores = found.score_frame()
    scores = scores[(scores["set"] == "test") | (on == "all")].reset_index(drop=True)
    people = scores["subject_id"].nunique()
    if people < 3:
        raise InputError(
            f"--on {on}: {people} people to describe axes by; accepted are at least 3, such as --on all"
        )
    table = clinical_features(cohort, scores, roles=list(roles))
    uses = set(json.loads(embeddings.attrs.get("uses", "[]")))
    rows = table.dictionary
    used = [
        name in uses or f"role:{role}" in uses
        for name, role in zip(rows["variable"], rows["role"], strict=True)
    ]
    return Variables(
        scores=scores,
        values=table.values,
        dictionary=rows.assign(used=used),
        adjust=_confounders(cohort, scores, found, adjust),
    )


def _confounders(
    cohort: Cohort, scores: pd.DataFrame, found: Directions, names: Sequence[str]
) -> pd.DataFrame:
    known = set(cohort.dictionary["variable"])
    there = [name for name in names if name in known]
    frame = pd.DataFrame(index=pd.Index(scores["scan_id"].to_numpy(), name="scan_id"))
    if there:
        frame = clinical_features(cohort, scores, roles=[], add=there).values[there]
    ids = pd.Index(found.dataset["scan_id"].values.astype(str))
    rows = ids.get_indexer(pd.Index(scores["scan_id"].astype(str)))
    for name in OF_SCANS:
        if name in names:
            frame[name] = found.dataset[name].values.astype(str).astype(object)[rows]
    return frame.loc[:, frame.notna().any() & (frame.nunique() > 1)]


def describe(variables: Variables, *, draws: int, seed: int) -> pd.DataFrame:
    """Describe every axis by every variable; false discovery rates are over all axes together.

    Args:
        variables: What `gather` read.
        draws: Permutations behind the p value of a sparse table.
        seed: Their seed.
    """
    v = variables
    names = [name for name in v.scores.columns if name.startswith("axis_")]
    parts = [
        describe_axis(
            pd.Series(v.scores[name].to_numpy(), name=name.replace("_", " ")),
            v.values,
            v.dictionary,
            v.scores["subject_id"].to_numpy(),
            adjust=v.adjust if v.adjust.shape[1] else None,
            draws=draws,
            seed=seed,
        )
        for name in names
    ]
    return with_rates(pd.concat(parts, ignore_index=True))


def members(found: Directions, *, per: int) -> pd.DataFrame:
    """Fitted joints along every axis: `axis`, `place`, `order`, `scan_id`; one a subject within an axis."""
    ds = found.dataset.isel(scan=np.flatnonzero(found.dataset["fitted"].values))
    scans = pd.DataFrame({n: ds[n].values.astype(str) for n in ("scan_id", "subject_id")})
    rows = [
        (axis, place, order, scan_id)
        for axis in range(ds.sizes["axis"])
        for place, chosen in members_along(ds["score"].values[:, axis], scans, per=per).items()
        for order, scan_id in enumerate(chosen)
    ]
    return pd.DataFrame(rows, columns=["axis", "place", "order", "scan_id"])


def write_beside(
    folder: Path, found: Directions, described: pd.DataFrame | None, *, per: int
) -> None:
    """Write scores, members, descriptions, figures and the page into the folder of the axes.

    Args:
        folder: Where the axes were written.
        found: The axes.
        described: What `describe` returned; None without a cohort.
        per: Members at each place of an axis.
    """
    from spinmark.report.directions_page import BANNER, NamedPicture, directions_sections
    from spinmark.report.page import render

    found.score_frame().to_csv(folder / "scores.csv", index=False)
    members(found, per=per).to_csv(folder / "members.csv", index=False)
    if described is not None:
        described.to_csv(folder / "described.csv", index=False)
        described.to_parquet(folder / "described.parquet", index=False)
    sections = directions_sections(found, described)
    (folder / "figures").mkdir()
    for section in sections:
        for picture in section.pictures:
            if not isinstance(picture, NamedPicture):
                continue
            path = folder / "figures" / f"{picture.key}.png"
            # Without the writer's version, equal inputs give equal bytes.
            picture.figure.savefig(path, dpi=110, metadata={"Software": None})
    page = render("spinmark directions", BANNER, sections)
    (folder / "directions.html").write_text(page, encoding="utf-8")
