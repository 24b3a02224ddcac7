"""The tables of a release, with the OAI's names, codes and quirks.

Enrollees, SubjectChar00, AllClinicalNN for each contact and kxr_sq_buNN for each visit with X-rays;
Outcomes99 has a module of its own. Cells go missing more often at later visits, and more often
among people in low mood and in pain: what is missing is not missing at random alone.
"""

import datetime
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.phantom.clinic import ITEMS, Item, clinic_visit, radiograph
from spinmark_data.phantom.config import IMAGING_VISITS, VISIT_MONTHS, PhantomConfig
from spinmark_data.phantom.outcomes import Outcomes
from spinmark_data.phantom.population import STREAM_MISSING, Floats, Population, normals
from spinmark_data.phantom.scan_plan import enrolment_dates, in_place
from spinmark_data.phantom.series_names import RELEASES
from spinmark_data.phantom.sheets import MISSING_FORM, NOT_EXPECTED, PHONE, VERSION, Sheet

PHONE_VISITS = ("V07", "V09", "V11", "V12")

_FILES = {
    "AllClinical08": "ALLCLINICAL08",
    "AllClinical11": "ALLCLINICAL11",
    "kxr_sq_bu01": "kXR_SQ_BU01",
    "kxr_sq_bu03": "kXR_SQ_BU03",
    "kxr_sq_bu10": "KXR_SQ_BU10",
}
_NO_YES = {0: "No", 1: "Yes"}
_SIDES = {1: "Right", 2: "Left"}
_KL = {0: "None", 1: "Doubtful", 2: "Minimal", 3: "Moderate", 4: "Severe"}
_JSN = {
    0: "None",
    1: "OARSI grade 1",
    1.2: "OARSI grade 1, within-grade change",
    1.4: "OARSI grade 1, within-grade change",
    2: "OARSI grade 2",
    2.2: "OARSI grade 2, within-grade change",
    2.4: "OARSI grade 2, within-grade change",
    3: "OARSI grade 3",
}
_OSTEOPHYTE = {0: "None", 1: "Grade 1", 2: "Grade 2", 3: "Grade 3"}
_IMAGES = {
    0: "No",
    1: "Yes, Knee MR only",
    2: "Yes, Knee Xray only",
    3: "Yes, Knee MR and knee xray",
}
_LETTERS = {
    "V00": "ABCDEFG",
    "V01": "ABCDEFG",
    "V02": "D",
    "V03": "ABCDEFG",
    "V04": "G",
    "V05": "ABCDEFG",
    "V06": "ABCDEFG",
    "V08": "ABCDEFG",
    "V10": "ABCDEFG",
}

# Written with a letter outside ASCII, as free text in a release may be.
_NOTES = ("", "na\u00efve to exercise", "slipped on ice", "caf\u00e9 step, twisted knee")


def date_text(date: datetime.date | None) -> str:
    """Write a date as the release does, month first."""
    return "" if date is None else f"{date:%m/%d/%Y}"


def visit_dates(population: Population, outcomes: Outcomes, visit: str) -> list[str]:
    """Date of a visit for each person, or an empty text if it was missed."""
    return [
        date_text(start + datetime.timedelta(days=int(day))) if np.isfinite(day) else ""
        for start, day in zip(enrolment_dates(population), outcomes.days[visit], strict=True)
    ]


def clinic_latents(latents: Floats, outcomes: Outcomes, visit: str) -> Floats:
    """Severity as the clinic meets it: none is left in a joint that was replaced."""
    replaced = outcomes.joints["replacement_days"].to_numpy()
    day = np.repeat(outcomes.days[visit].to_numpy(), 2)
    with np.errstate(invalid="ignore"):
        gone = (day >= replaced) | outcomes.joints["replaced_at_baseline"].to_numpy()
    return np.where(gone[:, None], 0.0, latents)


