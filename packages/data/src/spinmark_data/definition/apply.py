"""From everyone to the analysed: criteria in order, counted once, and each alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.definition.config import Criterion, DefinitionConfig
from spinmark_data.definition.expression import Truth, parse
from spinmark_data.definition.known import known_at
from spinmark_data.definition.variables import CohortRows, ScanTables, Variables, nearest
from spinmark_data.errors import InputError

FLOW_COLUMNS = (
    "step", "unit", "n", "excluded", "reason", "unknown",
    "subjects", "joints", "scans", "excluded_subjects", "excluded_joints", "excluded_scans",
)  # fmt: skip
ALONE_COLUMNS = ("criterion", "unit", "subjects", "joints", "scans", "unknown")
EXCLUDED_COLUMNS = ("unit", "subject_id", "joint_id", "scan_id", "step", "reason")
_PLURAL = {"subject": "subjects", "joint": "joints", "scan": "scans"}
_ID = {"subject": "subject_id", "joint": "joint_id", "scan": "scan_id"}


@dataclass(frozen=True)
class Defined:
    """Who is analysed, and how they were arrived at.

    Args:
        joints: `joint_id`, `subject_id`, `laterality` and `known_at` of the analysed joints: the day from
            which on a joint is known to be one of them. Time before it must not count as follow-up.
        scans: The analysed scans, with the columns of `Cohort.scans`, `sequence` and `index`.
        flow: One row a step, in order. `n` and `excluded` count `unit`; `subjects`, `joints` and `scans`
            are left after the step, `excluded_*` went in it, `unknown` of them for a missing cell.
        alone: What each criterion would exclude on its own.
        excluded: Who went, once each, with the step.
    """

    joints: pd.DataFrame
    scans: pd.DataFrame
    flow: pd.DataFrame
    alone: pd.DataFrame
    excluded: pd.DataFrame


@dataclass(frozen=True)
class _Members:
    """Who is still in."""

    subjects: frozenset[str]
    joints: pd.DataFrame
    scans: pd.DataFrame

    def without(self, unit: str, gone: set[str]) -> "_Members":
        """Those left when some units go: a subject takes joints along, and a joint its scans."""
        if unit == "scan":
            kept = self.scans[~self.scans["scan_id"].isin(gone)]
            return _Members(self.subjects, self.joints, kept)
        joints = self.joints[~self.joints[_ID[unit]].isin(gone)]
        scans = self.scans[self.scans["joint_id"].isin(set(joints["joint_id"]))]
        # A subject leaves with the last joint; one who had none leaves at the first step.
        return _Members(frozenset(joints["subject_id"]), joints, scans)

    @property
    def counts(self) -> dict[str, int]:
        return {
            "subjects": len(self.subjects),
            "joints": len(self.joints),
            "scans": len(self.scans),
        }


@dataclass(frozen=True)
class _Verdict:
    """The units that a criterion drops, and how many of them for an unknown condition."""

    gone: set[str]
    unknown: set[str]


def define(
    cohort: ScanTables, config: DefinitionConfig, *, scan_columns: pd.DataFrame | None = None
) -> Defined:
    """Apply a cohort definition.

    Criteria are applied in order to those that are still in, so that each excluded unit is counted
    once, at the first criterion that it fails. Selection of scans comes last.

    Args:
        cohort: An open cohort.
        config: The definition.
        scan_columns: More columns of scans, such as image quality: `scan_id` and any others.

    Returns:
        Who is analysed, with the flow.

    Raises:
        InputError: A condition that cannot be read, an unknown variable, sequence or visit, a value
            that never occurs, or a missing cell where the criterion says `if_missing: refuse`.
    """
    variables = Variables(cohort, scan_columns)
    _check_scans(variables, config)
    everyone = _Members(frozenset(variables.subjects), variables.joints, variables.scans)
    members, flow, gone = everyone, [_row("everyone", "subject", everyone, everyone, "", 0)], []
    jointless = everyone.subjects - set(everyone.joints["subject_id"])
    if jointless:
        members = members.without("joint", set())
        reason = "no joint in any table and no scan"
        flow.append(_row("no data", "subject", everyone, members, reason, 0))
        gone.append(_gone("subject", members, set(jointless), "no data", reason))
    alone = []
    for criterion in config.criteria:
        apart = _verdict(variables, everyone, criterion, config.visit, alone=True)
        left = everyone.without(criterion.unit, apart.gone)
        lost = _lost(everyone, left)
        alone.append((criterion.name, _PLURAL[criterion.unit], *lost, len(apart.unknown)))
        found = _verdict(variables, members, criterion, config.visit)
        after = members.without(criterion.unit, found.gone)
        reason = _reason(criterion)
        flow.append(
            _row(criterion.name, criterion.unit, members, after, reason, len(found.unknown))
        )
        gone.append(_gone(criterion.unit, members, found.gone, criterion.name, reason))
        members = after
    members = _select_scans(members, config, flow, gone)
    joints = members.joints.assign(
        known_at=known_at(variables, members.joints, members.scans, config)
    )
    return Defined(
        joints=joints.reset_index(drop=True),
        scans=members.scans.reset_index(drop=True),
        flow=pd.DataFrame(flow, columns=list(FLOW_COLUMNS)),
        alone=pd.DataFrame(alone, columns=list(ALONE_COLUMNS)),
        excluded=pd.concat([_excluded("", pd.DataFrame(), "", ""), *gone], ignore_index=True),
    )


def _check_scans(variables: Variables, config: DefinitionConfig) -> None:
    for name, wanted in (("sequence", config.sequences), ("visit", config.visits)):
        known = set(map(str, variables.scans[name]))
        if unknown := [value for value in wanted if value not in known]:
            raise InputError(
                f"{name}s: no scan has {unknown[0]!r}; the nearest is {nearest(unknown[0], known)!r}."
            )


def _lost(everyone: _Members, left: _Members) -> tuple[int, int, int]:
    # Those without any joint have a step of their own.
    subjects = set(everyone.joints["subject_id"]) - left.subjects
    joints = len(everyone.joints) - len(left.joints)
    return len(subjects), joints, len(everyone.scans) - len(left.scans)


def _reason(criterion: Criterion) -> str:
    if criterion.include:
        return f"not: {' '.join(criterion.include.split())}"
    return " ".join(criterion.exclude.split())


def _row(
    step: str, unit: str, before: _Members, after: _Members, reason: str, unknown: int
) -> Mapping[str, object]:
    was, now = before.counts, after.counts
    plural = _PLURAL[unit]
    return {
        "step": step,
        "unit": plural,
        "n": now[plural],
        "excluded": was[plural] - now[plural],
        "reason": reason,
        "unknown": unknown,
        **now,
        **{f"excluded_{name}": was[name] - now[name] for name in now},
    }


def _excluded(unit: str, rows: pd.DataFrame, step: str, reason: str) -> pd.DataFrame:
    frame = rows.assign(unit=unit, step=step, reason=reason)
    return frame.reindex(columns=list(EXCLUDED_COLUMNS)).astype(object).fillna("")


def _gone(unit: str, members: _Members, gone: set[str], step: str, reason: str) -> pd.DataFrame:
    if unit == "subject":
        rows = pd.DataFrame({"subject_id": sorted(gone)})
    else:
        table = members.joints if unit == "joint" else members.scans
        names = ["subject_id", "joint_id", *(["scan_id"] if unit == "scan" else [])]
        rows = table.loc[table[_ID[unit]].isin(gone), names]
    return _excluded(unit, rows, step, reason)


def _verdict(
    variables: Variables,
    members: _Members,
    criterion: Criterion,
    visit: str,
    *,
    alone: bool = False,
) -> _Verdict:
    """Which units of those still in a criterion drops."""
    expression = parse(criterion.include or criterion.exclude)
    of_scan = criterion.unit == "scan"
    frame = members.scans if of_scan else members.joints
    if criterion.unit == "subject":
        # A person is judged by both joints, one that has gone before as well.
        frame = variables.joints[variables.joints["subject_id"].isin(set(frame["subject_id"]))]
    at = criterion.visit or (None if of_scan else visit)
    truth = expression.evaluate(CohortRows(variables, frame, at, of_scan=of_scan))
    units = frame[_ID[criterion.unit]].astype(str).to_numpy(dtype=object)
    if criterion.unit == "subject":
        units, truth = _of_subjects(units, truth, criterion.joints)
    unknown = np.asarray(truth.isna(), dtype=bool)
    if criterion.if_missing == "refuse" and unknown.any() and not alone:
        raise InputError(
            f"Criterion '{criterion.name}': {int(unknown.sum())} {_PLURAL[criterion.unit]} have a missing "
            "cell, so that the condition is unknown; say `if_missing: include` or `exclude`."
        )
    met = np.asarray(truth.fillna(False), dtype=bool)
    drop = ~met & ~unknown if criterion.include else met
    if criterion.if_missing != "include":
        drop = drop | unknown
    return _Verdict(gone=set(units[drop]), unknown=set(units[drop & unknown]))


def _of_subjects(
    subjects: NDArray[np.object_], truth: Truth, joints: str
) -> tuple[NDArray[np.object_], Truth]:
    """A subject's truth from that of the joints: unknown only where a missing cell decides."""
    value = np.where(truth.isna(), 0.5, np.asarray(truth.fillna(False), dtype=float))
    grouped = pd.Series(value).groupby(pd.Series(subjects), sort=True)
    found = grouped.max() if joints == "any" else grouped.min()
    values = found.to_numpy(dtype=float)
    return (
        found.index.to_numpy(dtype=object),
        pd.arrays.BooleanArray(values == 1.0, values == 0.5),
    )


def _select_scans(
    members: _Members,
    config: DefinitionConfig,
    flow: list[Mapping[str, object]],
    gone: list[pd.DataFrame],
) -> _Members:
    """Keep the scans to analyse, and drop joints without any where that is asked."""
    scans = members.scans
    rules = (
        ("other sequences", scans["sequence"].isin(config.sequences) | (not config.sequences)),
        ("other visits", scans["visit"].isin(config.visits) | (not config.visits)),
        ("rescans", (scans["rank"] == 0) | (not config.primary_only)),
    )
    for step, kept in rules:
        lost = set(members.scans.loc[~kept.reindex(members.scans.index), "scan_id"])
        if lost:
            after = members.without("scan", lost)
            flow.append(_row(step, "scan", members, after, step, 0))
            gone.append(_gone("scan", members, lost, step, step))
            members = after
    if config.scans_required:
        bare = set(members.joints["joint_id"]) - set(members.scans["joint_id"])
        if bare:
            after = members.without("joint", bare)
            reason = "no scan to analyse"
            flow.append(_row(reason, "joint", members, after, reason, 0))
            gone.append(_gone("joint", members, bare, reason, reason))
            members = after
    flow.append(_row("analysed", "joint", members, members, "", 0))
    return members
