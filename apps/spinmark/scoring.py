"""How much of a phantom's truth each representation holds, on subjects that nothing was fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark.designs import check_shapes
from spinmark.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap
from spinmark_biomarkers.evaluation.clusters import (
    adjusted_rand,
    ceiling_labels,
    share_of_ceiling,
)
from spinmark_biomarkers.evaluation.concordance import concordance_interval
from spinmark_biomarkers.evaluation.probes import fit_ridge, site_probe, table_matrix
from spinmark_data.features import clinical_features, morphometric_features

if TYPE_CHECKING:
    import xarray as xr

    from spinmark_data.cohort.reader import Cohort

Floats = npt.NDArray[np.float64]
KEYS = ["subject_id", "laterality", "visit"]
# The arm that is read off label maps, which an embedding has to beat.
STRUCTURAL = "morphometry"
PCA_WIDTHS = (64, 128, 256)
# Mean R2 differences that answer the demo's questions: does pretraining help, does the table, does
# a table of other people's.
COMPARISONS: tuple[tuple[str, str], ...] = (
    ("distilled", "ssl"),
    ("ssl", "untrained"),
    ("ssl", "voxel_pca"),
    ("distilled", "table"),
    ("shuffled", "ssl"),
    ("distilled", "shuffled"),
)


@dataclass(frozen=True)
class Held:
    """Scans with their truth, and which of them are fitted on and scored.

    Args:
        scans: A row a scan: `scan_id`, keys, `set`, `site` and the true latents.
        latents: Names of the latents.
        fit: Rows that probes are fitted on, shape (n,).
        test: Rows that are scored, shape (n,).
    """

    scans: pd.DataFrame
    latents: Sequence[str]
    fit: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]

    @property
    def subjects(self) -> npt.NDArray[Any]:
        """The subject of each row."""
        return self.scans["subject_id"].to_numpy(dtype=object)


def held_out(
    embeddings: "xr.Dataset", truth: pd.DataFrame, latents: Sequence[str], on: str
) -> Held:
    """Join scans with their truth.

    Args:
        embeddings: Any of the embeddings; it names the scans and their sets.
        truth: `truth/scans.parquet`.
        latents: Names of the latents.
        on: The set that is scored: `test`, or `val` while settings are chosen.

    Raises:
        InputError: Scans without truth, or a set without scans.
    """
    names = ["scan_id", *KEYS, "joint_id", "rank", "days", "set", "site"]
    scans = pd.DataFrame({name: embeddings[name].to_numpy() for name in names})
    # Every series of a joint and visit has the same truth; rescans and other sequences repeat it.
    truth = truth.drop_duplicates(list(KEYS))
    joined = scans.merge(truth[[*KEYS, *latents]], on=KEYS, how="left", validate="many_to_one")
    lost = joined[latents[0]].isna()
    if lost.any():
        raise InputError(
            f"truth: {int(lost.sum())} scans have none, such as {joined['scan_id'][lost].iloc[0]}; "
            "give the truth of the phantom that the cohort came from"
        )
    fit, test = (joined["set"] == name for name in ("train", on))
    for name, rows in (("train", fit), (on, test)):
        if not rows.any():
            raise InputError(f"set {name}: no scan is in it; the sets are train, val and test")
    return Held(joined, list(latents), fit.to_numpy(), test.to_numpy())


def representations(
    cohort: "Cohort", embeddings: "Mapping[str, xr.Dataset]", held: Held
) -> dict[str, Floats]:
    """Return each representation as a matrix (scan x feature), the clinical table among them."""
    order = held.scans["scan_id"].to_numpy(dtype=object)
    matrices: dict[str, Floats] = {}
    width = PCA_WIDTHS[0]
    for name, dataset in embeddings.items():
        if name in ("table", STRUCTURAL):
            raise InputError(f"--embeddings.{name}: is the name of another arm; choose another")
        index = pd.Index(dataset["scan_id"].to_numpy().astype(object))
        rows = index.get_indexer(pd.Index(order))
        if (rows < 0).any():
            raise InputError(f"--embeddings.{name}: holds other scans than the first embeddings")
        matrix = dataset["embedding"].to_numpy()[rows].astype(np.float64)
        if dataset.attrs.get("objective") == "voxel_pca":
            matrices |= _nested(name, matrix, width)
        else:
            matrices[name], width = matrix, matrix.shape[1]
    table = clinical_features(cohort, held.scans)
    kinds = dict(zip(table.dictionary["variable"], table.dictionary["kind"], strict=True))
    matrices["table"] = table_matrix(table.values, kinds, fit=held.fit)[0]
    return matrices


@dataclass(frozen=True)
class Structural:
    """What label maps say of the scans.

    Args:
        matrix: Measures and where they are missing, filled from fitted scans, shape (scan, feature).
        counts: `variables`, `scans` that are scored, and how many of these were `measured`.
    """

    matrix: Floats
    counts: dict[str, int]


def structural_baseline(cohort: "Cohort", held: Held) -> Structural | None:
    """Return the measures of label maps as a representation, if fitted and scored scans have some.

    Raises:
        InputError: Scored subjects had a part in the modes that shape scores come from.
    """
    if cohort.table(STRUCTURAL).empty:
        return None
    table = morphometric_features(cohort, held.scans)
    measured = table.values.notna().any(axis=1).to_numpy()
    if not (measured & held.fit).any() or not (measured & held.test).any():
        return None
    check_shapes(cohort, table.values.columns, held.subjects[held.test])
    kinds = dict(zip(table.dictionary["variable"], table.dictionary["kind"], strict=True))
    counts = {
        "variables": table.values.shape[1],
        "scans": int(held.test.sum()),
        "measured": int((measured & held.test).sum()),
    }
    return Structural(table_matrix(table.values, kinds, fit=held.fit)[0], counts)


def _nested(name: str, components: Floats, width: int) -> dict[str, Floats]:
    """Return the leading components: as many as an encoder's features, and at fixed widths."""
    parts = {name: components[:, :width]}
    return parts | {f"{name}_{k}": components[:, :k] for k in PCA_WIDTHS if k != width}


