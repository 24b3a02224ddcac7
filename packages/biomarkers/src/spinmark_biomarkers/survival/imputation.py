"""Multiple imputation inside a fold: several completed data sets, learnt from training subjects alone.

Filling a gap once with a median claims to know what is not known. Here each gap is drawn several times by
chained equations (van Buuren and Groothuis-Oudshoorn 2011; scikit-learn's IterativeImputer), each time from
an imputer fitted on a bootstrap sample of training subjects, so that the uncertainty of the imputer itself
goes along.

- *Training rows* are imputed with the outcome among the predictors, as an indicator and the Nelson-Aalen
  cumulative hazard of each cause (White and Royston, Statistics in Medicine 2009). Without it a covariate
  with gaps is imputed as if it had no effect, and its effect comes out too small.
- *Test rows* are imputed by an imputer of their own, fitted on training subjects without any outcome. A
  prediction is made when the outcome is not known; an imputed value that had seen it would leak it into the
  score.
- *Variables of the person* are imputed once a person, from the person's variables and the mean of the
  joints'; then variables of the joint, from those and from the person's other joint.

Grades and indicators are imputed as numbers and not rounded, which would bias them (Horton, Lipsitz and
Parzen 2003).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData

Bools = npt.NDArray[np.bool_]


def nelson_aalen(time: Floats, cause: Ints, of: int = 1, start: Floats | None = None) -> Floats:
    """Cumulative hazard of a cause at each row's own time (Nelson 1972; Aalen 1978), shape (n,).

    Args:
        time: Years, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        of: The cause.
        start: At risk only after this time, shape (n,); 0 by default.
    """
    times, code = np.unique(time, return_inverse=True)
    begin = np.full(len(time), -np.inf) if start is None else np.where(start <= 0, -np.inf, start)
    at_risk = np.searchsorted(np.sort(begin), times) - np.searchsorted(np.sort(time), times)
    steps = np.bincount(code, cause == of, len(times)) / at_risk
    return np.asarray(np.cumsum(steps)[code])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chain:
    """One fitted imputer of a table, on the scale of the training rows."""

    imputer: Any
    mean: Floats
    sd: Floats

    @classmethod
    def fit(
        cls, table: Floats, bounds: tuple[Floats, Floats], iterations: int, seed: int
    ) -> "_Chain":
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.impute import IterativeImputer

        mean, sd = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
        sd = np.where(sd > 0, sd, 1.0)
        imputer = IterativeImputer(
            sample_posterior=True,
            max_iter=iterations,
            skip_complete=True,
            min_value=(bounds[0] - mean) / sd,
            max_value=(bounds[1] - mean) / sd,
            random_state=seed,
        )
        imputer.fit((table - mean) / sd)
        return cls(imputer=imputer, mean=mean, sd=sd)

    def __call__(self, table: Floats) -> Floats:
        if not len(table):
            return table
        z = self.imputer.transform((table - self.mean) / self.sd)
        return np.where(np.isnan(table), z * self.sd + self.mean, table)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Levels:
    """Which columns are the person's, and how tables of people and of joints are made."""

    columns: tuple[str, ...]
    subject_level: Bools

    def people(self, x: Floats, code: Ints, outcome: Floats) -> Floats:
        """Variables of the person, means of the joint's, and the outcome's means: (S, ...)."""
        n = int(code.max()) + 1
        known = np.isfinite(x)
        total = np.zeros((n, x.shape[1]))
        count = np.zeros((n, x.shape[1]))
        np.add.at(total, code, np.where(known, x, 0.0))
        np.add.at(count, code, known)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        sums = np.zeros((n, outcome.shape[1]))
        np.add.at(sums, code, outcome)
        ordered = np.column_stack([mean[:, self.subject_level], mean[:, ~self.subject_level]])
        return np.column_stack([ordered, sums / np.bincount(code)[:, None]])

    def joints(self, x: Floats, code: Ints, outcome: Floats) -> Floats:
        """Variables of the joint, of the person, of the person's other joints, and the outcome: (n, ...)."""
        own = x[:, ~self.subject_level]
        known = np.isfinite(own)
        n = int(code.max()) + 1
        total, count = np.zeros((n, own.shape[1])), np.zeros((n, own.shape[1]))
        np.add.at(total, code, np.where(known, own, 0.0))
        np.add.at(count, code, known)
        others = count[code] - known
        rest = total[code] - np.where(known, own, 0.0)
        other = np.where(others > 0, rest / np.maximum(others, 1), np.nan)
        return np.column_stack([own, x[:, self.subject_level], other, outcome])

    def limits(
        self, bounds: Mapping[str, tuple[float, float]], extra: int, *, people: bool
    ) -> tuple[Floats, Floats]:
        """Least and greatest value of each column of those tables."""
        of = np.array([bounds.get(c, (-np.inf, np.inf)) for c in self.columns]).reshape(-1, 2)
        person, joint = of[self.subject_level], of[~self.subject_level]
        parts = [person, joint] if people else [joint, person, joint]
        free = np.tile([-np.inf, np.inf], (extra, 1))
        low, high = np.concatenate([*parts, free]).T
        return low, high


