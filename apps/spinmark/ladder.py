"""Blocks of the ladder of prognostic models that need more than a role of the dictionary."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from spinmark.designs import (
    CLINICAL_ROLES,
    GRADE,
    GRADES,
    HISTORY,
    NARROWING,
    PHENOTYPE,
    WIDTH,
    one_hot,
)
from spinmark.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from spinmark_data.features import Tables

OTHER_KNEE = "OTHER_KNEE_REPLACED"
REPLACEMENT = "replacement"
PROSTHESIS = "XRPROSTH"
# What the flow of an ingest says of a knee that was gone by enrolment.
GONE = ("replaced before enrolment", "a prosthesis on the film of enrolment")
# Reasons for which one knee of a person alone may be without an outcome, beside those.
OTHERWISE = ("replaced after death", "a time of zero or below")
_SIDES = {"R": "L", "L": "R"}

Tell = Callable[[str], None]


def _known(cohort: "Tables", name: str) -> bool:
    """Whether a variable of the dictionary has a value of any joint."""
    dictionary, joints = cohort.table("dictionary"), cohort.table("joints")
    named = (dictionary["variable"] == name).any()
    return bool(named and name in joints.columns and joints[name].notna().any())


def clinical_block(
    cohort: "Tables", scans: "pd.DataFrame", origin: "pd.Series | None", tell: Tell
) -> "pd.DataFrame":
    """Demographics, symptoms, function, injury, surgery, and the other knee's replacement.

    Args:
        cohort: Its tables.
        scans: `scan_id`, `subject_id`, `laterality`, `visit`, `joint_id` of each joint's first scan.
        origin: Days at which each joint's time begins, indexed by joint_id; 0 by default.
        tell: Called with a line for what the cohort lacks.

    Returns:
        A row a scan, indexed by scan_id.
    """
    from spinmark_data.features import clinical_features

    lacking = [name for name in HISTORY if not _known(cohort, name)]
    added = [name for name in HISTORY if name not in lacking]
    table = clinical_features(cohort, scans, roles=CLINICAL_ROLES, add=added)
    nominal = table.dictionary.loc[table.dictionary["kind"] == "nominal", "variable"]
    block = one_hot(table.values.drop(columns=lacking, errors="ignore"), list(nominal))
    if lacking:
        tell(f"clinical: the cohort has no {' and no '.join(lacking)}; left out")
    other = other_knee(cohort, scans, origin, tell)
    if not (other == 1).any():
        tell("clinical: no other knee is known to be replaced by the time origin; left out")
        return block
    return block.assign(**{OTHER_KNEE: other.to_numpy()})


def other_knee(
    cohort: "Tables", scans: "pd.DataFrame", origin: "pd.Series | None", tell: Tell
) -> "pd.Series":
    """Whether the other knee had been replaced when a joint's time begins.

    Of outcomes and films, only those up to that day count. A knee that was replaced before enrolment has no
    row among the outcomes; that is told by the flow of the ingest, which counts such knees.

    Args:
        cohort: Its tables.
        scans: `subject_id`, `laterality` and `joint_id`, a row a joint.
        origin: Days, indexed by joint_id; 0 by default.
        tell: Called with a line where the reason of a missing outcome is not certain.

    Returns:
        1, 0, or NaN where it is not known, in the order of the scans.
    """
    import numpy as np
    import pandas as pd

    side = scans["laterality"].map(_SIDES)
    other = scans["subject_id"].astype(str) + ":" + side.fillna("?")
    begin = np.zeros(len(scans))
    if origin is not None:
        begin = origin.reindex(scans["joint_id"]).fillna(0.0).to_numpy(dtype=float)
    outcomes = cohort.table("outcomes")
    rows = outcomes[outcomes["endpoint"] == REPLACEMENT].set_index("joint_id")
    event = rows["upper"].where(rows["cause"] == "event", np.inf)
    day = event.reindex(other).to_numpy(dtype=float)
    value = np.where(np.isnan(day), np.nan, (day <= begin).astype(float))
    flow = cohort.table("flow")
    reasons = flow.loc[flow["step"].astype(str).str.startswith("outcome: ")]
    counts = reasons.groupby("reason")["excluded"].sum()
    gone = int(counts.reindex(GONE).fillna(0).sum())
    # Follow-up is a person's: who has an outcome of one knee and not of the other lost that one before.
    alone = np.isnan(day) & scans["joint_id"].isin(rows.index).to_numpy() & side.notna().to_numpy()
    if gone:
        value[alone] = 1.0
        unsure = int(counts.reindex(OTHERWISE).fillna(0).sum())
        if unsure:
            tell(
                f"clinical: {int(alone.sum())} other knees without an outcome are taken to be replaced before "
                f"enrolment; {unsure} of the cohort were left out for another reason"
            )
    joints = cohort.table("joints")
    if PROSTHESIS in joints.columns:
        met = joints[joints[PROSTHESIS] == 1]
        first = met.groupby(met["subject_id"].astype(str) + ":" + met["laterality"])["days"].min()
        seen = first.reindex(other).to_numpy(dtype=float)
        value = np.where(seen <= begin, 1.0, value)
    return pd.Series(value, index=scans["joint_id"].to_numpy(), name=OTHER_KNEE)


def structure_block(cohort: "Tables", scans: "pd.DataFrame", tell: Tell) -> "pd.DataFrame":
    """The Kellgren-Lawrence grade and the joint space width, or its grades where no width was measured.

    Args:
        cohort: Its tables.
        scans: As `clinical_block`.
        tell: Called with a line for what the cohort lacks.

    Returns:
        A row a scan, indexed by scan_id.

    Raises:
        InputError: There is no grade.
    """
    from spinmark_data.features import clinical_features

    values = clinical_features(cohort, scans, roles=("structure",)).values
    if GRADE not in values.columns or values[GRADE].isna().all():
        raise InputError(f"structure: the cohort has no {GRADE} of these joints")
    columns = [GRADE]
    if WIDTH in values.columns and values[WIDTH].notna().any():
        columns.append(WIDTH)
    else:
        grades = [n for n in NARROWING if n in values.columns and values[n].notna().any()]
        instead = f"{' and '.join(grades)} (narrowing) stand in" if grades else "left out"
        tell(f"structure: the cohort has no joint space width ({WIDTH}); {instead}")
        columns += grades
    return values[columns].add_prefix(GRADES)


def phenotype_block(
    phenotypes: "xr.Dataset", scans: "pd.DataFrame", held_out: Iterable[str], tell: Tell
) -> "pd.DataFrame":
    """The probability of each phenotype at a joint's first scan, the commonest left out.

    Args:
        phenotypes: `label(scan)`, `probability(scan, phenotype)`, `fitted(scan)`, and `noise(scan)` of a
            method that tells noise; with `scan_id` and `subject_id`.
        scans: As `clinical_block`.
        held_out: Subjects that are scored.
        tell: Called with a line for joints without a phenotype.

    Returns:
        A row a scan, indexed by scan_id; NaN where the scan has no phenotype.

    Raises:
        InputError: The phenotypes were found on held-out subjects, or there is but one.
    """
    import numpy as np
    import pandas as pd

    subjects = phenotypes["subject_id"].to_numpy().astype(str)
    fitted = set(subjects[phenotypes["fitted"].to_numpy().astype(bool)])
    if leaked := sorted(fitted & {str(s) for s in held_out}):
        raise InputError(
            f"phenotype: the phenotypes were found on {len(leaked)} held-out subjects, such as {leaked[0]}; "
            "accepted are phenotypes of other subjects, or models without them"
        )
    index = phenotypes["scan_id"].to_numpy().astype(object)
    columns = phenotypes["probability"].to_numpy()
    if columns.shape[1] < 2:
        raise InputError("phenotype: there is but one phenotype, which tells nothing")
    # The commonest among those that the phenotypes were found on, so that no held-out subject decides.
    label = phenotypes["label"].to_numpy()[phenotypes["fitted"].to_numpy().astype(bool)]
    common = int(np.bincount(label[label >= 0].astype(int)).argmax())
    block: pd.DataFrame = (
        pd.DataFrame(columns, index=index).drop(columns=common).add_prefix(PHENOTYPE)
    )
    if "noise" in phenotypes:
        block[f"{PHENOTYPE}noise"] = phenotypes["noise"].to_numpy().astype(float)
    block = block.astype(float).reindex(scans["scan_id"])
    without = int(block.isna().all(axis=1).sum())
    if without:
        tell(f"phenotype: {without} of {len(block)} joints have none at their first scan; left out")
    return block