def residuals(matrices: Mapping[str, Floats], held: Held) -> dict[str, Floats]:
    """Return test truth minus ridge prediction of each representation: (test scan x latent)."""
    truth = held.scans[list(held.latents)].to_numpy(dtype=np.float64)
    found: dict[str, Floats] = {}
    for name, matrix in matrices.items():
        columns = [
            truth[held.test, k]
            - fit_ridge(matrix[held.fit], truth[held.fit, k], held.subjects[held.fit]).predict(
                matrix[held.test]
            )
            for k in range(truth.shape[1])
        ]
        found[name] = np.column_stack(columns)
    return found


def probe_scores(
    errors: Mapping[str, Floats],
    held: Held,
    *,
    comparisons: Sequence[tuple[str, str]] = COMPARISONS,
    draws: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Turn residuals into R2 by latent, its mean over latents, and paired differences of means."""
    truth = held.scans[list(held.latents)].to_numpy(dtype=np.float64)[held.test]
    subjects = held.subjects[held.test]

    def r2(error: Floats, rows: Rows) -> Floats:
        drawn = truth[rows]
        # A latent that nobody differs in, as without any disease, has no R2 and no part in a mean.
        varied = np.ptp(drawn, axis=0) > 0
        total = np.where(varied, ((drawn - drawn.mean(axis=0)) ** 2).sum(axis=0), 1.0)
        return np.where(varied, 1 - (error[rows] ** 2).sum(axis=0) / total, np.nan)

    def mean(values: Floats) -> float:
        known = values[np.isfinite(values)]
        return float(known.mean()) if known.size else float("nan")

    def interval(statistic: Any) -> dict[str, Any]:
        return subject_bootstrap(statistic, subjects, draws=draws, seed=seed).to_dict()

    by_latent = {
        name: {
            latent: interval(lambda rows, e=error, k=k: float(r2(e, rows)[k]))
            for k, latent in enumerate(held.latents)
        }
        for name, error in errors.items()
    }
    means = {
        name: interval(lambda rows, e=error: mean(r2(e, rows))) for name, error in errors.items()
    }
    differences = {
        f"{a} - {b}": interval(
            lambda rows, a=errors[a], b=errors[b]: mean(r2(a, rows) - r2(b, rows))
        )
        for a, b in comparisons
        if a in errors and b in errors
    }
    return {
        "probe_r2": by_latent,
        "probe_r2_mean": means,
        "probe_r2_mean_difference": differences,
    }


def site_scores(matrices: Mapping[str, Floats], held: Held, *, draws: int, seed: int) -> Any:
    """Return how well the site is read from each representation (balanced accuracy)."""
    sites = held.scans["site"].to_numpy().astype(str)
    if np.unique(sites[held.fit]).size < 2:
        return {}
    return {
        name: site_probe(
            *(matrix[held.fit], sites[held.fit], held.subjects[held.fit]),
            *(matrix[held.test], sites[held.test], held.subjects[held.test]),
            draws=draws,
            seed=seed,
        ).to_dict()
        for name, matrix in matrices.items()
    }


def phenotype_scores(
    phenotypes: "xr.Dataset", truth: pd.DataFrame, held: Held, *, draws: int, seed: int
) -> dict[str, Any]:
    """Compare phenotypes at baseline with the true ones, and with what true latents would give.

    Args:
        phenotypes: `label(scan)` with the scan coordinates.
        truth: `truth/joints.parquet`.
        held: The scans.
        draws: Bootstrap samples.
        seed: Seed of clusterer and draws.

    Returns:
        The indices, and how many phenotypes were found (`k`) and are true; of a truth without
        phenotypes the numbers alone, since there is nothing to agree with.
    """
    labels = pd.Series(
        phenotypes["label"].to_numpy(), index=phenotypes["scan_id"].to_numpy().astype(object)
    )
    frame = held.scans.assign(label=labels.reindex(held.scans["scan_id"]).to_numpy())
    frame["fitted"] = held.scans["set"].isin(["train", "val"]) & ~held.test
    frame["scored"] = held.test
    first = frame[frame["rank"] == 0].sort_values("days").drop_duplicates(KEYS[:2])
    first = first.merge(truth[[*KEYS[:2], "phenotype"]], on=KEYS[:2], validate="one_to_one")
    fitted, test = first[first["fitted"]], first[first["scored"]]
    numbers = {"k": int(labels.nunique()), "true_k": int(truth["phenotype"].nunique())}
    if numbers["true_k"] < 2:
        return numbers
    latents = list(held.latents)
    best = ceiling_labels(
        fitted[latents].to_numpy(), test[latents].to_numpy(), k=numbers["true_k"], seed=seed
    )
    kind, people = test["phenotype"], test["subject_id"]
    settings: dict[str, Any] = {"draws": draws, "seed": seed}
    found = {
        "ari": adjusted_rand(kind, test["label"], people, **settings),
        "ari_ceiling": adjusted_rand(kind, best, people, **settings),
        "share_of_ceiling": share_of_ceiling(kind, test["label"], best, people, **settings),
    }
    return {name: figure.to_dict() for name, figure in found.items()} | numbers


def prognosis_scores(
    metrics: pd.DataFrame,
    outcomes: pd.DataFrame,
    truth: pd.DataFrame,
    scored: pd.DataFrame,
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Collect C-indices of the fitted models and add that of the true hazard, the ceiling.

    Args:
        metrics: The prognosis artefact's tidy metrics.
        outcomes: Outcomes of the endpoint.
        truth: `truth/joints.parquet`.
        scored: The test joints of the prognosis, with `subject_id` and `laterality`.
        draws: Bootstrap samples.
        seed: Seed of the draws.
    """
    rows = metrics[metrics["metric"] == "c_index"]
    scores = {
        str(row["model"]): Interval(
            value=row["value"], low=row["low"], high=row["high"], n=int(row["n"])
        ).to_dict()
        for _, row in rows.iterrows()
    }
    keys = KEYS[:2]
    joined = scored[keys].drop_duplicates().merge(outcomes, on=keys).merge(truth, on=keys)
    event = (joined["cause"] == "event").to_numpy()
    # An event known to an interval is taken in its middle, as the models' scores do.
    middle = (joined["lower"] + joined["upper"]) / 2
    days = np.where(event, middle, joined["lower"]) - joined["entry"]
    time = days.to_numpy(dtype=np.float64)
    ceiling = concordance_interval(
        time,
        event,
        joined["log_hazard_ratio"].to_numpy(dtype=np.float64),
        joined["subject_id"].to_numpy(dtype=object),
        draws=draws,
        seed=seed,
    )
    return {"n_events": int(event.sum()), "c_index": {**scores, "truth": ceiling.to_dict()}}
