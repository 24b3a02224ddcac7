"""Pain that radiographic grade does not explain, and what does.

Knees with a high grade and little pain, and the reverse, are why imaging beyond the radiograph is looked at
(Hannan, Felson and Pincus, Journal of Rheumatology 2000; Bedson and Croft, BMC Musculoskeletal Disorders
2008). `residual_pain` is what is left of pain after its regression on grade, learnt on other people than
those it is computed for, or on the training people of a split. `residual_hazard` asks whether it foretells
the event; what explains it is in `discordance_explained`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import fit_cox_regression
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData

Method = Literal["means", "monotone", "spline"]
METHODS: tuple[Method, ...] = ("means", "monotone", "spline")
GROUPS = ("KL low, pain low", "KL high, pain low", "KL low, pain high", "KL high, pain high")
Bools = npt.NDArray[np.bool_]


def subject_folds(subject_ids: npt.ArrayLike, folds: int, seed: int) -> Ints:
    """Fold of each row, subjects whole; it depends on which subjects there are and not on the order of rows.

    Args:
        subject_ids: Subject of each row, shape (n,).
        folds: Number of folds.
        seed: Seed.

    Raises:
        InputError: For fewer subjects than folds, or fewer than 2 folds.
    """
    subjects, code = np.unique(np.asarray(subject_ids).astype(str), return_inverse=True)
    if not 2 <= folds <= len(subjects):
        raise InputError(
            f"folds: {folds} for {len(subjects)} subjects; accepted are 2 to as many as subjects"
        )
    of = np.random.default_rng(seed).permutation(np.arange(len(subjects)) % folds)
    return np.asarray(of[code], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Regression:
    """Pain on grade and other covariates."""

    method: Method
    grades: Floats
    spline: Any
    centre: Floats
    coefficients: Floats

    def basis(self, kl: Floats, others: Floats) -> Floats:
        if self.method == "spline":
            parts = self.spline.transform(kl[:, None])
        elif self.method == "means":
            # A grade that was not fitted takes the mean of the nearest one that was.
            nearest = np.argmin(np.abs(kl[:, None] - self.grades), axis=1)
            parts = np.eye(len(self.grades))[nearest]
        else:
            parts = np.column_stack([np.ones(len(kl)), kl[:, None] >= self.grades[1:]])
        return np.column_stack([parts, others - self.centre])

    def __call__(self, kl: Floats, others: Floats) -> Floats:
        return np.asarray(self.basis(kl, others) @ self.coefficients)


def _regress(pain: Floats, kl: Floats, others: Floats, method: Method) -> _Regression:
    grades = np.unique(kl)
    spline: Any = None
    if method == "spline":
        from sklearn.preprocessing import SplineTransformer

        # Five knots at quantiles; linear past the ends, where there is little to go by.
        knots = np.unique(np.quantile(kl, np.linspace(0, 1, 5)))
        if len(knots) < 2:
            knots = np.array([grades[0] - 0.5, grades[0] + 0.5])
        spline = SplineTransformer(degree=3, knots=knots[:, None], extrapolation="linear").fit(
            kl[:, None]
        )
    made = _Regression(
        method=method,
        grades=grades,
        spline=spline,
        centre=others.mean(axis=0),
        coefficients=np.empty(0),
    )
    x = made.basis(kl, others)
    if method == "monotone":
        # Steps from grade to grade that are not negative: isotonic regression with covariates.
        low = np.full(x.shape[1], -np.inf)
        low[1 : len(grades)] = 0.0
        beta = optimize.lsq_linear(x, pain, bounds=(low, np.inf), tol=1e-12).x
    else:
        beta = np.linalg.lstsq(x, pain, rcond=1e-10)[0]
    return _Regression(
        method=method, grades=grades, spline=spline, centre=made.centre, coefficients=beta
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Discordance:
    """Pain beyond what the grade explains.

    Args:
        frame: Indexed as given: `pain`, `kl`, `expected`, `residual` (pain less expected), `z` (the
            residual over its standard deviation among fitting rows) and `group`.
        explained: Share of the variance of pain that grade and covariates explain in rows not fitted on.
        kl_threshold: Grades from this on are high.
        pain_threshold: Pain above this is high.
        cross_fitted: Whether each row's expectation comes from other people; else from the fitting rows.
    """

    frame: pd.DataFrame
    explained: float
    kl_threshold: float
    pain_threshold: float
    cross_fitted: bool

    def column(self, name: str = "PAIN_beyond_KL") -> pd.Series:
        """The standardised residual, a covariate beside KL and the clinic (not beside pain)."""
        return self.frame["z"].rename(name)

    def counts(self) -> pd.Series:
        """Rows of each group."""
        return self.frame["group"].value_counts().reindex(GROUPS, fill_value=0)


def values_of(name: str, values: npt.ArrayLike, index: pd.Index) -> Floats:
    """Check that there is a finite number (or row of numbers) for each label of the index.

    Args:
        name: What the message calls them.
        values: Shape (n,) or (n, p).
        index: Labels of the rows.

    Returns:
        The same as float64.

    Raises:
        InputError: Naming the rows at fault.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.shape[:1] != (len(index),):
        raise InputError(f"{name}: {x.shape} for {len(index)} rows; accepted is one a row")
    bad = ~np.isfinite(x.reshape(len(index), -1)).all(axis=1)
    if bad.any():
        named = [str(i) for i in index.to_numpy()[bad][:3]]
        more = f" and {int(bad.sum()) - 3} more" if bad.sum() > 3 else ""
        raise InputError(
            f"{name}: missing for {', '.join(named)}{more}; accepted are finite numbers"
        )
    return x


