"""A log-normal frailty drawn for every person: the slow reference for the gamma frailty."""

from typing import Any

from spinmark_biomarkers.survival.likelihoods.arithmetic import TensorArithmetic, safe_log
from spinmark_biomarkers.survival.likelihoods.hazard_family import HazardFamily


def latent_log_likelihood(
    family: HazardFamily,
    d: dict[str, Any],
    beta: Any,
    baseline: dict[str, Any],
    log_w: Any,
    *,
    interval_censored: bool,
    delayed: bool,
) -> Any:
    """Log-likelihood given every person's frailty, as a PyTensor expression.

    Args:
        family: The family.
        d: Its arrays without frailty, and `subject (n,)`, `subject_events (S,)`; all weights are 1.
        beta: Log hazard ratios, (width,).
        baseline: The parameters of the family's baseline.
        log_w: Log frailty of each person, (S,).
        interval_censored: Whether any event may be interval-censored.
        delayed: Must be False; a latent frailty has no closed form given survival to entry.

    Returns:
        A scalar.
    """
    m = TensorArithmetic()
    eta = d["x"] @ beta
    rows = family._rows(m, d, eta, baseline, delayed, interval_censored)
    value = family._event_total(m, d, eta, beta, baseline)
    value += m.pt.sum(d["subject_events"] * log_w)
    w = m.exp(log_w)
    value -= m.pt.sum(w[d["subject"]] * rows.cumulative)
    if interval_censored:
        width = w[d["subject"][d["interval_row"]]] * rows.width
        value += m.pt.sum(safe_log(m, -m.expm1(-width)))
    return value
