"""E-values: how strong would an unmeasured confounder have to be to explain a result away?

The E-value is the risk ratio that a confounder must have with both the covariate and the event, beyond all
measured ones, for it alone to move an estimate to no effect: RR + sqrt(RR (RR - 1)) (VanderWeele and Ding,
Annals of Internal Medicine 2017). Hazard ratios and odds ratios of common events are first put on the scale
of a risk ratio. A small E-value says that little confounding would do; a large one does not say that there
is none.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from spinmark_biomarkers.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EValue:
    """E-values of an estimate and of the bound of its interval nearer to the null.

    Args:
        risk_ratio: The estimate on the scale of a risk ratio.
        low: Lower bound on that scale; NaN if none was given.
        high: Upper bound on that scale; NaN if none was given.
        null: Risk ratio that the confounder would have to move the estimate to.
        point: E-value of the estimate.
        bound: E-value of the nearer bound; 1 where the interval holds the null, NaN without an interval.
    """

    risk_ratio: float
    low: float
    high: float
    null: float
    point: float
    bound: float

    def sentence(self, what: str = "the association") -> str:
        """Say it in plain words.

        Args:
            what: Name of the estimate, such as "the effect of the embedding".
        """
        target = "no association" if self.null == 1 else f"a risk ratio of {self.null:g}"
        text = (
            f"An unmeasured confounder could explain {what} (risk ratio {self.risk_ratio:.2f}) "
            f"down to {target} only if its risk ratio with both covariate and event were at "
            f"least {self.point:.2f} each, beyond all measured confounders"
        )
        if np.isnan(self.bound):
            return text + "."
        if self.bound == 1:
            return (
                text
                + "; the interval holds that value already, so none is needed to move it there."
            )
        return text + f"; {self.bound:.2f} each would move the interval to hold it."


def bounding_factor(with_covariate: float, with_event: float) -> float:
    """Most that a confounder of two risk ratios can inflate a risk ratio (Ding and VanderWeele 2016).

    Args:
        with_covariate: Risk ratio of the confounder with the covariate, at least 1.
        with_event: Risk ratio of the confounder with the event, at least 1.
    """
    return with_covariate * with_event / (with_covariate + with_event - 1)


def _one(ratio: float, null: float) -> float:
    r = ratio / null
    r = max(r, 1 / r)
    return float(r + np.sqrt(r * (r - 1)))


def _check(name: str, estimate: float, low: float | None, high: float | None) -> None:
    if not (np.isfinite(estimate) and estimate > 0):
        raise InputError(f"{name}: {estimate}; accepted is a positive number")
    if (low is None) != (high is None):
        raise InputError(f"{name}: one bound of an interval; accepted are both or none")
    if low is not None and high is not None and not 0 <= low <= estimate <= high:
        raise InputError(
            f"{name}: {estimate:g} with interval {low:g} to {high:g}; accepted is a positive "
            "interval that holds it"
        )


def risk_ratio_e_value(
    estimate: float, low: float | None = None, high: float | None = None, *, null: float = 1.0
) -> EValue:
    """E-value of a risk ratio.

    Args:
        estimate: Risk ratio.
        low: Lower bound of its interval.
        high: Upper bound of its interval.
        null: The risk ratio to be moved to.

    Returns:
        E-values of the estimate and of the bound nearer to the null.

    Raises:
        InputError: For an estimate that is not positive, or an interval that does not hold it.
    """
    _check("risk ratio", estimate, low, high)
    if not (np.isfinite(null) and null > 0):
        raise InputError(f"null: {null}; accepted is a positive number")
    bound = float("nan")
    if low is not None and high is not None:
        near = low if estimate >= null else high
        crossed = low <= null <= high
        bound = 1.0 if crossed else _one(near, null)
    return EValue(
        risk_ratio=float(estimate),
        low=float("nan") if low is None else float(low),
        high=float("nan") if high is None else float(high),
        null=float(null),
        point=_one(estimate, null),
        bound=bound,
    )


def _from_hazard(ratio: float, rare: bool) -> float:
    if rare or ratio == 0 or np.isinf(ratio):
        return float(ratio)
    return float((1 - 0.5 ** np.sqrt(ratio)) / (1 - 0.5 ** np.sqrt(1 / ratio)))


def hazard_ratio_e_value(
    estimate: float, low: float | None = None, high: float | None = None, *, rare: bool
) -> EValue:
    """E-value of a hazard ratio.

    Args:
        estimate: Hazard ratio.
        low: Lower bound of its interval.
        high: Upper bound of its interval.
        rare: Whether under 15 % have the event by the end of follow-up: the hazard ratio is then near the risk
            ratio; else it is converted by (1 - 0.5^sqrt(HR)) / (1 - 0.5^sqrt(1/HR)).

    Returns:
        As `risk_ratio_e_value`.

    Raises:
        InputError: As `risk_ratio_e_value`.
    """
    _check("hazard ratio", estimate, low, high)
    given = (None if v is None else _from_hazard(v, rare) for v in (low, high))
    return risk_ratio_e_value(_from_hazard(estimate, rare), *given)


def odds_ratio_e_value(
    estimate: float, low: float | None = None, high: float | None = None, *, rare: bool
) -> EValue:
    """E-value of an odds ratio, such as one within a person from discordant knees.

    Args:
        estimate: Odds ratio.
        low: Lower bound of its interval.
        high: Upper bound of its interval.
        rare: Whether under 15 % have the event; else the square root stands for the risk ratio.

    Returns:
        As `risk_ratio_e_value`.

    Raises:
        InputError: As `risk_ratio_e_value`.
    """
    _check("odds ratio", estimate, low, high)
    power = 1.0 if rare else 0.5
    return risk_ratio_e_value(
        estimate**power, *(None if v is None else v**power for v in (low, high))
    )


def risk_difference_e_value(
    exposed: float,
    unexposed: float,
    exposed_se: float | None = None,
    unexposed_se: float | None = None,
    *,
    level: float = 0.95,
) -> EValue:
    """E-value of a difference of two risks, such as two ten-year incidences, through their ratio.

    The interval of the log ratio is by the delta method, the two risks taken as independent.

    Args:
        exposed: Risk with the covariate, within (0, 1].
        unexposed: Risk without it, within (0, 1].
        exposed_se: Standard error of the first.
        unexposed_se: Standard error of the second.
        level: Coverage of the interval.

    Returns:
        As `risk_ratio_e_value`.

    Raises:
        InputError: For a risk outside (0, 1] or a standard error that is negative.
    """
    for name, risk in (("exposed", exposed), ("unexposed", unexposed)):
        if not 0 < risk <= 1:
            raise InputError(f"{name}: {risk}; accepted is a risk above 0, at most 1")
    ratio = exposed / unexposed
    if exposed_se is None or unexposed_se is None:
        return risk_ratio_e_value(ratio)
    for name, se in (("exposed_se", exposed_se), ("unexposed_se", unexposed_se)):
        if not se >= 0:
            raise InputError(f"{name}: {se}; accepted is a number not below 0")
    half = stats.norm.ppf((1 + level) / 2) * np.hypot(
        exposed_se / exposed, unexposed_se / unexposed
    )
    return risk_ratio_e_value(ratio, float(ratio * np.exp(-half)), float(ratio * np.exp(half)))
