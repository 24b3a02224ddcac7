"""Made-up rows of every kind of censoring, and each family's hazard by scipy.stats."""

import numpy as np
from scipy import integrate, stats

from spinmark_biomarkers.survival.data import SurvivalData

BREAKS = np.array([0.0, 1.5, 4.0])
BETA = np.array([0.5, -0.3])
BASELINES = {
    "piecewise": {"log_hazard": np.log([0.1, 0.25, 0.15])},
    "weibull": {"level": -2.2, "log_shape": 0.3},
    "lognormal": {"level": 1.4, "log_scale": -0.2},
    "loglogistic": {"level": 1.3, "log_scale": -0.4},
}
FAMILIES = tuple(BASELINES)


def rows(kind="right", *, n=10, joints=2, delayed=False, seed=0):
    """`kind` is right, interval (some of each) or left (intervals that begin at the entry)."""
    rng = np.random.default_rng(seed)
    start = np.where(rng.random(n) < 0.6, rng.uniform(0.2, 1.5, n), 0.0) * delayed
    lower = start + rng.uniform(0.3, 5.0, n)
    # Every kind of row occurs whatever the seed.
    cause = rng.permutation(np.arange(n) % 5)
    cause = np.where(cause > 2, 1, cause)
    upper = np.where(cause == 0, np.inf, lower)
    if kind != "right":
        wide = (cause == 1) & (rng.random(n) < 0.75)
        lower = np.where(wide & (kind == "left"), start, lower)
        upper = np.where(wide, lower + rng.uniform(0.2, 2.5, n), upper)
    return SurvivalData(
        ids=np.array([f"j{i:04d}" for i in range(n)], dtype=object),
        subject_ids=np.array([f"s{i // joints:03d}" for i in range(n)], dtype=object),
        covariates=rng.normal(size=(n, 2)), names=("one", "two"), lower=lower, upper=upper,
        cause=cause.astype(np.int64), weight=np.ones(n), start=start,
    )  # fmt: skip


def survival(name, baseline, eta):
    """Cumulative hazard and log hazard of a row, as functions of time, by scipy.stats."""
    if name == "piecewise":
        rate = np.exp(baseline["log_hazard"] + eta)

        def cumulative(t):
            return sum(
                r * max(min(t, end) - begin, 0.0)
                for r, begin, end in zip(rate, BREAKS, [*BREAKS[1:], np.inf], strict=True)
            )

        return cumulative, lambda t: np.log(rate[np.searchsorted(BREAKS, t, side="left") - 1])
    if name == "weibull":
        shape = np.exp(baseline["log_shape"])
        law = stats.weibull_min(shape, scale=np.exp(-(baseline["level"] + eta) / shape))
    elif name == "lognormal":
        law = stats.lognorm(np.exp(baseline["log_scale"]), scale=np.exp(baseline["level"] - eta))
    else:
        law = stats.fisk(np.exp(-baseline["log_scale"]), scale=np.exp(baseline["level"] - eta))
    return (lambda t: -law.logsf(t)), (lambda t: law.logpdf(t) - law.logsf(t))


def split(data, at, *, change=None):
    """Every row that spans `at` as two (start, stop] rows; `change` is added to the later covariates."""
    spans = (data.start < at) & (data.lower > at)
    index = np.repeat(np.arange(len(spans)), 1 + spans)
    later = np.append(False, index[1:] == index[:-1])
    earlier = np.append(later[1:], False)
    x = data.covariates[index] + (0.0 if change is None else later[:, None] * np.asarray(change))
    return SurvivalData(
        ids=data.ids[index], subject_ids=data.subject_ids[index], covariates=x, names=data.names,
        lower=np.where(earlier, at, data.lower[index]),
        upper=np.where(earlier, np.inf, data.upper[index]),
        cause=np.where(earlier, 0, data.cause[index]), weight=data.weight[index],
        start=np.where(later, at, data.start[index]),
    )  # fmt: skip


def by_quadrature(name, data, baseline, law):
    """Each subject's log-likelihood, the frailty of density `law(log w)` in log w integrated numerically."""
    found = []
    for subject in np.unique(data.subject_ids.astype(str)):
        mine = np.flatnonzero(data.subject_ids.astype(str) == subject)
        value, events, total, before, widths = 0.0, 0, 0.0, 0.0, []
        for i in mine:
            cumulative, log_hazard = survival(name, baseline, data.covariates[i] @ BETA)
            total += cumulative(data.lower[i]) - cumulative(data.start[i])
            if data.start[i] == data.start[data.ids == data.ids[i]].min():
                before += cumulative(data.start[i])
            if data.cause[i] == 1 and data.upper[i] > data.lower[i]:
                widths.append(cumulative(data.upper[i]) - cumulative(data.lower[i]))
            elif data.cause[i] == 1:
                value, events = value + log_hazard(data.lower[i]), events + 1
        widths = np.array(widths)

        def integral(d, a, v):
            if law is None:
                return d * 0.0 - a + np.log(-np.expm1(-v)).sum()
            # The integrand is smooth and falls on both sides, where the trapezoid rule converges fastest.
            u = np.linspace(-60.0, 9.0, 20_001)
            w = np.exp(u)
            value = w**d * np.exp(-w * a) * np.prod(-np.expm1(-w[:, None] * v), axis=1) * law(u)
            return np.log(integrate.trapezoid(value, u))

        found.append(value + integral(events, total + before, widths))
        found[-1] -= integral(0, before, widths[:0])
    return np.array(found)


def gamma_law(theta):
    """The density of log w for a gamma frailty of mean 1 and variance theta."""
    return lambda u: np.exp(u) * stats.gamma.pdf(np.exp(u), 1 / theta, scale=theta)
