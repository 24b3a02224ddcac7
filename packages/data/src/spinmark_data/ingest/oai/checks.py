"""Whether tables say what they can say: values in their ranges, and the totals of the whole OAI."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.files import Issue, issue

ENROLLED = 4796
COHORTS = {1: 1390, 2: 3284, 3: 122}
SEXES = {1: 1992, 2: 2804}
# Confirmed replacements as one public analysis counted them; other follow-up cuts differ.
REPLACEMENTS = {"R": 268, "L": 264}
# From this many enrolled on, a release claims to be the whole OAI.
CLAIMS = 4000
_ID = re.compile(r"9\d{6}")

# What an instrument or a body allows; wide, so that only another column's values fall outside.
RANGES: Mapping[str, tuple[float, float]] = {
    "AGE": (18, 110),
    "BMI": (10, 80),
    "CESD": (0, 60),
    "PASE": (0, 1000),
    "WOMKP": (0, 20),
    "WOMSTF": (0, 8),
    "WOMADL": (0, 68),
    "WOMTS": (0, 96),
    "KOOSKP": (0, 100),
    "KOOSYM": (0, 100),
    "KOOSQOL": (0, 100),
    "KOOSFSR": (0, 100),
    "SEX": (1, 2),
    "COHORT": (1, 3),
    "20MPACE": (0, 4),
    "400MTIM": (100, 2000),
    "XRKL": (0, 4.9),
    "XRJSM": (0, 3.9),
    "XRJSL": (0, 3.9),
    "MCMJSW": (0, 20),
    "FTANGLE": (-45, 45),
    "HKANGLE": (-45, 45),
}
# The labels that a code must not contradict: a table with swapped codes is worse than none.
LABELS: Mapping[str, Mapping[int, str]] = {
    "SEX": {1: "male", 2: "female"},
    "COHORT": {1: "progression", 2: "incidence", 3: "non-exposed"},
}
_FEW = 10


def check_values(
    name: str, values: pd.Series, unreadable: int, labels: Mapping[float, str], source: str
) -> list[Issue]:
    """Values that are outside a variable's range, or no numbers.

    Args:
        name: The variable.
        values: Its values, NaN where missing.
        unreadable: Cells that were no numbers.
        labels: Labels that came with its codes.
        source: The table.

    Raises:
        InputError: More than half of ten or more cells are outside or unreadable, so that the
            column is likely to be another one's; or a code has the label of another.
    """
    for code, label in labels.items():
        known = LABELS.get(name, {}).get(int(code))
        if known is not None and not label.casefold().startswith(known):
            raise InputError(
                f"{source}: code {code:g} of {name} is labelled otherwise than '{known}'; "
                "the codes or the columns are mixed up."
            )
    present = int(values.notna().sum()) + unreadable
    low, high = RANGES.get(name, (-np.inf, np.inf))
    outside = int(((values < low) | (values > high)).sum())
    if present >= _FEW and outside + unreadable > present / 2:
        bounds = f" between {low:g} and {high:g}" if name in RANGES else ""
        raise InputError(
            f"{source}: {outside + unreadable} of {present} cells of {name} are no numbers{bounds}; "
            "the columns look shifted."
        )
    if not outside:
        return []
    reason = f"{outside} values of {name} lie outside {low:g} to {high:g}"
    return [issue(source, "repaired", reason, "kept as they are; look at them")]


def check_strangers(source: str, strangers: int, rows: int) -> list[Issue]:
    """Rows whose id is nobody's who enrolled.

    Raises:
        InputError: More than half of ten or more rows.
    """
    if rows >= _FEW and strangers > rows / 2:
        raise InputError(
            f"{source}: {strangers} of {rows} rows have an id that Enrollees does not hold; the "
            "columns look shifted, or the tables are of two releases."
        )
    if not strangers:
        return []
    return [
        issue(
            source,
            "quarantined",
            f"{strangers} rows have an id that Enrollees does not hold",
            "the rows were left out",
        )
    ]


def claims_whole(n_subjects: int, config: OaiConfig) -> bool:
    """Whether a release claims to be the whole OAI."""
    return config.whole == "true" or (config.whole == "auto" and n_subjects >= CLAIMS)


def check_totals(
    subjects: pd.DataFrame, visits: pd.DataFrame, outcomes: pd.DataFrame, config: OaiConfig
) -> list[Issue]:
    """Compare a release that claims to be the whole OAI with what is known of it.

    Args:
        subjects: With `subject_id`, `COHORT` and `SEX`.
        visits: With `subject_id`, `visit` and `AGE`.
        outcomes: With `laterality`, `lower`, `upper` and `cause`.
        config: Whether it claims so.

    Returns:
        A row that says that the totals hold, or one a count of replacements that differs.

    Raises:
        InputError: The number enrolled, the cohorts, the sexes, the form of the ids or the ageing
            over 48 months differ.
    """
    if not claims_whole(len(subjects), config):
        return []
    wrong = []
    if len(subjects) != ENROLLED:
        wrong.append(f"{len(subjects)} are enrolled, not {ENROLLED}")
    odd = int((~subjects["subject_id"].astype(str).map(lambda x: bool(_ID.fullmatch(x)))).sum())
    if odd:
        wrong.append(f"{odd} ids are not seven digits that begin with 9")
    for name, known in (("COHORT", COHORTS), ("SEX", SEXES)):
        if name not in subjects:
            wrong.append(f"{name} is absent")
            continue
        found = {code: int((subjects[name] == code).sum()) for code in known}
        if found != known:
            shown = "/".join(str(n) for n in found.values())
            wrong.append(f"{name} is {shown}, not {'/'.join(str(n) for n in known.values())}")
    aged = _ageing(visits)
    if aged is not None and abs(aged - 4.0) > 0.5:
        wrong.append(f"V06AGE - V00AGE is {aged:.2f} years on average, not about 4")
    if wrong:
        raise InputError(
            f"The release claims to be the whole OAI, but {'; '.join(wrong)}. "
            "Set oai.whole: false if it is a part."
        )
    checked = "the whole OAI: enrolled, cohorts, sexes, ids and ageing are as known"
    rows = [issue("Enrollees", "repaired", checked, "none needed")]
    exact = outcomes[(outcomes["cause"] == "event") & (outcomes["lower"] == outcomes["upper"])]
    for side, count in REPLACEMENTS.items():
        found_here = int((exact["laterality"] == side).sum())
        if found_here != count:
            rows.append(
                issue(
                    "Outcomes99",
                    "repaired",
                    f"{found_here} confirmed replacements of side {side}; one analysis had {count}",
                    "kept; follow-up cuts differ between releases",
                )
            )
    return rows


def _ageing(visits: pd.DataFrame) -> float | None:
    if "AGE" not in visits:
        return None
    ages = visits.pivot_table(index="subject_id", columns="visit", values="AGE")
    if "V00" not in ages or "V06" not in ages:
        return None
    grown = (ages["V06"] - ages["V00"]).dropna()
    return float(grown.mean()) if len(grown) else None