def _reasons(
    item: Item,
    uniform: Floats,
    rate: Floats,
    attended: NDArray[np.bool_],
    phone: bool,
) -> NDArray[np.object_]:
    """Missing reason of every person's cell, `""` where the value is shown."""
    out = np.full(len(uniform), "", dtype=object)
    if item.missing:
        punched = uniform < rate
        choice = (uniform / np.maximum(rate, 1e-12) * len(item.missing)).astype(int)
        for k, reason in enumerate(item.missing):
            out[punched & (choice == k)] = reason
    if phone and item.stem != "AGE":
        out[:] = PHONE
    out[~attended] = MISSING_FORM
    return out


def missing_rate(
    population: Population, womkp: Floats, visit: str, config: PhantomConfig
) -> Floats:
    """Chance that a cell of each person is missing at a visit that they made.

    Args:
        population: People and knees at enrolment.
        womkp: WOMAC pain of each knee at this visit.
        visit: The visit.
        config: Parameters of the cohort.
    """
    share = config.missing_baseline + config.missing_per_year * config.months(visit) / 12.0
    pain = np.clip((womkp.reshape(-1, 2).max(axis=1) - 3.4) / 3.9, -2.0, 2.0)
    tilt = 0.3 * population.subjects["mood"].to_numpy() + 0.2 * pain
    tilt = config.informative_missing * tilt - 0.07 * config.informative_missing**2
    return np.asarray(np.minimum(share * np.exp(tilt), 0.8))


def clinical_sheet(
    population: Population, latents: Floats, outcomes: Outcomes, visit: str, config: PhantomConfig
) -> Sheet:
    """Build AllClinicalNN: a row a person, in every table, whether they came or not."""
    stem = f"AllClinical{visit[1:]}"
    sheet = Sheet(stem=stem, file=_FILES.get(stem, stem))
    n = len(population.subjects)
    attended = np.isfinite(outcomes.days[visit].to_numpy())
    absent = np.where(attended, "", MISSING_FORM).astype(object)
    phone = visit in PHONE_VISITS
    seen = clinic_latents(latents, outcomes, visit)
    people, knees = clinic_visit(population, seen, visit, config)
    rate = missing_rate(population, knees["WOMKP"].to_numpy(), visit, config)
    order = list(VISIT_MONTHS).index(visit)
    uniform = ndtr(normals(config.seed, n, 2 * len(ITEMS), STREAM_MISSING, order))

    sheet.add("ID", population.subjects["subject_id"])
    sheet.add("VERSION", [VERSION] * n)
    if visit == "V00":
        sheet.add("V00EVDATE", visit_dates(population, outcomes, visit))
    else:
        sheet.add(f"{visit}FVDATE", visit_dates(population, outcomes, visit), reasons=absent)
    if config.months(visit) >= 24:
        sheet.add(f"{visit}VISDYS", outcomes.days[visit], reasons=absent)
    for k, item in enumerate(ITEMS):
        if item.baseline and visit != "V00":
            continue
        prefix = item.prefix if visit == "V00" else visit
        codes = item.codes or None
        for s, side in enumerate("RL" if item.sided else ("",)):
            source = knees[item.stem].to_numpy()[s::2] if item.sided else people[item.stem]
            reasons = _reasons(item, uniform[:, 2 * k + s], rate, attended, phone)
            sheet.add(f"{prefix}{item.stem}{side}", source, codes=codes, reasons=reasons)
    if visit == "V00":
        notes = [_NOTES[i % 4] if i % 3 == 0 else "" for i in range(n)]
        sheet.add("V00INJNOTE", notes)
    else:
        for s, side in enumerate("RL"):
            since = _replaced_since_last_contact(outcomes, visit, s)
            sheet.add(f"{visit}KRS{side}12", since, codes=_NO_YES, reasons=absent)
    return sheet


def _replaced_since_last_contact(outcomes: Outcomes, visit: str, side: int) -> Floats:
    replaced = outcomes.joints["replacement_days"].to_numpy()[side::2]
    names = list(outcomes.days.columns)
    earlier = outcomes.days[names[: names.index(visit)]].max(axis=1).to_numpy()
    with np.errstate(invalid="ignore"):
        since = (replaced > earlier) & (replaced <= outcomes.days[visit].to_numpy())
    return np.asarray(since.astype(float))


