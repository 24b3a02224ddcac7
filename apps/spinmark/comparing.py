"""The work of `spinmark compare-phenotypes`: labelings of the same scans, refits, other cohorts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spinmark import comparing_page
from spinmark.errors import InputError
from spinmark_biomarkers.embeddings import features_of_part, open_embeddings, scan_frame
from spinmark_biomarkers.evaluation.bootstrap import Interval
from spinmark_biomarkers.phenotypes.freeze import settings_of
from spinmark_biomarkers.phenotypes.rows import defining_scans, refuse_twins
from spinmark_biomarkers.phenotypes.stability.knees import Knees, knee_concordance
from spinmark_biomarkers.phenotypes.stability.labelings import Labelings, compare_labelings
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe
from spinmark_biomarkers.phenotypes.stability.report import (
    NOT_CROSSFITTED,
    StabilityReport,
    stability_report,
)
from spinmark_biomarkers.phenotypes.stability.transport import Transport, transport
from spinmark_biomarkers.phenotypes.store import read_phenotypes

if TYPE_CHECKING:
    import xarray as xr

    from spinmark.commands.compare_phenotypes import ComparePhenotypes

Progress = Callable[[int, int], None]


def compare(args: "ComparePhenotypes", out: Path, progress: Progress) -> None:
    """Write `agreement`, `sites`, `transport` tables, figures, `summary.json` and `comparison.html`.

    Args:
        args: The options.
        out: A folder that is there.
        progress: Called with (done, total).

    Raises:
        InputError: Labelings share no scans that may be compared, or the embeddings are not those that the
            reference was found in.
    """
    reference = read_phenotypes(args.reference).dataset
    others = {name: read_phenotypes(path).dataset for name, path in args.others.items()}
    chosen = _chosen(reference, others, args.scans)
    together = _together(reference, others, chosen, args) if others else None
    knees = _knees(reference, chosen, args)
    report, carried = None, {}
    if args.embeddings is not None:
        vectors = open_embeddings(args.embeddings)
        x, rows, recipe = _refit(vectors, reference, args)
        report = stability_report(
            x,
            rows,
            recipe,
            folds=_folds(vectors, rows["scan_id"]),
            bootstrap=args.bootstrap,
            seeds=args.seeds,
            draws=args.draws,
            permutations=args.permutations,
            progress=progress,
        )
        for name, path in args.transport.items():
            carried[name] = _carry(x, recipe, reference, vectors, path, args.draws)
    _tables(out, together, report, carried)
    facts = _facts(reference, chosen, args.scans, together, knees, report, carried)
    (out / "summary.json").write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n")
    comparing_page.write(out, facts, together, knees, report, carried)


def _frame(ds: "xr.Dataset") -> pd.DataFrame:
    """A row a scan that defines a joint, by scan_id."""
    frame = scan_frame(ds).assign(label=ds["label"].values, fitted=ds["fitted"].values)
    visits = settings_of(ds).get("visits", "baseline")
    return frame[defining_scans(frame, visits)].set_index("scan_id").sort_index()


def _chosen(reference: "xr.Dataset", others: dict[str, "xr.Dataset"], which: str) -> pd.DataFrame:
    frames = [_frame(ds) for ds in (reference, *others.values())]
    shared = frames[0]
    fitted, ever = set(shared.index), set()
    for frame in frames:
        shared = shared[shared.index.isin(frame.index)]
        ever |= set(frame.loc[frame["fitted"], "subject_id"])
        fitted &= set(frame.index[frame["fitted"]])
    if which == "held-out":
        shared = shared[~shared["subject_id"].isin(ever)]
    elif which == "fitted":
        shared = shared[shared.index.isin(fitted)]
    if len(shared) < 2:
        raise InputError(
            f"scans: {which}, but {len(shared)} of the reference's scans are that and in all others; "
            "accepted are "
            "held-out, fitted and all, with two or more scans that define joints in common"
        )
    return shared


def _together(
    reference: "xr.Dataset",
    others: dict[str, "xr.Dataset"],
    chosen: pd.DataFrame,
    args: "ComparePhenotypes",
) -> Labelings:
    labels = {"reference": chosen["label"].to_numpy()}
    for name, ds in others.items():
        labels[name] = _frame(ds)["label"].loc[chosen.index].to_numpy()
    return compare_labelings(
        labels,
        chosen["subject_id"],
        k=int(reference.sizes["phenotype"]),
        draws=args.draws,
        seed=args.seed,
    )


def _knees(
    reference: "xr.Dataset", chosen: pd.DataFrame, args: "ComparePhenotypes"
) -> Knees | None:
    first = chosen.sort_values("days", kind="stable").drop_duplicates("joint_id").sort_index()
    try:
        return knee_concordance(
            first["label"],
            first["subject_id"],
            first["laterality"],
            strata=first["site"] if first["site"].nunique() > 1 else None,
            permutations=args.permutations,
            draws=args.draws,
            seed=args.seed,
        )
    except InputError:
        # Nobody has two joints: hearts, lungs.
        return None


def _refit(
    vectors: "xr.Dataset", reference: "xr.Dataset", args: "ComparePhenotypes"
) -> tuple[np.ndarray, pd.DataFrame, Recipe]:
    """The fitted rows by scan_id, and how they were clustered; checked by clustering them again."""
    given = settings_of(reference)
    frame = _frame(reference)
    rows = frame[frame["fitted"]]
    x = _vectors(vectors, given.get("part"), rows.index)
    names = ("method", "components", "whiten", "restarts", "seed", "options")
    recipe = Recipe(k=given["k"], **{name: given[name] for name in names if name in given})
    found = recipe.fit(x).assign(x)[0]
    differ = int((found != rows["label"].to_numpy()).sum())
    if differ:
        raise InputError(
            f"{args.embeddings}: clustered by the frozen settings, {differ} of {len(rows)} fitted scans "
            "get another "
            f"label than in {args.reference}; accepted are the embeddings that the reference was found in"
        )
    return x, rows.reset_index(), recipe


def _vectors(vectors: "xr.Dataset", part: str | None, scans: pd.Index) -> np.ndarray:
    ids = pd.Index(vectors["scan_id"].values.astype(object))
    at = ids.get_indexer(scans)
    if (at < 0).any():
        raise InputError(
            f"embeddings: have no {scans[at < 0][0]}; accepted are those that the reference was found in"
        )
    kept = features_of_part(vectors, part)["embedding"].values
    return np.asarray(kept[at], dtype=np.float64)


def _folds(vectors: "xr.Dataset", scans: pd.Series) -> np.ndarray | None:
    if "crossfit" not in vectors.attrs:
        return None
    fold = pd.Series(vectors["fold"].values, index=vectors["scan_id"].values.astype(object))
    return fold.loc[scans].to_numpy()


def _carry(
    x: np.ndarray,
    recipe: Recipe,
    reference: "xr.Dataset",
    source: "xr.Dataset",
    path: Path,
    draws: int,
) -> Transport:
    new = open_embeddings(path)
    refuse_twins(new)
    made_by = [ds.attrs.get("encoder_hash") for ds in (source, new)]
    if None not in made_by and made_by[0] != made_by[1]:
        raise InputError(
            f"{path}: embedded by encoder {str(made_by[1])[:12]}, the reference by {str(made_by[0])[:12]}; "
            "accepted "
            "is the same encoder, without which centres have no meaning"
        )
    given = settings_of(reference)
    scans = scan_frame(new)
    scans = scans[defining_scans(scans, given.get("visits", "baseline"))].set_index("scan_id")
    scans = scans.sort_index()
    y = _vectors(new, given.get("part"), scans.index)
    return transport(recipe.fit(x), x, y, scans["subject_id"], recipe, draws=draws)


def _tables(
    out: Path,
    together: Labelings | None,
    report: StabilityReport | None,
    carried: dict[str, Transport],
) -> None:
    parts = []
    if together is not None:
        parts.append(together.to_frame().assign(across="labelings"))
    if report is not None and report.seeds is not None:
        parts.append(report.seeds.to_frame().assign(across="seeds"))
    for name, one in carried.items():
        rows = pd.DataFrame(one.agreement.rows()).astype({"phenotype": "Int64"})
        parts.append(
            rows.assign(across="cohorts", reference=f"frozen, {name}", labels=f"refit, {name}")
        )
    first = ["across", "reference", "labels"]
    frames = {}
    if parts:
        whole = pd.concat(parts, ignore_index=True)
        frames["agreement"] = whole[first + [c for c in whole.columns if c not in first]]
    if report is not None and report.sites is not None:
        frames["sites"] = report.sites
    if report is not None and report.folds is not None:
        frames["folds"] = report.folds.quality
    if carried:
        frames["transport"] = pd.DataFrame(
            {
                "cohort": name,
                "phenotype": c,
                "strength": one.strength[c],
                **{f"share_{key}": shares[c] for key, shares in one.sizes.items()},
            }
            for name, one in carried.items()
            for c in range(len(one.strength))
        )
    for name, frame in frames.items():
        frame.to_parquet(out / f"{name}.parquet", index=False)
        frame.to_csv(out / f"{name}.csv", index=False)


def _facts(
    reference: "xr.Dataset",
    chosen: pd.DataFrame,
    which: str,
    together: Labelings | None,
    knees: Knees | None,
    report: StabilityReport | None,
    carried: dict[str, Transport],
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "frozen_hash": str(reference.attrs["frozen_hash"]),
        "compared": {
            "scans": which,
            "n": len(chosen),
            "n_subjects": int(chosen["subject_id"].nunique()),
        },
    }
    told = []
    if together is not None:
        facts["labelings"] = together.to_dict()
        told += [
            f"{name}: adjusted Rand index {_figure(one.rand)} on {one.rand.n} scans"
            for name, one in together.agreements.items()
        ]
    if knees is not None:
        facts["knees"] = knees.to_dict()
        told.append(f"knees of {knees.people} people: kappa {_figure(knees.kappa)}")
    if report is not None:
        facts["refits"] = report.to_dict()
        told += [
            f"{name} left out: {why}"
            for name, why in report.skipped.items()
            if name in ("sites", "folds") and why != NOT_CROSSFITTED
        ]
    if carried:
        facts["transport"] = {name: one.to_dict() for name, one in carried.items()}
        told += [
            f"{name}: the labeling {one.verdict}; {'; '.join(one.reasons)}"
            for name, one in carried.items()
        ]
    facts["told"] = told or ["phenotypes were fitted again"]
    return facts


def _figure(one: Interval) -> str:
    if not np.isfinite(one.value):
        return "not defined"
    if not np.isfinite(one.low):
        return f"{one.value:.2f}"
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"