@dataclass(kw_only=True, eq=False)
class FoldImputer:
    """Imputes covariates several times, learning from training subjects alone.

    Args:
        imputations: Completed data sets, m.
        iterations: Rounds of the chained equations.
        subject_level: Columns that are the person's; by default those in which no person's joints differ.
        bounds: Column -> least and greatest value that may be drawn.
        seed: Seed.

    Attributes:
        training_: The m completed training frames.
        columns_: Columns of the frames.
        subject_level_: Columns taken to be the person's.
    """

    imputations: int = 10
    iterations: int = 10
    subject_level: Sequence[str] | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seed: int = 0

    def fit(
        self,
        frame: pd.DataFrame,
        subject_ids: npt.ArrayLike,
        time: npt.ArrayLike,
        cause: npt.ArrayLike,
        *,
        start: npt.ArrayLike | None = None,
    ) -> "FoldImputer":
        """Learn from training rows and impute them.

        Args:
            frame: One row a joint, numbers, NaN where missing, indexed by joint_id.
            subject_ids: Subject of each row, shape (n,).
            time: Years to the first of event, death, censoring, shape (n,).
            cause: 0 censored, 1 event, 2 death, shape (n,).
            start: At risk only after this time, shape (n,); 0 by default.

        Returns:
            Itself.

        Raises:
            InputError: For settings out of range, a column without a value, or one of the person that differs
                between a person's joints.
        """
        if self.imputations < 2 or self.iterations < 1:
            raise InputError(
                f"imputations: {self.imputations}, iterations: {self.iterations}; accepted "
                "are at least 2 and 1"
            )
        x, order, code, subjects = _sorted(frame, subject_ids)
        self.columns_ = tuple(str(c) for c in frame.columns)
        unknown = sorted((set(self.bounds) | set(self.subject_level or ())) - set(self.columns_))
        if unknown:
            raise InputError(
                f"imputation: column {unknown[0]!r}; accepted are {', '.join(self.columns_)}"
            )
        empty = ~np.isfinite(x).any(axis=0)
        if empty.any():
            raise InputError(
                f"imputation: {self.columns_[int(np.argmax(empty))]!r} is missing in every "
                "training row; leave it out"
            )
        self._levels = _Levels(columns=self.columns_, subject_level=self._person(x, code, subjects))
        self.subject_level_ = tuple(
            np.array(self.columns_, dtype=object)[self._levels.subject_level]
        )
        t, c = (np.asarray(v)[order] for v in (time, cause))
        s = None if start is None else np.asarray(start, dtype=np.float64)[order]
        outcome = np.column_stack(
            [v for k in (1, 2) if (c == k).any() for v in (c == k, nelson_aalen(t, c, k, s))]
            or [np.empty((len(t), 0))]
        ).astype(np.float64)
        rows = [np.flatnonzero(code == k) for k in range(len(subjects))]
        back = np.argsort(order)
        self.training_: list[pd.DataFrame] = []
        self._samples: list[tuple[Floats, Ints, list[int]]] = []
        self._blind: list[tuple[_Chain, ...]] = []
        for k in range(self.imputations):
            rng = np.random.default_rng([self.seed, k])
            drawn = rng.integers(0, len(rows), len(rows))
            sample = np.concatenate([rows[d] for d in drawn])
            again = np.repeat(np.arange(len(rows)), [len(rows[d]) for d in drawn])
            seeds = [int(v) for v in rng.integers(0, 2**31 - 1, 4)]
            added = _lacking(sample, x)
            sample = np.append(sample, added)
            again = np.append(again, len(rows) + np.arange(len(added)))
            seeing = self._chains(x[sample], again, outcome[sample], seeds[:2])
            self._samples.append((x[sample], again, seeds[2:]))
            done = self._completed(seeing, x, code, outcome)
            self.training_.append(
                pd.DataFrame(done[back], index=frame.index, columns=frame.columns)
            )
        return self

    def transform(self, frame: pd.DataFrame, subject_ids: npt.ArrayLike) -> list[pd.DataFrame]:
        """Impute rows of people that were not fitted, from their covariates alone.

        A column without gaps in training has no model; a gap in it takes the training mean.

        Args:
            frame: The columns that were fitted, one row a joint.
            subject_ids: Subject of each row, shape (n,).

        Returns:
            The m completed frames; the k-th belongs with the k-th training frame.

        Raises:
            InputError: For other columns.
        """
        if tuple(str(c) for c in frame.columns) != self.columns_:
            raise InputError(
                f"imputation: columns {list(frame.columns)}; accepted are {list(self.columns_)}"
            )
        if not len(frame):
            return [frame.copy() for _ in self._samples]
        x, order, code, _ = _sorted(frame, subject_ids)
        back, none = np.argsort(order), np.empty((len(x), 0))
        found = []
        if not self._blind:
            # Fitted when first needed: imputers that have never seen an outcome.
            self._blind = [
                self._chains(sample, again, np.empty((len(sample), 0)), seeds)
                for sample, again, seeds in self._samples
            ]
        for k, chains in enumerate(self._blind):
            rng = np.random.default_rng([self.seed, k, 1])
            for chain in chains:
                # Its own numbers, so that imputing twice gives the same.
                chain.imputer.random_state_ = np.random.RandomState(int(rng.integers(0, 2**31 - 1)))
            done = self._completed(chains, x, code, none)[back]
            found.append(pd.DataFrame(done, index=frame.index, columns=frame.columns))
        return found

    def _person(self, x: Floats, code: Ints, subjects: npt.NDArray[np.str_]) -> Bools:
        n = len(subjects)
        low, high = np.full((n, x.shape[1]), np.inf), np.full((n, x.shape[1]), -np.inf)
        np.minimum.at(low, code, np.where(np.isfinite(x), x, np.inf))
        np.maximum.at(high, code, np.where(np.isfinite(x), x, -np.inf))
        differs = low < high
        if self.subject_level is None:
            return np.asarray(~differs.any(axis=0))
        chosen = np.isin(
            np.array(self.columns_, dtype=object), np.array(self.subject_level, dtype=object)
        )
        wrong = differs[:, chosen]
        if wrong.any():
            who = subjects[wrong.any(axis=1)]
            column = np.array(self.columns_, dtype=object)[chosen][
                int(np.argmax(wrong.any(axis=0)))
            ]
            more = f" and {len(who) - 3} more" if len(who) > 3 else ""
            raise InputError(
                f"subject_level: {column!r} differs between the joints of "
                f"{', '.join(who[:3])}{more}; accepted is one value a person"
            )
        return chosen

    def _chains(
        self, x: Floats, code: Ints, outcome: Floats, seeds: list[int]
    ) -> tuple[_Chain, ...]:
        levels, extra = self._levels, outcome.shape[1]
        people = levels.people(x, code, outcome)
        first = _Chain.fit(
            people, levels.limits(self.bounds, extra, people=True), self.iterations, seeds[0]
        )
        filled = self._with_people(x, code, first(people))
        joints = levels.joints(filled, code, outcome)
        keep = np.isfinite(joints).any(axis=0)
        if not keep.all():
            # Nobody of the sample has another joint: those columns say nothing.
            joints[:, ~keep] = 0.0
        limits = levels.limits(self.bounds, extra, people=False)
        return first, _Chain.fit(joints, limits, self.iterations, seeds[1])

    def _with_people(self, x: Floats, code: Ints, people: Floats) -> Floats:
        level = self._levels.subject_level
        filled = x.copy()
        filled[:, level] = people[code][:, : int(level.sum())]
        return filled

    def _completed(
        self, chains: tuple[_Chain, ...], x: Floats, code: Ints, outcome: Floats
    ) -> Floats:
        first, second = chains
        done = self._with_people(x, code, first(self._levels.people(x, code, outcome)))
        joints = self._levels.joints(done, code, outcome)
        level = self._levels.subject_level
        done[:, ~level] = second(joints)[:, : int((~level).sum())]
        return done