def subject_sheet(baseline: Sheet) -> Sheet:
    """Build SubjectChar00, which repeats some columns of AllClinical00."""
    sheet = Sheet(stem="SubjectChar00", file="SubjectChar00")
    for name in ("ID", "VERSION", "V00AGE", "V00EDCV", "V00PASE", "V00EVDATE"):
        sheet.truth[name] = baseline.truth[name]
        sheet.cells[name] = baseline.cells[name]
    return sheet


def xray_sheet(
    population: Population, latents: Floats, outcomes: Outcomes, visit: str, config: PhantomConfig
) -> Sheet:
    """Build kxr_sq_buNN: a row a knee and reading project."""
    stem = f"kxr_sq_bu{visit[1:]}"
    sheet = Sheet(stem=stem, file=_FILES.get(stem, stem))
    n = len(population.subjects)
    order = list(VISIT_MONTHS).index(visit)
    u = ndtr(normals(config.seed, n, 12, STREAM_MISSING, order, 1)).reshape(2 * n, 6)
    present = in_place(outcomes, visit) & (u[:, 0] > 0.01)
    grades = radiograph(population, latents, visit, config)
    late = config.months(visit) >= 72
    main = np.where(u[:, 1] < 0.2, "42", "37") if late else np.full(2 * n, "15")
    first = grades.assign(knee=np.arange(2 * n), READPRJ=main)
    # A sample of the early films was read again by the later project, by other eyes.
    again = first.assign(READPRJ="37")
    again["XRKL"] = np.clip(
        again["XRKL"] + np.where(u[:, 2] < 0.1, 1, 0) - np.where(u[:, 2] > 0.9, 1, 0), 0, 4
    )
    keep_again = present & (u[:, 3] < 0.08) & (not late)
    only_again = keep_again & (u[:, 4] < 0.1)
    table = pd.concat([first[present & ~only_again], again[keep_again]])
    table = table.sort_values(["knee", "READPRJ"], kind="stable")

    knee = table["knee"].to_numpy()
    person = knee // 2
    side = np.where(knee % 2 == 0, 1, 2)
    sheet.add("ID", population.joints["subject_id"].to_numpy()[knee])
    sheet.add("SIDE", side, codes=_SIDES if order % 2 == 0 else None)
    sheet.add("READPRJ", table["READPRJ"].to_numpy())
    sheet.add("VERSION", [VERSION] * len(table))
    dates = np.array(visit_dates(population, outcomes, visit), dtype=object)
    sheet.add(f"{visit}XRDATE", dates[person])
    barcodes = [
        "T" if u[j, 5] < 0.01 else f"0166{(j // 2 * 16 + order) * 2 + j % 2:08d}" for j in knee
    ]
    sheet.add(f"{visit}BARCDBU", barcodes)
    technical = np.where(u[knee, 5] > 0.99, ".T: Technical Problems", "").astype(object)
    sheet.add(f"{visit}XRKL", table["XRKL"], codes=_KL, reasons=technical)
    for name in ("XRJSM", "XRJSL"):
        sheet.add(f"{visit}{name}", table[name], codes=_JSN, reasons=technical)
    # Osteophytes are not graded in people without a knee of grade 2 or above.
    worst = table.groupby(person)["XRKL"].transform("max").to_numpy()
    ungraded = np.where(worst < 2, NOT_EXPECTED, technical).astype(object)
    for name in ("XROSFM", "XROSFL", "XROSTM", "XROSTL"):
        sheet.add(f"{visit}{name}", table[name], codes=_OSTEOPHYTE, reasons=ungraded)
    if visit == "V05":
        sheet.header["READPRJ"] = "readprj"
    if visit == "V03":
        sheet.header["V03XRKL"] = "v03XRKL"
    return sheet


