"""Groups of people in which a prognosis is scored: sex, race, body mass and site."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from spinmark_data.features import Tables

# Name in the report -> variable of the table of subjects.
OF_SUBJECT = {"sex": "SEX", "race": "RACE", "site": "SITE"}
BODY_MASS = "BMI"


def people(cohort: "Tables", scans: "pd.DataFrame") -> "pd.DataFrame":
    """The groups that each joint's person belongs to at its first scan.

    Args:
        cohort: Its tables.
        scans: `subject_id`, `visit` and `joint_id`, a row a joint.

    Returns:
        A column a variable that the cohort has, indexed by joint_id; words where the dictionary has some.
    """
    import pandas as pd

    from spinmark_biomarkers.survival.validation.subgroups import bmi_class

    subjects = cohort.table("subjects").set_index("subject_id")
    dictionary = cohort.table("dictionary").drop_duplicates("variable").set_index("variable")
    found = {}
    for name, variable in OF_SUBJECT.items():
        if variable not in subjects.columns or subjects[variable].isna().all():
            continue
        values = subjects[variable].reindex(scans["subject_id"])
        codes = dictionary["codes"].get(variable)
        words = {float(k): v for k, v in json.loads(codes).items()} if codes else {}
        found[name] = (values.map(words).where(values.notna()) if words else values).to_numpy()
    visits = cohort.table("visits")
    if BODY_MASS in visits.columns and visits[BODY_MASS].notna().any():
        # Measured at some visits only: the latest value up to the scan's.
        known = visits.dropna(subset=[BODY_MASS]).sort_values("days", kind="stable")
        day = visits.set_index(["subject_id", "visit"])["days"]
        keys = pd.MultiIndex.from_frame(scans[["subject_id", "visit"]])
        at = pd.DataFrame(
            {
                "subject_id": scans["subject_id"].to_numpy(),
                "days": day.reindex(keys).fillna(0.0).to_numpy(dtype=float),
                "place": range(len(scans)),
            }
        ).sort_values("days", kind="stable")
        merged = pd.merge_asof(
            at, known[["subject_id", "days", BODY_MASS]].astype({"days": float}),
            on="days", by="subject_id",
        ).sort_values("place")  # fmt: skip
        found["body mass index"] = bmi_class(merged[BODY_MASS].to_numpy(dtype=float))
    return pd.DataFrame(found, index=scans["joint_id"].to_numpy())
