"""What age, sex and body mass already explain: they stand in the table, and a scan shows them.

An encoder that learnt to read them from a scan has gained R2 on whatever goes with them, and has not
learnt disease. So they are decoded from the embedding itself, and the target is probed from these few
numbers alone. R2 beyond is that of the whole embedding less that of the decoded demographics, with the same
labels: what is left for anything else that the embedding holds.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.evaluation.probing.plan import Plan
from spinmark_biomarkers.evaluation.probing.predict import standardised
from spinmark_biomarkers.evaluation.probing.targets import Target
from spinmark_biomarkers.evaluation.spectral import ridge_predictions, subject_folds

Floats = npt.NDArray[np.float64]


def decoded(x: Floats, plan: Plan, demographics: Sequence[Target]) -> Floats:
    """Read demographics from an embedding, for every scan by a probe that never saw its subject.

    Args:
        x: Standardised features, shape (scan, feature).
        plan: The plan; all training scans are fitted on.
        demographics: Targets such as age, sex and body mass; classes are read by their indicators.

    Returns:
        Shape (scan, column), standardised on the training scans. Training scans are predicted in five
        folds of subjects, others by the fit to all.
    """
    subject = plan.scans["subject_id"].to_numpy().astype(str)
    parts = []
    with threadpool_limits(limits=1):
        for target in demographics:
            rows = plan.train[target.known[plan.train]]
            y = target.columns(rows)[0]
            folds = subject_folds(subject[rows])
            said = ridge_predictions(x[rows], y, subject[rows], x)[0]
            for fold in np.unique(folds):
                held = subject[rows][folds == fold]
                out, kept = np.flatnonzero(np.isin(subject, held)), rows[folds != fold]
                said[out] = ridge_predictions(x[kept], y[folds != fold], subject[kept], x[out])[0]
            parts.append(said)
    return standardised(np.concatenate(parts, axis=1), plan.train)


def usable(plan: Plan, demographics: Sequence[Target]) -> list[Target]:
    """Return the demographics that vary among training scans of at least four subjects."""
    subject = plan.scans["subject_id"].to_numpy().astype(str)
    found = []
    for target in demographics:
        rows = plan.train[target.known[plan.train]]
        if np.unique(subject[rows]).size >= 4 and not target.constant(rows):
            found.append(target)
    return found