def enrollees_sheet(
    population: Population,
    outcomes: Outcomes,
    plan: pd.DataFrame,
    baseline: Sheet,
    xrays: Mapping[str, Sheet],
) -> Sheet:
    """Build Enrollees with its sixty columns."""
    sheet = Sheet(stem="Enrollees", file="Enrollees")
    people = population.subjects
    n = len(people)
    sheet.add("ID", people["subject_id"])
    sheet.add("VERSION", [VERSION] * n)
    sheet.add("P02HISP", people["hispanic"], codes=_NO_YES)
    sheet.add(
        "P02RACE",
        people["race"],
        codes={
            0: "Other Non-white",
            1: "White or Caucasian",
            2: "Black or African American",
            3: "Asian",
        },
    )
    sheet.add("P02SEX", people["sex"], codes={1: "Male", 2: "Female"})
    halves = {1: "First half of cohort", 2: "Second half of cohort"}
    sheet.add("V00CHRTHLF", people["half"], codes=halves)
    groups = {1: "Progression", 2: "Incidence", 3: "Non-exposed control group"}
    sheet.add("V00COHORT", _cohort_group(population, baseline, xrays["V00"]), codes=groups)
    half = people["half"].to_numpy()
    for visit, letters in _LETTERS.items():
        if visit == "V01":
            sheet.add("V00SITE", people["site"])
            interim = {0: "No interim visit", 1: "18-month", 2: "30-month"}
            sheet.add("V01HADINTV", np.zeros(n), codes=interim)
        code = np.zeros(n)
        if visit in RELEASES:
            scanned = set(plan.loc[plan["visit"] == visit, "subject_id"]) if len(plan) else set()
            filmed = set(xrays[visit].truth["ID"]) if visit in xrays else set()
            ids = people["subject_id"]
            code = ids.isin(scanned).to_numpy() * 1.0 + ids.isin(filmed).to_numpy() * 2.0
        for letter in letters:
            mine = {"C": half == 1, "E": half == 2}.get(letter, np.zeros(n, bool))
            sheet.add(f"{visit}IMAGES{letter}", np.where(mine, code, 0.0), codes=_IMAGES)
    return sheet


def _cohort_group(population: Population, baseline: Sheet, films: Sheet) -> Floats:
    """Progression: a painful knee of grade 2 or above; control: no pain, no sign, no risk."""
    pain = np.stack([baseline.truth[f"V00WOMKP{side}"].to_numpy() for side in "RL"], axis=1)
    worst = (
        pd.DataFrame({"ID": films.truth["ID"], "KL": films.truth["V00XRKL"]})
        .groupby("ID")["KL"]
        .max()
        .reindex(population.subjects["subject_id"])
        .fillna(0)
        .to_numpy()
    )
    control = (pain.max(axis=1) == 0) & (worst == 0) & (population.subjects["bmi"] < 27)
    progression = (worst >= 2) & (pain.max(axis=1) >= 3)
    return np.where(progression, 1.0, np.where(control, 3.0, 2.0))


def build_sheets(
    population: Population,
    latents: Mapping[str, Floats],
    outcomes: Outcomes,
    plan: pd.DataFrame,
    config: PhantomConfig,
) -> list[Sheet]:
    """Build all tables but Outcomes99.

    Args:
        population: People and knees at enrolment.
        latents: Severity at each visit, `(joints, 4)`.
        outcomes: What happens to people and knees.
        plan: The scans.
        config: Parameters of the cohort.
    """
    clinical = {
        visit: clinical_sheet(population, latents[visit], outcomes, visit, config)
        for visit in config.follow_up_visits
    }
    xrays = {
        visit: xray_sheet(population, latents[visit], outcomes, visit, config)
        for visit in IMAGING_VISITS
        if visit in config.follow_up_visits
    }
    first = enrollees_sheet(population, outcomes, plan, clinical["V00"], xrays)
    return [first, subject_sheet(clinical["V00"]), *clinical.values(), *xrays.values()]
