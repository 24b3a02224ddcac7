"""Figures in plain words, without more certainty than the interval has."""

from collections.abc import Sequence

import numpy as np

from spinmark_biomarkers.survival.validation.scores import ELPD, Label

_NAMES = {
    "c_index": "C-index (Harrell)",
    "c_uno": "C-index (Uno)",
    "c_competing": "C-index (death competing)",
    "auc": "AUC",
    "auc_event_free": "AUC among the alive",
    "brier": "Brier score",
    "integrated_brier": "integrated Brier score",
    "ipa": "prediction accuracy",
    "integrated_ipa": "integrated prediction accuracy",
    "observed_expected_ratio": "observed over expected risk",
    "hazard_slope": "slope of the log hazard ratio",
    ELPD: "log predictive density",
}
_BENEFIT = "net_benefit_at_"
_FALLS = frozenset({"brier", "integrated_brier"})


def metric_name(metric: str) -> str:
    """A metric in words, such as `AUC` or `net benefit of acting at 10 %`."""
    if metric.startswith(_BENEFIT):
        return f"net benefit of acting at {100 * float(metric.removeprefix(_BENEFIT)):g} %"
    return _NAMES.get(metric, metric.replace("_", " "))


def short(value: float, digits: int = 3) -> str:
    """A number without the leading zero: `.031`, `-.012`, `1.20`."""
    if not np.isfinite(value):
        return "unknown"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if text.removeprefix("-").startswith("0.") else text


def added(model: str, against: str, blocks: Sequence[str] = ()) -> str:
    """What tells two models apart, where the upper holds all blocks of the lower.

    Args:
        model: Name of the upper model: its blocks joined by `_`.
        against: Name of the lower model.
        blocks: Not split further, where names of blocks hold `_` themselves.
    """
    upper, lower = _split(model, blocks), _split(against, blocks)
    more = [part for part in upper if part not in lower]
    if more and set(lower) <= set(upper):
        return f"Adding {_joined(more)} to {_joined(lower)}"
    less = [part for part in lower if part not in upper]
    if less and set(upper) < set(lower):
        return f"Leaving {_joined(less)} out of {_joined(lower)}"
    return f"Going from {_joined(lower)} to {_joined(upper)}"


def block_names(model: str) -> str:
    """A model's blocks in words: `clinical_kl` is `clinical + KL`."""
    return _joined(_split(model, ()))


def _split(name: str, blocks: Sequence[str]) -> list[str]:
    return [name] if name in blocks else name.split("_")


def _joined(parts: Sequence[str]) -> str:
    return " + ".join("KL" if part == "kl" else part for part in parts)


def verdict(low: float, high: float, *, few: bool = False) -> str:
    """Whether an interval of a gain leaves out nothing at all; `few` events forbid to say."""
    if few or not (np.isfinite(low) and np.isfinite(high)):
        return "too few events to say"
    if low > 0:
        return "better by more than chance would give"
    if high < 0:
        return "worse by more than chance would give"
    return "not told apart from nothing"


def sentence(
    label: Label,
    model: str,
    against: str,
    gain: float,
    low: float,
    high: float,
    *,
    extrapolated: bool = False,
    few: bool = False,
) -> str:
    """One gain as a sentence.

    Args:
        label: Metric and horizon.
        model: The upper model.
        against: The lower model.
        gain: How much better the upper one is.
        low: Lower bound.
        high: Upper bound.
        extrapolated: The horizon lies past the follow-up.
        few: There are too few events for an interval that can be trusted.

    Returns:
        Such as `Adding embedding to clinical + KL raises the 8-year AUC by .030 (-.010 to .070): not told
        apart from nothing.`
    """
    when = "" if np.isnan(label.horizon) else f"{label.horizon:g}-year "
    digits = (
        1
        if label.metric == ELPD
        else 4
        if "brier" in label.metric or "benefit" in label.metric
        else 3
    )
    falls = label.metric in _FALLS
    verb = "raises" if (gain >= 0) != falls else "lowers"
    # The change is told with the sign of the verb, so that a fall of .003 is not one of -.003.
    a, b = (low, high) if gain >= 0 else (-high, -low)
    told = f"{short(abs(gain), digits)} ({short(a, digits)} to {short(b, digits)})"
    if not np.isfinite(gain):
        return f"{added(model, against)}: the {when}{metric_name(label.metric)} cannot be computed."
    text = f"{added(model, against)} {verb} the {when}{metric_name(label.metric)} by {told}"
    text = f"{text}: {verdict(low, high, few=few)}"
    return f"{text}; an extrapolation past the follow-up." if extrapolated else f"{text}."
