"""A gamma frailty shared by a person's joints, integrated out in closed form.

With w ~ Gamma of mean 1 and variance theta, D exact events, a cumulative hazard B before entry and A
after it (both at w = 1), the likelihood of a person given that every joint was free of the event at its
entry is the mean of w^D exp(-w (B + A)) over that of exp(-w B),

    prod_{k<D} (1 + k theta) * (1 + theta (B + A))^-(1/theta + D) * (1 + theta B)^(1/theta)

times the hazards (Clayton, Biometrika 1978; Hougaard, Analysis of Multivariate Survival Data, 2000,
chapter 7). What is known of w then is again a gamma distribution, of shape c = 1/theta + D and rate
(1 + theta (B + A)) / theta. An event known only to lie in (L, R] multiplies by the mean of 1 - exp(-w V) over
it, V being the cumulative hazard of (L, R]. With b = theta V / (1 + theta (B + A)), for one such event it is

    q(b) = 1 - (1 + b)^-c

and for two, as a sum of positive terms, so that nothing cancels where both intervals are narrow,

    q(b1) q(b2) + (1 + b1 + b2)^-c q(b1 b2 / (1 + b1 + b2)).

For three and more, the 2^m terms of inclusion and exclusion cancel badly. With phi(x) = (1 - exp(-x)) / x it
equals c (c + 1) ... (c + m - 1) prod(b_k) times the mean of prod phi(b_k u) over u ~ Gamma(c + m), which
the trapezoid rule in log u gives to about 12 digits, since the integrand is entire and falls on both sides.
"""

from typing import Any

import numpy as np

from spinmark_biomarkers.survival.likelihoods.arithmetic import safe_log

# Below this variance the frailty cannot be told from none, and 1/theta would overflow.
NO_FRAILTY = 1e-8
# As many as the trapezoid rule was checked for against a fine one.
MOST_INTERVALS = 6
_NODES = np.linspace(0.0, 1.0, 121)
_TINY = 1e-30


def log_survival(m: Any, after: Any, before: Any, events: Any, theta: Any) -> Any:
    """Log of the Laplace transform's part of a person's likelihood, without `rising`.

    Args:
        m: The arithmetic.
        after: Cumulative hazard after entry, at a frailty of 1, (S,).
        before: The same before entry, (S,), or None where nobody enters late.
        events: Exact events, (S,).
        theta: Frailty variance, positive.

    Returns:
        Shape (S,).
    """
    if before is None:
        return -(1 / theta + events) * m.log1p(theta * after)
    held = 1 + theta * before
    return -m.log1p(theta * after / held) / theta - events * m.log1p(theta * (before + after))


def log_rising(m: Any, events: Any, theta: Any, most: int) -> Any:
    """Log of prod_{k<D} (1 + k theta), the moment that D events take, (S,)."""
    value = 0.0 * events * theta
    for k in range(1, most):
        value = value + m.where(events > k, m.log1p(k * theta), 0.0)
    return value


def _q(m: Any, b: Any, shape: Any) -> Any:
    return -m.expm1(-shape * m.log1p(b))


def log_one(m: Any, b: Any, shape: Any) -> Any:
    """Log chance of one event within its interval; arguments of shape (P,)."""
    return safe_log(m, _q(m, b, shape))


def log_two(m: Any, b1: Any, b2: Any, shape: Any) -> Any:
    """Log chance of two events of a person, each within its own interval, (P,)."""
    both = m.exp(-shape * m.log1p(b1 + b2))
    shared = both * _q(m, b1 * b2 / (1 + b1 + b2), shape)
    return safe_log(m, _q(m, b1, shape) * _q(m, b2, shape) + shared)


def log_many(m: Any, b: Any, present: Any, shape: Any) -> Any:
    """Log chance of any number of events of a person, each within its own interval.

    Args:
        m: The arithmetic.
        b: Scaled widths, (Q, M); any value where there is none.
        present: 1 for the widths that a person has, which come first, else 0, (Q, M).
        shape: Shape c of what is known of the frailty, (Q,).

    Returns:
        Shape (Q,).
    """
    k = (shape + present.sum(axis=-1))[..., None]
    c = shape[..., None]
    # log u = log k + y, in which the density of log u is exp(k (y + 1 - exp(y))) up to a constant. Towards
    # the left either it has vanished, also as a gamma density of shape c, or every phi has become 1.
    flat = -m.log1p(k * b.max(axis=-1)[..., None]) - 16 / k**0.5
    left = m.maximum(m.log(c / k) - 16 / c**0.5, flat)
    y = left + (10 / k**0.5 - left) * _NODES
    density = m.exp(k * (y - m.expm1(y)))
    x = m.maximum(b[..., :, None] * (k * m.exp(y))[..., None, :], _TINY)
    log_phi = (m.log(-m.expm1(-x) / x) * present[..., :, None]).sum(axis=-2)
    mean = (density * m.exp(log_phi)).sum(axis=-1) / density.sum(axis=-1)
    moment = m.log(shape[..., None] + m.arange(present.shape[-1])) + safe_log(m, b)
    return safe_log(m, mean) + (moment * present).sum(axis=-1)