def _lacking(sample: Ints, x: Floats) -> Ints:
    """Rows to add, so that each column has a value in the sample and, where there are gaps, a gap.

    A column without a value cannot be fitted; one without a gap would be given no model, and its gaps the mean.
    """
    known, all_known = np.isfinite(x[sample]), np.isfinite(x)
    without_value = np.flatnonzero(~known.any(axis=0))
    without_gap = np.flatnonzero(known.all(axis=0) & ~all_known.all(axis=0))
    rows = [int(np.argmax(all_known[:, c])) for c in without_value]
    rows += [int(np.argmin(all_known[:, c])) for c in without_gap]
    return np.array(rows, dtype=np.int64)


def _sorted(
    frame: pd.DataFrame, subject_ids: npt.ArrayLike
) -> tuple[Floats, Ints, Ints, npt.NDArray[np.str_]]:
    """Values in the order of joints, that order, subject codes in it, and the subjects."""
    other = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    if other:
        raise InputError(
            f"imputation: column {other[0]!r} is {frame[other[0]].dtype}; accepted are numbers"
        )
    names = frame.index.astype(str)
    if names.has_duplicates:
        twice = str(names[names.duplicated()][0])
        raise InputError(f"imputation: joint {twice} twice; accepted is one row a joint")
    ids = np.asarray(subject_ids).astype(str)
    if ids.shape != (len(frame),):
        raise InputError(f"subject_ids: shape {ids.shape}; accepted is ({len(frame)},)")
    order = np.lexsort((names.to_numpy().astype(str), ids))
    subjects, code = np.unique(ids[order], return_inverse=True)
    x = frame.to_numpy(dtype=np.float64)[order]
    return np.where(np.isfinite(x), x, np.nan), order, code.astype(np.int64), subjects


