"""Retrieval between scans and table rows as figures of an arm, one row a joint at its first scan."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.probing.plan import Plan
from spinmark_biomarkers.evaluation.probing.table import HELD_OUT, ArmScores, Key, score
from spinmark_biomarkers.evaluation.retrieval import chance, partner_ranks, retrieval_metrics

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
IN_STRATA = "within strata"


def baseline_rows(plan: Plan) -> Ints:
    """Return the first primary scan of each scored joint."""
    scans = plan.scans.iloc[plan.test].assign(row=plan.test)
    scans = scans[scans["rank"] == 0].sort_values(["days", "scan_id"])
    return np.sort(scans.drop_duplicates("joint_id")["row"].to_numpy(dtype=np.int64))


def retrieval_scores(
    plan: Plan,
    pairs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    rows: Ints,
    *,
    space: str,
    resamples: Floats,
    strata: npt.ArrayLike | None = None,
) -> ArmScores:
    """Score retrieval in both directions.

    Args:
        plan: The plan.
        pairs: For each run the images and the table rows of some scans in one space, (n, D) each.
        rows: Those scans.
        space: How the space was made, such as `alignment`; it stands in the column `probe`.
        resamples: How often each test subject is drawn, shape (b, subject).
        strata: A stratum a scan, such as sex and age; retrieval within them is scored too.
    """
    codes, subjects = plan.test_subjects
    scores: ArmScores = {}
    schemes = {HELD_OUT: None} if strata is None else {HELD_OUT: None, IN_STRATA: strata}
    for direction, swap in (("image_to_table", False), ("table_to_image", True)):
        for scheme, groups in schemes.items():
            found = [
                partner_ranks(table, image, groups) if swap else partner_ranks(image, table, groups)
                for image, table in pairs
            ]
            ranks, size = np.stack([one[0] for one in found]), found[0][1]
            counts = {
                "n": rows.size,
                "n_subjects": np.unique(codes[rows]).size,
                "n_events": 0,
                "labelled": float(plan.train.size),
                "labelled_events": 0.0,
            }
            for name, metric in retrieval_metrics(ranks, codes[rows], subjects).items():
                key = Key(
                    "retrieval",
                    "alignment",
                    "retrieval",
                    space,
                    "all",
                    scheme,
                    "",
                    f"{direction}_{name}",
                )
                scores[key] = score(metric, resamples, {**counts, "chance": chance(size, name)})
    return scores
