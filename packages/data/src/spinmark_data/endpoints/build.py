"""The outcomes of a cohort's joints by several endpoints, with eligibility and a counted flow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinmark_data.definition.variables import ScanTables, Variables, nearest
from spinmark_data.endpoints.assess import assess, variables_of, visits_of
from spinmark_data.endpoints.config import EndpointConfig, ReadConfig, ReplacementConfig
from spinmark_data.endpoints.intervals import Ended, end
from spinmark_data.endpoints.readings import Joint, last_scheduled, read_joints
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS

OUTCOME_COLUMNS = (*COLUMNS["outcomes"], "ended_by")
ELIGIBILITY_COLUMNS = ("joint_id", "endpoint", "subject_id", "laterality", "eligible", "reason")
FLOW_COLUMNS = ("endpoint", *COLUMNS["flow"])
_UNDATED = "the day on which the definition was known is unknown"
_NUMBERS = ("entry", "lower", "upper", "weight")


@dataclass(frozen=True)
class Endpoints:
    """What `build_endpoints` gives.

    Args:
        outcomes: Rows after docs/schemas.md, and `ended_by` (`event`, `death`, `replacement`, `last
            reading`, `last contact`, `cut`); sorted by endpoint and joint.
        eligibility: Every joint and endpoint, with the reason where a joint has no row.
        flow: From all joints to those with a row, then what became of them, by endpoint.
    """

    outcomes: pd.DataFrame
    eligibility: pd.DataFrame
    flow: pd.DataFrame


def build_endpoints(
    cohort: ScanTables,
    endpoints: Mapping[str, EndpointConfig],
    *,
    joints: pd.DataFrame | None = None,
    until_day: float | None = None,
) -> Endpoints:
    """Build the outcomes of a cohort's joints.

    Args:
        cohort: An open cohort.
        endpoints: Definitions by the name under which the outcomes hold them.
        joints: Those to consider, with `joint_id` and, if it has it, `known_at`: the day from which
            on a joint's being among them is known, before which no time counts. All by default.
        until_day: Build what was known by this day since enrolment: readings, replacements and deaths up
            to it. For models that are fitted before the cut of a split forward in time.

    Raises:
        InputError: An `until_day` of 0 or less, a variable that the cohort does not have, a baseline
            visit at which it has no reading, joints that it does not have, or weights of joints with a
            row that are no positive numbers.
    """
    until = np.inf if until_day is None else until_day
    if not until > 0:
        raise InputError(f"until_day={until_day}: a number above 0 is needed.")
    variables = Variables(cohort)
    known = variables.joints.set_index("joint_id", drop=False)
    chosen = list(known.index) if joints is None else sorted(map(str, joints["joint_id"]))
    late: dict[str, float] = {}
    if joints is not None and "known_at" in joints.columns:
        late = dict(
            zip(joints["joint_id"].astype(str), joints["known_at"].astype(float), strict=True)
        )
    whose = {
        str(joint): (subject, side)
        for joint, subject, side in zip(
            known["joint_id"], known["subject_id"], known["laterality"], strict=True
        )
    }
    if strange := [joint for joint in chosen if joint not in whose]:
        raise InputError(f"joints: {len(strange)} of {len(chosen)} are not in the cohort.")
    rows: list[tuple[object, ...]] = []
    eligibility: list[tuple[object, ...]] = []
    for name, config in sorted(endpoints.items()):
        found = _rows(cohort, variables, config, chosen, late, until)
        kept = [joint_id for joint_id in chosen if isinstance(found[joint_id], _Row)]
        weights = _weights(variables, config, name, known.loc[kept])
        for joint_id in chosen:
            row = found[joint_id]
            subject, side = whose[joint_id]
            refused = row if isinstance(row, str) else ""
            eligibility.append((joint_id, name, subject, side, not refused, refused))
            if isinstance(row, _Row):
                ended = row.ended
                rows.append(
                    (joint_id, name, subject, side, row.entry, ended.lower, ended.upper, ended.cause,
                     weights.get(joint_id, 1.0), ended.ended_by)
                )  # fmt: skip
    outcomes = pd.DataFrame(rows, columns=list(OUTCOME_COLUMNS))
    outcomes = outcomes.astype(dict.fromkeys(_NUMBERS, "float64"))
    frame = pd.DataFrame(eligibility, columns=list(ELIGIBILITY_COLUMNS))
    return Endpoints(outcomes, frame, _flow(frame, outcomes))


@dataclass(frozen=True)
class _Row:
    entry: float
    ended: Ended


def _rows(
    cohort: ScanTables,
    variables: Variables,
    config: EndpointConfig,
    joints: Sequence[str],
    late: Mapping[str, float],
    until: float,
) -> dict[str, _Row | str]:
    if isinstance(config, ReplacementConfig):
        copied = _copied(variables.outcomes, config.source, joints)
        return {
            joint: _enter_late(_known_by(row, until), late.get(joint, 0.0))
            for joint, row in copied.items()
        }
    assert isinstance(config, ReadConfig)
    names = variables_of(config)
    readings = list(read_joints(cohort, variables, names, joints, until=until))
    for name in names:
        with_value = variables.visits_with(name, "joints")
        if config.baseline not in with_value:
            raise InputError(
                f"baseline={config.baseline!r}: {name} has no value there but at {with_value}."
            )
    horizon = last_scheduled(readings, visits_of(config))
    return {
        joint.joint_id: _judge(joint, config, horizon, late.get(joint.joint_id, 0.0))
        for joint in readings
    }


def _copied(outcomes: pd.DataFrame, source: str, joints: Sequence[str]) -> dict[str, _Row | str]:
    """Rows that the cohort has already."""
    known = set(map(str, outcomes["endpoint"]))
    if source not in known:
        raise InputError(
            f"source={source!r}: the cohort has no such outcome; "
            + (f"the nearest is '{nearest(source, known)}'." if known else "it has none.")
        )
    rows = outcomes[outcomes["endpoint"] == source]
    names = ("joint_id", "entry", "lower", "upper", "cause")
    found: dict[str, _Row | str] = dict.fromkeys(
        joints, "not among the cohort's outcomes (replaced before enrolment, or never seen again)"
    )
    for joint, entry, lower, upper, cause in zip(*(rows[name] for name in names), strict=True):
        if joint in found:
            by = "last contact" if cause == "censored" else str(cause)
            found[str(joint)] = _Row(
                float(entry), Ended(float(lower), float(upper), str(cause), by)
            )
    return found


def _judge(joint: Joint, config: ReadConfig, horizon: float, known_at: float) -> _Row | str:
    own = joint.own()
    found = assess(own, config)
    if isinstance(found, str):
        return found
    entry, (lower, upper) = found.entry, found.span(own)
    if np.isnan(known_at):
        return _UNDATED
    if known_at > entry:
        if upper <= known_at:
            return "met before the definition was known"
        entry = found.enter(own, known_at)
        if np.isnan(entry):
            return "never read as free of it once the definition was known"
    ended = end(
        (max(lower, entry), upper),
        joint.replaced,
        joint.death,
        replacement=config.replacement,
        max_gap_days=config.max_gap_days,
        horizon=horizon,
    )
    if (ended.upper if np.isfinite(ended.upper) else ended.lower) <= entry:
        return "no follow-up after entry"
    return _Row(entry, ended)


def _known_by(row: _Row | str, day: float) -> _Row | str:
    """A copied row as it stood on a day: who had no event by then is censored.

    Only for exact days: of an interval around the cut, nothing but its start is used.
    """
    if isinstance(row, str) or row.ended.upper <= day:
        return row
    if np.isinf(day):
        return row
    lower = min(row.ended.lower, day)
    if lower <= row.entry:
        return "no follow-up before the cut"
    return _Row(
        row.entry, Ended(lower, np.inf, "censored", "cut" if lower == day else "last contact")
    )


def _enter_late(row: _Row | str, known_at: float) -> _Row | str:
    """Let a copied row begin on the day from which on the joint is known to belong to the study."""
    if isinstance(row, str):
        return row
    if np.isnan(known_at):
        return _UNDATED
    if not known_at > row.entry:
        return row
    ended = row.ended
    if ended.upper <= known_at:
        return "met, or follow-up ended, before the definition was known"
    if ended.lower < known_at:
        if np.isfinite(ended.upper):
            return "may have been met before the definition was known"
        return "follow-up ended before the definition was known"
    if ended.lower == known_at and not np.isfinite(ended.upper):
        return "follow-up ended before the definition was known"
    return _Row(known_at, ended)


def _weights(
    variables: Variables, config: EndpointConfig, name: str, joints: pd.DataFrame
) -> dict[str, float]:
    if not config.weight or not len(joints):
        return {}
    table = variables.table_of(config.weight)
    if table not in ("subjects", "joints"):
        raise InputError(f"endpoints.{name}.weight: {config.weight} is a variable of {table}; one of "
                         "subjects or joints is needed.")  # fmt: skip
    column = variables.values(config.weight, table)
    if table == "subjects":
        values = column.reindex(joints["subject_id"])
    else:
        values = column.dropna().groupby(level="joint_id").first().reindex(joints.index)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    if not bool((numbers > 0).all()) or not bool(np.isfinite(numbers).all()):
        bad = int((~(numbers > 0) | ~np.isfinite(numbers)).sum())
        raise InputError(
            f"endpoints.{name}.weight: {config.weight} of {bad} joints is no number above 0."
        )
    return dict(zip(map(str, joints.index), numbers.tolist(), strict=True))


def _flow(eligibility: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    rows: list[tuple[object, ...]] = []
    for name, group in eligibility.groupby("endpoint", sort=True):
        left = len(group)
        rows.append((name, "considered", "joints", left, 0, ""))
        reasons = Counter(group.loc[~group["eligible"], "reason"])
        for reason, count in sorted(reasons.items()):
            left -= count
            rows.append((name, "not eligible", "joints", left, count, reason))
        ended = outcomes[outcomes["endpoint"] == name]
        for (cause, by), count in sorted(
            Counter(zip(ended["cause"], ended["ended_by"], strict=True)).items()
        ):
            rows.append((name, f"of these: {cause}", "joints", count, 0, f"ended by {by}"))
    return pd.DataFrame(rows, columns=list(FLOW_COLUMNS))
