"""Within-person analysis: of two knees of one person, which one has the event, and what did they differ in?

Age, sex, genes, income, the way a person reports pain and the surgeon are the same for both knees, so they
cancel whether measured or not. Only people with *discordant* knees tell anything: one had the event, the
other was followed at least as long without it. The conditional likelihood of a pair is that of a logistic
regression of the difference in covariates without an intercept (Breslow and Day, Statistical Methods in
Cancer Research I, 1980, chapter 7); at the first knee's event it is also the partial likelihood of a Cox
regression stratified by person (Holt and Prentice, Biometrika 1974). What a person's knees share cannot be
estimated, and is refused by name.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap
from spinmark_biomarkers.survival.cox_regression import CoxRegression, Ties, fit_cox_regression
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData

_STEPS = 100
# Odds of a pair past exp(20) are a likelihood without a maximum.
_SEPARATED = 20.0
_SAME = 1e-12
_MARGIN = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchedPairs:
    """People whose knees were discordant, and a count of everyone else.

    Args:
        subject_ids: The P people, sorted, shape (P,).
        case: Row of the knee with the event, shape (P,).
        control: Row of the knee without it, shape (P,).
        time: Years at which the two differed, shape (P,).
        weight: Sampling weight of the person, shape (P,).
        rule: The censoring rule, in words.
        counts: People by what their knees tell: `discordant`, `neither`, `both`, `unknown` (the knee
            without the event was not followed as long) and `one_joint`.
    """

    subject_ids: npt.NDArray[np.object_]
    case: Ints
    control: Ints
    time: Floats
    weight: Floats
    rule: str
    counts: dict[str, int]

    def __len__(self) -> int:
        """Return the number of discordant pairs."""
        return len(self.case)


def matched_pairs(data: SurvivalData, *, horizon_years: float | None = None) -> MatchedPairs:
    """Find the people of whom one knee had the event while the other was known not to have had it.

    Without a horizon the knees are compared at the first one's event: the other must have been followed,
    free of the event, to that time and beyond; it may have the event later. With a horizon, one knee must
    have had the event by then and the other must have been followed without it to the horizon. An event
    known to an interval counts at the interval's right end. A death ends the follow-up of both knees.

    Args:
        data: One row a joint.
        horizon_years: Compare what had happened by this time; the first event's time by default.

    Returns:
        The pairs.

    Raises:
        InputError: For a horizon that is not positive, a person with more than two rows, or no pair at all.
    """
    if horizon_years is not None and not (np.isfinite(horizon_years) and horizon_years > 0):
        raise InputError(f"horizon_years: {horizon_years}; accepted is a positive number")
    subjects, code = np.unique(data.subject_ids.astype(str), return_inverse=True)
    sizes = np.bincount(code, minlength=len(subjects))
    if sizes.max(initial=0) > 2:
        many = subjects[sizes > 2]
        more = f" and {len(many) - 3} more" if len(many) > 3 else ""
        raise InputError(
            f"matched: more than two rows of {', '.join(many[:3])}{more}; accepted is one row a "
            "joint, two joints a person (rows of time-varying covariates go into stratified_cox)"
        )
    # By joint within a person, so that nothing depends on the order of rows.
    order = np.lexsort((data.ids.astype(str), code))
    two = order[np.flatnonzero(sizes[code[order]] == 2)].reshape(-1, 2)
    # When an event is certain to have happened.
    happened = np.where(data.event, data.upper, np.inf)
    first = np.where(happened[two[:, 0]] <= happened[two[:, 1]], 0, 1)
    rows = np.arange(len(two))
    case, control = two[rows, first], two[rows, 1 - first]
    at = happened[case] if horizon_years is None else np.full(len(two), float(horizon_years))
    had = np.isfinite(happened[case]) & (happened[case] <= at)
    both = had & (happened[control] <= at)
    clean = _free_at(data, control, at)
    if horizon_years is None:
        neither = ~had
        rule = "at the first knee's event; the other followed without it at least as long"
    else:
        neither = ~had & clean & _free_at(data, case, at)
        rule = f"by {horizon_years:g} years; the knee without the event followed that long"
    chosen = had & ~both & clean
    counts = {
        "discordant": int(chosen.sum()),
        "neither": int(neither.sum()),
        "both": int(both.sum()),
        "unknown": int((~chosen & ~neither & ~both).sum()),
        "one_joint": int((sizes == 1).sum()),
    }
    if not chosen.any():
        raise InputError(
            f"matched: no discordant pair among {len(two)} people with two knees ({rule})"
        )
    case, control = case[chosen], control[chosen]
    return MatchedPairs(
        subject_ids=subjects[code[case]].astype(object),
        case=case,
        control=control,
        time=at[chosen],
        weight=(data.weight[case] + data.weight[control]) / 2,
        rule=rule,
        counts=counts,
    )


def _free_at(data: SurvivalData, rows: Ints, at: Floats) -> npt.NDArray[np.bool_]:
    """Whether knees are in view and free of the event at `at`; one censored at `at` itself counts."""
    lower, event = data.lower[rows], data.event[rows]
    return np.asarray((data.start[rows] < at) & ((lower > at) | ((lower == at) & ~event)))


def pair_differences(pairs: MatchedPairs, x: Floats, names: tuple[str, ...]) -> Floats:
    """Covariates of the knee with the event less those of the other, shape (P, p).

    Args:
        pairs: The pairs.
        x: Covariates of the rows that the pairs were found in, shape (n, p).
        names: Their names.

    Raises:
        InputError: Naming the covariates that both knees of every person share.
    """
    d = x[pairs.case] - x[pairs.control]
    shared = (np.abs(d) <= _SAME * np.maximum(1.0, np.abs(x).max(axis=0))).all(axis=0)
    if shared.any():
        named = [n for n, same in zip(names, shared, strict=True) if same]
        raise InputError(
            f"matched: {', '.join(named)}: the same in both knees of every discordant person, so "
            "nothing within a person can tell their effect; leave them out, or give their "
            "product with a covariate of the knee"
        )
    return np.asarray(d)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionalLogistic:
    """A conditional logistic regression over discordant pairs.

    Args:
        names: The p covariates.
        beta: Log odds (at the first event: log hazard) ratios within a person, shape (p,).
        information: Observed information, shape (p, p).
        covariance: Inverse information; with unequal weights the sandwich over people, shape (p, p).
        log_likelihood: At `beta`.
        pairs: Discordant pairs.
        differences: Case less control, shape (pairs, p).
        weight: Of each pair, shape (pairs,).
    """

    names: tuple[str, ...]
    beta: Floats
    information: Floats
    covariance: Floats
    log_likelihood: float
    pairs: int
    differences: Floats
    weight: Floats

    @property
    def se(self) -> Floats:
        """Standard errors, shape (p,)."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self, level: float = 0.95) -> Floats:
        """Wald bounds of `beta`, shape (p, 2)."""
        half = stats.norm.ppf((1 + level) / 2) * self.se
        return np.column_stack([self.beta - half, self.beta + half])

    def profile_interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Bounds where the profile likelihood falls by half a chi-square quantile: better for few pairs.

        Args:
            name: Covariate.
            level: Coverage.

        Raises:
            InputError: For an unknown name, or weights, for which the likelihood has no chi-square scale.
        """
        if name not in self.names:
            raise InputError(f"covariate: {name!r}; accepted are {', '.join(self.names)}")
        if np.ptp(self.weight) > 0:
            raise InputError(
                "weight: unequal; accepted for a profile interval is one weight for all"
            )
        k = self.names.index(name)
        others = np.delete(self.differences, k, axis=1)
        drop = stats.chi2.ppf(level, 1) / 2

        def lacking(value: float) -> float:
            fixed = self.differences[:, k] * value
            _, best = _maximise(others, self.weight, fixed)
            return float(self.log_likelihood - best - drop)

        bounds = []
        for sign in (-1.0, 1.0):
            width = float(self.se[k])
            while lacking(self.beta[k] + sign * width) < 0:
                width *= 2
                if width > 1e6 * self.se[k]:
                    return float("nan"), float("nan")
            ends = sorted([float(self.beta[k]), float(self.beta[k] + sign * width)])
            bounds.append(float(optimize.brentq(lacking, *ends, xtol=1e-10)))
        return bounds[0], bounds[1]


def _value(eta: Floats, weight: Floats) -> float:
    return float(weight @ special.log_expit(eta))


def _maximise(d: Floats, weight: Floats, offset: Floats) -> tuple[Floats, float]:
    beta = np.zeros(d.shape[1])
    value = _value(offset, weight)
    for _ in range(_STEPS if d.shape[1] else 0):
        chance = special.expit(offset + d @ beta)
        slope = d.T @ (weight * (1 - chance))
        curve = (d * (weight * chance * (1 - chance))[:, None]).T @ d
        step = np.linalg.lstsq(curve, slope, rcond=1e-12)[0]
        size = 1.0
        new = _value(offset + d @ (beta + step), weight)
        while not new >= value - 1e-12 * abs(value) and size > 1e-6:
            size /= 2
            new = _value(offset + d @ (beta + size * step), weight)
        beta, gain, value = beta + size * step, new - value, new
        if abs(gain) < 1e-12 * max(1.0, abs(value)) or np.abs(d @ beta).max() > 2 * _SEPARATED:
            break
    return beta, value


def _separating(d: Floats) -> npt.NDArray[np.bool_]:
    """Covariates of a direction along which no pair is ever ranked wrong, if there is one."""
    alone = (d >= 0).all(axis=0) | (d <= 0).all(axis=0)
    if alone.any():
        return np.asarray(alone)
    z = d / np.abs(d).max(axis=0)
    # The direction within the unit box that gains most, no pair losing (Albert and Anderson 1984).
    found = optimize.linprog(-z.sum(axis=0), A_ub=-z, b_ub=np.zeros(len(z)), bounds=(-1, 1))
    if found.status != 0 or -found.fun <= _MARGIN:
        return np.zeros(d.shape[1], dtype=bool)
    return np.asarray(np.abs(found.x) > _MARGIN)


def conditional_logistic(
    pairs: MatchedPairs, x: Floats, names: tuple[str, ...]
) -> ConditionalLogistic:
    """Maximise the conditional likelihood.

    Args:
        pairs: Discordant pairs.
        x: Covariates of the rows that the pairs were found in, shape (n, p).
        names: Their names.

    Returns:
        The fit.

    Raises:
        InputError: For covariates that a person's knees share, that are combinations of each other, or that
            separate the pairs, so that there is no largest likelihood.
    """
    d = pair_differences(pairs, x, names)
    scale = np.sqrt(np.mean(d**2, axis=0))
    if np.linalg.matrix_rank(d / scale, tol=1e-8 * np.sqrt(len(d))) < d.shape[1]:
        raise InputError(
            f"matched: {len(d)} pairs cannot tell {d.shape[1]} covariates apart (their "
            "differences are combinations of each other); leave some out or use "
            "matched_posterior, which has a prior"
        )
    split = _separating(d)
    if split.any():
        named = [n for n, s in zip(names, split, strict=True) if s]
        raise InputError(
            f"matched: {', '.join(named)} separate the {len(d)} pairs (no pair is against them), "
            "so there is no largest likelihood; leave some out or use matched_posterior, which "
            "has a prior"
        )
    beta, value = _maximise(d / scale, pairs.weight, np.zeros(len(d)))
    beta = beta / scale
    chance = special.expit(d @ beta)
    information = (d * (pairs.weight * chance * (1 - chance))[:, None]).T @ d
    covariance = np.linalg.inv(information)
    if np.ptp(pairs.weight) > 0:
        scores = (d * (pairs.weight * (1 - chance))[:, None]) @ covariance
        covariance = scores.T @ scores
    return ConditionalLogistic(
        names=names,
        beta=beta,
        information=information,
        covariance=covariance,
        log_likelihood=value,
        pairs=len(d),
        differences=d,
        weight=pairs.weight,
    )


def stratified_cox(data: SurvivalData, *, ties: Ties = "efron") -> CoxRegression:
    """Cox regression in which each person has a baseline hazard of their own.

    The time-aware form of the matched analysis: a person's knees are compared at every event at which both
    are at risk. Rows may be (start, stop] with covariates that change.

    Args:
        data: Rows of joints.
        ties: Handling of knees with events at one time.

    Returns:
        The fit; its variance is by person.

    Raises:
        InputError: For covariates that a person's knees share.
    """
    _, code = np.unique(data.subject_ids.astype(str), return_inverse=True)
    order = np.argsort(code, kind="stable")
    first = np.flatnonzero(np.diff(code[order], prepend=-1))
    x = data.covariates[order]
    spread = np.maximum.reduceat(x, first) - np.minimum.reduceat(x, first)
    shared = (spread <= _SAME * np.maximum(1.0, np.abs(x).max(axis=0))).all(axis=0)
    if shared.any():
        named = [n for n, same in zip(data.names, shared, strict=True) if same]
        raise InputError(
            f"matched: {', '.join(named)}: the same in all rows of every person, so nothing "
            "within a person can tell their effect; leave them out, or give their product with "
            "a covariate of the knee"
        )
    return fit_cox_regression(data, strata=data.subject_ids, ties=ties)


def matched_concordance(
    pairs: MatchedPairs,
    risk: npt.ArrayLike,
    *,
    against: npt.ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Share of discordant pairs in which the knee with the event had the higher risk; equal risks count half.

    Covariates of the person add the same to both knees, so this is the part of a model's C that age, sex
    and weight cannot give. The risk must come from a model that saw none of these people.

    Args:
        pairs: Discordant pairs.
        risk: Risk of the rows that the pairs were found in, higher is worse, shape (n,).
        against: Another risk; its share is taken off within each draw.
        draws: Bootstrap draws of people.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        The share, or the gain, with its interval; `n` is the number of pairs.

    Raises:
        InputError: For a risk that is not finite.
    """
    right = _right(pairs, risk)
    if against is not None:
        right = right - _right(pairs, against)
    w = pairs.weight

    def share(rows: Rows) -> float:
        return float(w[rows] @ right[rows] / w[rows].sum())

    return subject_bootstrap(share, pairs.subject_ids, draws=draws, seed=seed, level=level)


def _right(pairs: MatchedPairs, risk: npt.ArrayLike) -> Floats:
    r = np.asarray(risk, dtype=np.float64)
    if r.ndim != 1 or not np.isfinite(r).all():
        raise InputError(f"risk: shape {r.shape}; accepted is one finite number a row")
    return np.asarray((np.sign(r[pairs.case] - r[pairs.control]) + 1) / 2)
