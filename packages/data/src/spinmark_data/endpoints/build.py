"""The outcomes of a cohort's joints by several endpoints, with eligibility and a counted flow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinmark_data.definition.variables import ScanTables, Variables, nearest
from spinmark_data.endpoints.assess import assess, variables_of
from spinmark_data.endpoints.config import EndpointConfig, ReadConfig, ReplacementConfig
from spinmark_data.endpoints.intervals import Ended, end
from spinmark_data.endpoints.readings import Joint, read_joints
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS

OUTCOME_COLUMNS = (*COLUMNS["outcomes"], "ended_by")
ELIGIBILITY_COLUMNS = ("joint_id", "endpoint", "subject_id", "laterality", "eligible", "reason")
FLOW_COLUMNS = ("endpoint", *COLUMNS["flow"])
_NUMBERS = ("entry", "lower", "upper", "weight")


@dataclass(frozen=True)
class Endpoints:
    """What `build_endpoints` gives.

    Args:
        outcomes: Rows after docs/schemas.md, and `ended_by` (`event`, `death`, `replacement`, `last
            reading`); sorted by endpoint and joint.
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
) -> Endpoints:
    """Build the outcomes of a cohort's joints.

    Args:
        cohort: An open cohort.
        endpoints: Definitions by the name under which the outcomes hold them.
        joints: Those to consider, with `joint_id` and, if it has it, `known_at`: the day from which
            on a joint's being among them is known, before which no time counts. All by default.

    Raises:
        InputError: A variable that the cohort does not have, a baseline visit at which it has no
            reading, joints that it does not have, or weights that are no positive numbers.
    """
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
        found = _rows(cohort, variables, config, chosen)
        weights = _weights(variables, config, name, known)
        for joint_id in chosen:
            row = _enter_late(found[joint_id], late.get(joint_id, 0.0))
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
    cohort: ScanTables, variables: Variables, config: EndpointConfig, joints: Sequence[str]
) -> dict[str, _Row | str]:
    if isinstance(config, ReplacementConfig):
        return _copied(variables.outcomes, config.source, joints)
    assert isinstance(config, ReadConfig)
    names = variables_of(config)
    readings = list(read_joints(cohort, variables, names, joints))
    for name in names:
        with_value = variables.visits_with(name, "joints")
        if config.baseline not in with_value:
            raise InputError(
                f"baseline={config.baseline!r}: {name} has no value there but at {with_value}."
            )
    return {joint.joint_id: _judge(joint, config) for joint in readings}


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


def _judge(joint: Joint, config: ReadConfig) -> _Row | str:
    own = joint.own()
    found = assess(own, config)
    if isinstance(found, str):
        return found
    span = found.span(own)
    ended = end(
        span,
        joint.replaced,
        joint.death,
        replacement=config.replacement,
        max_gap_days=config.max_gap_days,
    )
    if (ended.upper if np.isfinite(ended.upper) else ended.lower) <= found.entry:
        return "no follow-up after entry"
    return _Row(found.entry, ended)


def _enter_late(row: _Row | str, known_at: float) -> _Row | str:
    """Let a joint enter on the day from which on it is known to belong to the study."""
    if isinstance(row, str) or not known_at > row.entry:
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
    if not config.weight:
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