def impute_fold(
    frame: pd.DataFrame,
    subject_ids: npt.ArrayLike,
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    fit_rows: npt.ArrayLike,
    imputer: FoldImputer | None = None,
) -> list[pd.DataFrame]:
    """Impute all rows of a fold: training rows with their outcomes, the others without.

    Args:
        frame: One row a joint, NaN where missing, indexed by joint_id.
        subject_ids: Subject of each row, shape (n,).
        time: Years, shape (n,); only those of training rows are read.
        cause: 0 censored, 1 event, 2 death, shape (n,); only those of training rows are read.
        fit_rows: Which rows are of training subjects, shape (n,).
        imputer: Settings; the defaults by default.

    Returns:
        The m completed frames, rows in the order given.

    Raises:
        InputError: As `FoldImputer.fit`, and for a subject on both sides.
    """
    fit = np.asarray(fit_rows, dtype=bool)
    ids = np.asarray(subject_ids).astype(str)
    both = np.intersect1d(ids[fit], ids[~fit])
    if len(both):
        more = f" and {len(both) - 3} more" if len(both) > 3 else ""
        raise InputError(
            f"split: subject {', '.join(both[:3])}{more} in both fit and test; accepted is "
            "each subject on one side"
        )
    imputer = imputer or FoldImputer()
    imputer.fit(frame[fit], ids[fit], np.asarray(time)[fit], np.asarray(cause)[fit])
    rest = imputer.transform(frame[~fit], ids[~fit])
    return [
        pd.concat(parts).loc[frame.index] for parts in zip(imputer.training_, rest, strict=True)
    ]


def completed(data: SurvivalData, frames: Sequence[pd.DataFrame]) -> list[SurvivalData]:
    """The same outcomes with each completed frame as the design; rows are matched by joint."""
    ids = pd.Index(data.ids.astype(str))
    return [
        data.with_covariates(
            f.set_axis(f.index.astype(str)).loc[ids].to_numpy(np.float64),
            tuple(map(str, f.columns)),
        )
        for f in frames
    ]


def imputation_summary(frame: pd.DataFrame, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What was imputed against what was observed.

    Under missingness at random the two may differ; a difference that the other variables do not explain is
    a reason to look.

    Args:
        frame: With gaps.
        frames: Completed.

    Returns:
        One row a column with gaps: `missing`, `share`, `observed_mean`, `observed_sd`, `imputed_mean`,
        `imputed_sd` and `difference`, of the means in standard deviations observed.
    """
    rows = []
    for column in frame.columns:
        gap = ~np.isfinite(frame[column].to_numpy(np.float64))
        if not gap.any():
            continue
        seen = frame[column].to_numpy(np.float64)[~gap]
        drawn = np.concatenate([f[column].to_numpy(np.float64)[gap] for f in frames])
        sd = float(seen.std())
        rows.append(
            {
                "column": str(column), "missing": int(gap.sum()), "share": float(gap.mean()),
                "observed_mean": float(seen.mean()), "observed_sd": sd,
                "imputed_mean": float(drawn.mean()), "imputed_sd": float(drawn.std()),
                "difference": float((drawn.mean() - seen.mean()) / sd) if sd > 0 else float("nan"),
            }
        )  # fmt: skip
    names = [
        "column",
        "missing",
        "share",
        "observed_mean",
        "observed_sd",
        "imputed_mean",
        "imputed_sd",
        "difference",
    ]
    return pd.DataFrame(rows, columns=names).set_index("column")
