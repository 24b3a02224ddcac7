"""Piecewise-exponential proportional hazards by sufficient statistics.

The hazard of row i in piece j is exp(eta_i + log_hazard_j) (Holford, Biometrics 1980; Laird and Olivier,
JASA 1981). Times enter through the years that a row spends in each piece, and exact events through their
number in each piece and the sum of their covariates, so that no row has to be expanded.
"""

from typing import Any

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.likelihoods.arithmetic import relative_hazard
from spinmark_biomarkers.survival.likelihoods.hazard_family import HazardFamily, RowHazards


def exposure(times: Floats, breaks: Floats) -> Floats:
    """Years spent in each interval before `times`.

    Args:
        times: Years, shape (n,); the last interval has no end.
        breaks: Left ends of the intervals, the first being 0, shape (J,).

    Returns:
        Shape (n, J); rows sum to `times`.
    """
    ends = np.append(breaks[1:], np.inf)
    return np.clip(times[:, None], breaks, ends) - breaks


def interval_breaks(data: SurvivalData, intervals: int) -> Floats:
    """Left ends of the hazard's pieces, at quantiles of the event times.

    Args:
        data: Rows to fit.
        intervals: Number of pieces; where times tie, fewer distinct ones are padded by halving the last.

    Returns:
        Years, shape (intervals,), increasing from 0.
    """
    times = data.time[data.event]
    shares = np.linspace(0, 1, intervals + 1)[1:-1]
    inner: Floats = np.quantile(times, shares) if times.size else np.empty(0)
    breaks = np.unique(np.append(0.0, inner))
    while len(breaks) < intervals:
        # The number of pieces is part of the compiled function's shape.
        end = max(float(data.time.max()), breaks[-1] + 1.0)
        breaks = np.unique(np.append(breaks, (breaks[-1] + end) / 2))
    return breaks


def checked_breaks(breaks: Floats | None) -> Floats:
    """Left ends of the pieces as an array.

    Raises:
        InputError: If they are absent, do not begin at 0 or do not increase.
    """
    if breaks is None:
        raise InputError("breaks: none; the piecewise family needs the left ends of its pieces")
    found = np.asarray(breaks, dtype=np.float64)
    ok = found.ndim == 1 and found.size > 0 and found[0] == 0 and bool(np.isfinite(found).all())
    if not (ok and (np.diff(found) > 0).all()):
        raise InputError(f"breaks: {found.tolist()}; accepted are years that increase from 0")
    return found


class Piecewise(HazardFamily):
    """The hazard exp(eta + log_hazard[j]) in piece j; parameter `log_hazard (J,)`."""

    name = "piecewise"
    baseline = ("log_hazard",)
    _own = ("covariate_sum", "exposure", "exposure_t", "events")
    _own_delayed = ("entry_row", "entry_exposure")
    _own_interval = ("interval_exposure",)

    def _own_arrays(self, data: SurvivalData, breaks: Floats | None) -> dict[str, Any]:
        pieces = checked_breaks(breaks)
        exact = data.event & ~data.interval
        # An event at a break belongs to the interval that ends there, as its exposure does.
        piece = np.clip(np.searchsorted(pieces, data.lower, side="left") - 1, 0, None)[exact]
        weight = data.subject_weight[data.subject_code][exact]
        until, before = exposure(data.lower, pieces), exposure(data.start, pieces)
        late = data.entry_rows
        wide = data.interval
        return {
            "exposure": until - before,
            "exposure_t": np.ascontiguousarray((until - before).T),
            "events": np.bincount(piece, weight, len(pieces)).astype(np.float64),
            "event_piece": piece,
            "start_row": np.flatnonzero(data.start > 0),
            "entry_exposure": before[late],
            "interval_exposure": exposure(data.upper[wide], pieces) - until[wide],
        }

    def _rows(
        self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any], late: bool, wide: bool
    ) -> RowHazards:
        hazard = m.exp(baseline["log_hazard"])
        ratio = relative_hazard(m, eta)

        def part(row: str, years: str) -> Any:
            return m.take(ratio, d[row]) * m.dot(d[years], hazard)

        return RowHazards(
            cumulative=ratio * m.product(d["exposure"], d["exposure_t"], hazard),
            before=part("entry_row", "entry_exposure") if late else None,
            width=part("interval_row", "interval_exposure") if wide else None,
        )

    def _event_total(self, m: Any, d: dict[str, Any], eta: Any, beta: Any, base: Any) -> Any:
        return m.pt.sum(d["covariate_sum"] * beta) + m.pt.sum(d["events"] * base["log_hazard"])

    def _event_rows(self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any]) -> Any:
        return m.take(eta, d["event_row"]) + m.take(baseline["log_hazard"], d["event_piece"])
