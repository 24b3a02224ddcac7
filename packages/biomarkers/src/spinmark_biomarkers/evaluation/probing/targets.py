"""What is probed: a number, a class or an event for every scan."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.subject_scores import BalancedAccuracy, PairOrder, RSquared

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["number", "binary", "nominal", "event"]
METRICS: dict[str, str] = {
    "number": "r2",
    "binary": "auc",
    "nominal": "balanced_accuracy",
    "event": "c_index",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """One thing to be read from an embedding.

    Args:
        name: Its name.
        role: `latent`, or the role that the dictionary gives it.
        kind: `number` (R2), `binary` (AUC), `nominal` (balanced accuracy) or `event` (Harrell's C).
        values: A value a scan, NaN where unknown, shape (scan,); of an event days from the scan to it
            or to the end of follow-up; of classes any codes.
        event: Of an event, whether it was seen, shape (scan,).
    """

    name: str
    role: str
    kind: Kind
    values: Floats
    event: Bools | None = None

    def __post_init__(self) -> None:
        if self.kind not in METRICS:
            raise InputError(f"{self.name}: kind '{self.kind}'; accepted are {', '.join(METRICS)}")
        if (self.kind == "event") != (self.event is not None):
            raise InputError(f"{self.name}: an event needs times and whether it was seen")

    @property
    def known(self) -> Bools:
        """Where it is known, shape (scan,)."""
        return np.isfinite(self.values)

    @property
    def metric(self) -> str:
        """The name of its score."""
        return METRICS[self.kind]

    def seen(self, rows: npt.ArrayLike) -> int:
        """Count the events among some rows; 0 for other kinds."""
        return 0 if self.event is None else int(self.event[np.asarray(rows)].sum())

    def constant(self, rows: npt.ArrayLike) -> bool:
        """Tell whether some rows do not differ in it."""
        if self.event is not None:
            return self.seen(rows) == 0
        values = self.values[np.asarray(rows)]
        values = values[np.isfinite(values)]
        return values.size == 0 or bool(np.ptp(values) == 0)

    def columns(self, rows: Ints) -> tuple[Floats, Floats]:
        """Return what a probe is fitted to at some rows, and the classes of its columns.

        Returns:
            Numbers (n, 1) without classes; of two classes an indicator of the higher one (n, 1); of
            several an indicator each (n, class).
        """
        values = self.values[rows]
        if self.kind == "number":
            return values[:, None], np.empty(0)
        codes = np.unique(self.values[self.known])
        if self.kind == "binary":
            return (values == codes[-1]).astype(np.float64)[:, None], codes[-1:]
        return (values[:, None] == codes).astype(np.float64), codes

    def decide(self, said: Floats, share: Floats, codes: Floats) -> Floats:
        """Turn what a probe says of each column (m, column) into one number a row (m,).

        Of several classes it is the code whose probability most exceeds its share of the labels, which
        is the best decision for balanced accuracy; a class without labels is never said.
        """
        if self.kind != "nominal":
            return said[:, 0]
        over = np.where(share > 0, said / np.where(share > 0, share, 1.0), -np.inf)
        return np.asarray(codes[over.argmax(axis=1)])

    def score(
        self, rows: Ints, said: Floats, subject: Ints, subjects: int
    ) -> "RSquared | BalancedAccuracy | PairOrder":
        """Return the metric of predictions.

        Args:
            rows: Scans that are scored, all known, shape (n,).
            said: Predictions for them, shape (run, draw, n).
            subject: Code of each row's subject, shape (n,).
            subjects: Number of subjects in all.
        """
        truth = self.values[rows]
        if self.event is not None:
            return PairOrder.concordance(truth, self.event[rows], said, subject, subjects)
        if self.kind == "number":
            return RSquared.of(truth, said, subject, subjects)
        codes = np.unique(self.values[self.known])
        if self.kind == "binary":
            return PairOrder.auc(truth == codes[-1], said, subject, subjects)
        present, code = np.unique(truth, return_inverse=True)
        # A class that no test row has is no right answer: -1 stands for all of these.
        at = np.searchsorted(present, said).clip(0, present.size - 1)
        answers = np.where(present[at] == said, at, -1)
        return BalancedAccuracy.of(code.astype(np.int64), answers, subject, subjects)
