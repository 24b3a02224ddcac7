"""Is a joint eligible, and did each of its readings meet the endpoint?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinmark_data.endpoints.config import (
    FNIHConfig,
    IncidenceConfig,
    JSNConfig,
    JSWConfig,
    KLProgressionConfig,
    KoosPainConfig,
    ReadConfig,
    SymptomConfig,
)
from spinmark_data.endpoints.intervals import Floats, Span, last_of, locate
from spinmark_data.endpoints.readings import Joint

# Grades and millimetres are decimals: 1.2 - 1.0 is a little less than 0.2.
_EPSILON = 1e-6
_TOP_GRADE = 3.0


@dataclass(frozen=True)
class Part:
    """A condition that has to be met, reading by reading.

    Args:
        states: 1 met, 0 not met, NaN unknown, one a reading of the joint.
        confirm: Which readings count.
    """

    states: Floats
    confirm: str


@dataclass(frozen=True)
class Assessed:
    """An eligible joint.

    Args:
        entry: The day on which it comes under observation.
        parts: Conditions that all have to be met; the endpoint is met with the last of them.
    """

    entry: float
    parts: tuple[Part, ...]

    def span(self, joint: Joint) -> Span:
        """The interval in which the endpoint was met."""
        spans = [locate(self.entry, joint.days, part.states, part.confirm) for part in self.parts]
        return last_of(spans)

    def enter(self, joint: Joint, known_at: float) -> float:
        """The first day from `known_at` on with a reading of the endpoint not being met yet.

        Whoever enters between two readings is only there because the later one came (immortal time).

        Returns:
            A day; NaN where there is no such reading.
        """
        found = []
        for part in self.parts:
            _, upper = locate(self.entry, joint.days, part.states, part.confirm)
            late = (joint.days >= known_at) & (joint.days > self.entry) & (joint.days < upper)
            found += joint.days[late & (part.states == 0.0)].tolist()
        return min(found, default=float("nan"))


def _states(joint: Joint, met: Any, known: Any, visits: tuple[str, ...]) -> Floats:
    """States of readings at the visits that count; `met` is looked at where `known`."""
    usable = np.asarray(known, dtype=bool)
    if visits:
        usable = usable & np.isin(np.array(joint.visits, dtype=object), visits)
    return np.where(usable, np.asarray(met, dtype=np.float64), np.nan)


def _exceeds(joint: Joint, values: Floats, limit: float, config: ReadConfig) -> Assessed:
    with np.errstate(invalid="ignore"):
        met = values >= limit - _EPSILON
    states = _states(joint, met, ~np.isnan(values), config.visits)
    return Assessed(joint.day(config.baseline), (Part(states, config.confirm),))


def _incidence(joint: Joint, config: IncidenceConfig) -> Assessed | str:
    start = joint.at(config.baseline, config.variable)
    if np.isnan(start):
        return f"no {config.variable} at {config.baseline}"
    if start > config.at_risk_max:
        return f"{config.variable} above {config.at_risk_max:g} at {config.baseline}"
    return _exceeds(joint, joint.values[config.variable], config.threshold, config)


def _kl_progression(joint: Joint, config: KLProgressionConfig) -> Assessed | str:
    start = joint.at(config.baseline, config.variable)
    if np.isnan(start):
        return f"no {config.variable} at {config.baseline}"
    if not config.min_baseline <= start <= config.max_baseline:
        span = f"{config.min_baseline:g} to {config.max_baseline:g}"
        return f"{config.variable} outside {span} at {config.baseline}"
    limit = start + 1 if start > 0 or config.count_doubtful else 2.0
    return _exceeds(joint, joint.values[config.variable], limit, config)


def _narrowing(joint: Joint, config: JSNConfig) -> Assessed | str:
    both = {"medial": config.medial, "lateral": config.lateral}
    names = list(both.values()) if config.compartment == "either" else [both[config.compartment]]
    starts = {name: joint.at(config.baseline, name) for name in names}
    read = {name: start for name, start in starts.items() if not np.isnan(start)}
    if not read:
        return f"no {' or '.join(names)} at {config.baseline}"
    at_risk = {name: start for name, start in read.items() if start < _TOP_GRADE - _EPSILON}
    if not at_risk:
        return f"{' and '.join(read)} at the top grade at {config.baseline}"
    met = np.zeros(len(joint.days), dtype=bool)
    known = np.ones(len(joint.days), dtype=bool)
    for name, start in at_risk.items():
        values = joint.values[name]
        if config.within_grade:
            rise, least = values - start, 0.1
        else:
            rise, least = np.floor(values + _EPSILON) - np.floor(start + _EPSILON), 1.0
        with np.errstate(invalid="ignore"):
            met |= rise >= least - _EPSILON
        known &= ~np.isnan(values)
    # One compartment that worsened is enough; that none did takes both.
    states = _states(joint, met, known | met, config.visits)
    return Assessed(joint.day(config.baseline), (Part(states, config.confirm),))


def _width(joint: Joint, config: JSWConfig) -> Assessed | str:
    start = joint.at(config.baseline, config.variable)
    if np.isnan(start):
        return f"no {config.variable} at {config.baseline}"
    if start < config.loss_mm - _EPSILON:
        return f"less than {config.loss_mm:g} mm left to lose at {config.baseline}"
    return _exceeds(joint, start - joint.values[config.variable], config.loss_mm, config)


def _worsening(values: Floats, scale_max: float, higher_is_worse: bool) -> Floats:
    """Scores as 0 to 100, 100 the worst."""
    scaled = 100.0 * values / scale_max
    return scaled if higher_is_worse else 100.0 - scaled


def _symptom(joint: Joint, config: SymptomConfig) -> Assessed | str:
    scores = _worsening(joint.values[config.variable], config.scale_max, config.higher_is_worse)
    start = _worsening(
        np.array([joint.at(config.baseline, config.variable)]),
        config.scale_max,
        config.higher_is_worse,
    )[0]
    if np.isnan(start):
        return f"no {config.variable} at {config.baseline}"
    if start > 100.0 - config.change + _EPSILON:
        return f"less than {config.change:g} of 100 left to worsen at {config.baseline}"
    return _exceeds(joint, scores - start, config.change, config)


def _fnih(joint: Joint, config: FNIHConfig) -> Assessed | str:
    grade = joint.at(config.baseline, config.grade)
    if np.isnan(grade) or not config.min_grade <= grade <= config.max_grade:
        span = f"{config.min_grade:g} to {config.max_grade:g}"
        return f"{config.grade} not {span} at {config.baseline}"
    width = joint.at(config.baseline, config.width)
    if np.isnan(width) or width < config.min_width_mm - _EPSILON:
        return f"{config.width} not {config.min_width_mm:g} mm or more at {config.baseline}"
    pain = 100.0 * joint.at(config.baseline, config.pain) / config.pain_max
    if np.isnan(pain) or pain > 100.0 - config.pain_change + _EPSILON:
        return f"{config.pain} unknown or too high to worsen at {config.baseline}"
    loss = width - joint.values[config.width]
    rise = 100.0 * joint.values[config.pain] / config.pain_max - pain
    with np.errstate(invalid="ignore"):
        narrowed = loss >= config.loss_mm - _EPSILON
        hurts = rise >= config.pain_change - _EPSILON
    early = np.array([visit == config.early_visit for visit in joint.visits], dtype=bool)
    if bool(((narrowed | hurts) & early).any()):
        return f"progressed by {config.early_visit}"
    entry = joint.day(config.baseline)
    looked = early & ~(np.isnan(loss) & np.isnan(rise))
    if looked.any():
        # Who was chosen for not having progressed by then was not at risk of being seen before.
        entry = max(entry, float(joint.days[looked].max()))
    parts = (
        Part(_states(joint, narrowed, ~np.isnan(loss), config.visits), "none"),
        Part(_states(joint, hurts, ~np.isnan(rise), config.pain_visits), config.confirm),
    )
    return Assessed(entry, parts)


_ASSESS: Mapping[type[ReadConfig], Callable[[Joint, Any], Assessed | str]] = {
    IncidenceConfig: _incidence,
    KLProgressionConfig: _kl_progression,
    JSNConfig: _narrowing,
    JSWConfig: _width,
    SymptomConfig: _symptom,
    KoosPainConfig: _symptom,
    FNIHConfig: _fnih,
}


def variables_of(config: ReadConfig) -> tuple[str, ...]:
    """The variables that an endpoint is read from."""
    if isinstance(config, JSNConfig):
        either = config.compartment == "either"
        return (config.medial, config.lateral) if either else (getattr(config, config.compartment),)
    if isinstance(config, FNIHConfig):
        return (config.grade, config.width, config.pain)
    assert isinstance(config, IncidenceConfig | KLProgressionConfig | JSWConfig | SymptomConfig)
    return (config.variable,)


def visits_of(config: ReadConfig) -> tuple[str, ...]:
    """The visits whose readings count; none where all do."""
    if isinstance(config, FNIHConfig) and config.visits and config.pain_visits:
        return (*config.visits, *config.pain_visits)
    return () if isinstance(config, FNIHConfig) else config.visits


def assess(joint: Joint, config: ReadConfig) -> Assessed | str:
    """Judge one joint.

    Args:
        joint: Its own readings, as `Joint.own` gives them.
        config: The endpoint.

    Returns:
        The assessed joint, or the reason why it is not eligible.
    """
    if config.baseline not in joint.visits:
        return f"not seen at {config.baseline} with its own joint"
    found = _ASSESS[type(config)](joint, config)
    if isinstance(found, str):
        return found
    later = joint.days > found.entry
    if not any(bool((~np.isnan(part.states[later])).any()) for part in found.parts):
        follow = joint.replaced is not None or joint.death is not None
        return found if follow else "no follow-up after entry"
    return found