def residual_pain(
    pain: pd.Series,
    kl: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    covariates: pd.DataFrame | None = None,
    fit_rows: npt.ArrayLike | None = None,
    method: Method = "means",
    kl_threshold: float = 2,
    pain_threshold: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Discordance:
    """Take out of pain what grade explains.

    Args:
        pain: One a row, indexed by joint_id (or scan_id).
        kl: Grade of each row (or, with `spline`, any number such as a joint space width), shape (n,).
        subject_ids: Subject of each row, shape (n,).
        covariates: Further columns, such as age, sex and body mass, to take out linearly.
        fit_rows: Rows of training subjects; the regression is fitted on them alone, for all rows. Without
            it the regression is cross-fitted over folds of subjects.
        method: `means` of each grade, `monotone` (means that do not fall with grade) or a cubic `spline`.
        kl_threshold: Grades from this on are high; 2 is radiographic osteoarthritis.
        pain_threshold: Pain above this is high; the median of fitting rows by default.
        folds: Folds of the cross-fitting.
        seed: Seed of the folds.

    Returns:
        The residuals and groups.

    Raises:
        InputError: For a missing value, an unknown method, or a subject on both sides.
    """
    if method not in METHODS:
        raise InputError(f"method: {method!r}; accepted are {', '.join(METHODS)}")
    y, grade = values_of("pain", pain, pain.index), values_of("kl", kl, pain.index)
    others = np.empty((len(y), 0)) if covariates is None else covariates.to_numpy(np.float64)
    others = values_of("covariates", others, pain.index)
    ids = np.asarray(subject_ids).astype(str)
    expected = np.empty(len(y))
    if fit_rows is None:
        of = subject_folds(ids, folds, seed)
        for k in range(folds):
            kept = of != k
            expected[~kept] = _regress(y[kept], grade[kept], others[kept], method)(
                grade[~kept], others[~kept]
            )
        fitted = scored = np.ones(len(y), dtype=bool)
    else:
        fitted = np.asarray(fit_rows, dtype=bool)
        both = np.intersect1d(ids[fitted], ids[~fitted])
        if len(both):
            raise InputError(
                f"split: subject {both[0]} in both fit and test; accepted is each subject on "
                "one side"
            )
        if not fitted.any():
            raise InputError("fit_rows: none; accepted is one row at least")
        expected = _regress(y[fitted], grade[fitted], others[fitted], method)(grade, others)
        scored = ~fitted if (~fitted).any() else fitted
    residual = y - expected
    spread = float(residual[fitted].std())
    limit = float(np.median(y[fitted])) if pain_threshold is None else float(pain_threshold)
    high = 2 * (y > limit) + (grade >= kl_threshold)
    total = float(np.mean((y[scored] - y[fitted].mean()) ** 2))
    frame = pd.DataFrame(
        {
            "pain": y, "kl": grade, "expected": expected, "residual": residual,
            "z": residual / spread if spread > 0 else residual,
            "group": np.array(GROUPS, dtype=object)[high],
        },
        index=pain.index,
    )  # fmt: skip
    return Discordance(
        frame=frame,
        explained=1 - float(np.mean(residual[scored] ** 2)) / total if total > 0 else float("nan"),
        kl_threshold=float(kl_threshold),
        pain_threshold=limit,
        cross_fitted=fit_rows is None,
    )


@dataclass(frozen=True, kw_only=True)
class ResidualHazard:
    """Whether pain beyond the grade foretells the event beyond a base model.

    Args:
        hazard_ratio: Of one standard deviation, with an interval that knows a person's two knees.
        low: Lower bound.
        high: Upper bound.
        p: Wald test over subjects.
        likelihood_ratio: Twice the gain in log partial likelihood, one degree of freedom.
        events: Events.
    """

    hazard_ratio: float
    low: float
    high: float
    p: float
    likelihood_ratio: float
    events: int


def residual_hazard(
    data: SurvivalData, column: pd.Series, *, level: float = 0.95
) -> ResidualHazard:
    """Add the residual to a Cox regression on the data's covariates (clinical and KL, say).

    Args:
        data: Rows with the base model's covariates; pain itself may not be among them.
        column: Of `Discordance.column`, indexed by joint_id.
        level: Coverage.

    Raises:
        InputError: For a joint without a residual, or a residual that the covariates give already.
    """
    values = column.set_axis(column.index.astype(str)).reindex(pd.Index(data.ids.astype(str)))
    extra = values_of(str(column.name), values.to_numpy(np.float64), pd.Index(data.ids.astype(str)))
    base = fit_cox_regression(data)
    whole = fit_cox_regression(
        data.with_covariates(
            np.column_stack([data.covariates, extra]), (*data.names, str(column.name))
        )
    )
    beta, se = float(whole.beta[-1]), float(whole.se[-1])
    low, high = np.exp(whole.interval(level)[-1])
    return ResidualHazard(
        hazard_ratio=float(np.exp(beta)),
        low=float(low),
        high=float(high),
        p=float(2 * stats.norm.sf(abs(beta) / se)),
        likelihood_ratio=2 * (whole.log_likelihood - base.log_likelihood),
        events=whole.events,
    )
