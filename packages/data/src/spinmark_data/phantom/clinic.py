"""What the clinic notes about a knee and its owner, generated from the same latents as the images.

Symptoms follow structure only in part: sensitisation, mood and body mass act on them as well, and
inflammation hurts more than lost cartilage. Radiographic grades follow osteophytes and cartilage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.phantom.config import VISIT_MONTHS, PhantomConfig
from spinmark_data.phantom.coupling import Seen, seen_by_clinic
from spinmark_data.phantom.population import (
    STREAM_CLINIC,
    STREAM_READER,
    Floats,
    Population,
    normals,
    smooth_positive,
)

_NO_YES = {0: "No", 1: "Yes"}
_GRADES = {0: "None", 1: "Mild", 2: "Moderate", 3: "Severe"}


@dataclass(frozen=True, kw_only=True)
class Item:
    """A variable of the clinic.

    Args:
        stem: Name without visit prefix and side suffix.
        label: What it is, with the unit.
        role: Role that the cohort's dictionary should give it.
        sided: Whether it has a column for each knee.
        missing: Reasons that missing cells carry; a space stands for a cell left blank.
        codes: Labels of the codes of a coded variable.
        baseline: Asked at enrolment only.
        prefix: Prefix at enrolment.
    """

    stem: str
    label: str
    role: str
    sided: bool
    missing: tuple[str, ...] = (".M: Missing",)
    codes: Mapping[int, str] = field(default_factory=dict)
    baseline: bool = False
    prefix: str = "V00"


_FORM = (".M: Missing", ".R: Refused", ".D: Don't Know/Unknown/Uncertain")
_EXAM = (".U: Unable to examine", ".M: Missing", ".R: Refused")
_WALK = (".T: Technical Problems", ".O: Not done, other reason", ".R: Refused")

# The stems of the examination (BONENL to ALIGN) are the phantom's own: the OAI examines knees too,
# but its names for these items have not been seen.
ITEMS: tuple[Item, ...] = (
    Item(stem="AGE", label="Age in years", role="demographic", sided=False, missing=()),
    Item(stem="BMI", label="Body mass index, kg/m2", role="demographic", sided=False, prefix="P01"),
    Item(stem="CESD", label="CES-D score, 0 to 60", role="symptom", sided=False, missing=_FORM),
    Item(stem="PASE", label="Activity score", role="function", sided=False, missing=(" ",)),
    Item(stem="COMORB", label="Charlson index", role="demographic", sided=False, missing=_FORM),
    Item(stem="20MPACE", label="20 m pace, m/s", role="function", sided=False, missing=_WALK),
    Item(stem="400MTIM", label="400 m walk, s", role="function", sided=False, missing=_WALK),
    Item(stem="KOOSQOL", label="KOOS quality of life", role="symptom", sided=False, missing=_FORM),
    Item(stem="KOOSFSR", label="KOOS recreation", role="function", sided=False, missing=_FORM),
    Item(
        stem="EDCV",
        label="Highest grade or year of school",
        role="demographic",
        sided=False,
        missing=_FORM,
        codes={
            0: "Less than high school graduate",
            1: "High school graduate",
            2: "Some college",
            3: "College graduate",
            4: "Some graduate school",
            5: "Graduate degree",
        },
        baseline=True,
    ),
    Item(
        stem="FAMKR",
        label="Family history of knee replacement",
        role="demographic",
        sided=False,
        missing=_FORM,
        codes=_NO_YES,
        baseline=True,
        prefix="P01",
    ),
    Item(
        stem="INJ",
        label="Knee injury, ever",
        role="symptom",
        sided=True,
        missing=_FORM,
        codes=_NO_YES,
        baseline=True,
        prefix="P01",
    ),
    Item(
        stem="KSURG",
        label="Knee surgery, ever",
        role="treatment",
        sided=True,
        missing=_FORM,
        codes=_NO_YES,
        baseline=True,
        prefix="P01",
    ),
    Item(stem="WOMKP", label="WOMAC pain, 0 to 20", role="symptom", sided=True, missing=(" ",)),
    Item(stem="WOMSTF", label="WOMAC stiffness, 0 to 8", role="symptom", sided=True),
    Item(stem="WOMADL", label="WOMAC disability, 0 to 68", role="function", sided=True),
    Item(stem="WOMTS", label="WOMAC total, 0 to 96", role="symptom", sided=True),
    Item(stem="KOOSKP", label="KOOS pain, 100 best", role="symptom", sided=True, missing=_FORM),
    Item(stem="KOOSYM", label="KOOS symptoms, 100 best", role="symptom", sided=True, missing=_FORM),
    Item(
        stem="SWELL",
        label="Knee swelling in the past week",
        role="symptom",
        sided=True,
        missing=_FORM,
        codes={0: "Never", 1: "Rarely", 2: "Sometimes", 3: "Often", 4: "Always"},
    ),
    Item(stem="WBPN", label="Pain on weight-bearing, 0 to 10", role="symptom", sided=True),
    Item(
        stem="BONENL",
        label="Bony enlargement on examination",
        role="function",
        sided=True,
        missing=_EXAM,
        codes=_GRADES,
    ),
    Item(
        stem="BULGE",
        label="Bulge sign on examination",
        role="function",
        sided=True,
        missing=_EXAM,
        codes={0: "None", 1: "Trace", 2: "Small", 3: "Large"},
    ),
    Item(
        stem="CREPIT",
        label="Crepitus on examination",
        role="function",
        sided=True,
        missing=_EXAM,
        codes=_GRADES,
    ),
    Item(
        stem="BONTND",
        label="Bony tenderness on examination",
        role="function",
        sided=True,
        missing=_EXAM,
        codes=_GRADES,
    ),
    Item(stem="FLEXDG", label="Flexion, degrees", role="function", sided=True, missing=_EXAM),
    Item(
        stem="ALIGN",
        label="Alignment on examination, degrees, varus positive",
        role="function",
        sided=True,
        missing=_EXAM,
    ),
)

# Where the questionnaires' scales begin and how fast they climb: the OAI's means and standard
# deviations at enrolment, which most people's silence and some people's pain make (see calibration).
SYMPTOM_GROWTH = 1.3
PAIN_FROM, PAIN_STEEP = 0.51, 4.74
ADL_FROM, ADL_STEEP = 0.52, 16.4
KOOS_FROM, KOOS_STEEP = 0.10, 18.9
SYMPTOM_FROM, SYMPTOM_STEEP = 0.31, 19.4

# Cuts of the continuous severity between the Kellgren-Lawrence grades.
KL_CUTS = (0.57, 0.83, 1.50, 2.10)
KL_ERROR = 0.20
"""Standard deviation of the reader's error on that severity."""

# Share of a noise term's variance that stays with the person or knee over the visits.
_TRAIT = 0.5
_SIDED_NOISE, _PERSON_NOISE, _ENROLMENT = 13, 8, 8


def _grade(value: Floats, *cuts: float) -> Floats:
    """Count the cuts below each value."""
    return np.asarray(np.searchsorted(cuts, value).astype(float))


def _noise(population: Population, seed: int, visit: str, stream: int, width: int) -> Floats:
    """Unit normal noise `(subjects, width)` of which a part persists over the visits."""
    n = len(population.subjects)
    lasting = normals(seed, n, width, stream, 99)
    passing = normals(seed, n, width, stream, list(VISIT_MONTHS).index(visit))
    return np.asarray(np.sqrt(_TRAIT) * lasting + np.sqrt(1 - _TRAIT) * passing)


def clinic_visit(
    population: Population, latents: Floats, visit: str, config: PhantomConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Generate what the clinic notes at one visit, before any cell goes missing.

    Args:
        population: People and knees at enrolment.
        latents: Severity at this visit, `(joints, 4)`; zeros for a replaced knee.
        visit: Name of the visit.
        config: Parameters of the cohort.

    Returns:
        A frame with a row a person and one with a row a knee; columns are stems of `ITEMS`.
    """
    people = population.subjects
    n = len(people)
    years = config.months(visit) / 12.0
    z = _noise(population, config.seed, visit, STREAM_CLINIC, 2 * _SIDED_NOISE + _PERSON_NOISE)
    e = z[:, : 2 * _SIDED_NOISE].reshape(2 * n, _SIDED_NOISE)
    p = z[:, 2 * _SIDED_NOISE :]
    seen = seen_by_clinic(population, latents, visit, config)
    bone, cartilage, inflammation, hypertrophy = seen.examined.T
    felt_bone, felt_cartilage, felt_inflammation, felt_hypertrophy = seen.felt.T

    def of_knee(column: NDArray[np.floating]) -> Floats:
        return np.repeat(column, 2).astype(np.float64)

    bmi = np.round(np.clip(people["bmi"].to_numpy() + 0.06 * years + 0.5 * p[:, 0], 16, 50), 1)
    if visit == "V00":
        bmi = people["bmi"].to_numpy()
    age = np.floor(people["age"].to_numpy() + years)
    bmi_z = (bmi - 28.6) / 4.8
    age_z = (age - 61.0) / 9.0
    mood = people["mood"].to_numpy()
    sensitisation = people["sensitisation"].to_numpy()
    person = of_knee(0.55 * sensitisation + 0.25 * mood + 0.18 * bmi_z)

    structural = (
        0.30 * felt_bone
        + 0.30 * felt_cartilage
        + 0.60 * felt_inflammation
        + 0.15 * felt_hypertrophy
    )
    pain = structural + person + 0.35 * e[:, 0]
    womkp = np.clip(np.round(PAIN_STEEP * _symptom(pain - PAIN_FROM)), 0, 20)
    stiffness = 0.7 * felt_inflammation + 0.5 * felt_hypertrophy + 0.7 * person + 0.45 * e[:, 1]
    womstf = np.clip(np.round(1.6 * smooth_positive(stiffness - 0.2, 2.0)), 0, 8)
    disability = 0.85 * pain + 0.2 * felt_cartilage + of_knee(0.12 * age_z) + 0.3 * e[:, 2]
    womadl = np.clip(np.round(ADL_STEEP * _symptom(disability - ADL_FROM)), 0, 68)
    symptoms = (
        0.2 * felt_bone + 0.2 * felt_cartilage + 0.8 * felt_inflammation + 0.45 * felt_hypertrophy
    )
    koosym = 100.0 - SYMPTOM_STEEP * _symptom(
        symptoms + 0.5 * person + 0.4 * e[:, 3] - SYMPTOM_FROM
    )
    kooskp = 100.0 - KOOS_STEEP * _symptom(pain + 0.2 * e[:, 4] - KOOS_FROM)
    varus = 1.0 + 4.0 * cartilage * (seen.medial - 0.4)
    joints = pd.DataFrame(
        {
            "WOMKP": womkp,
            "WOMSTF": womstf,
            "WOMADL": womadl,
            "WOMTS": womkp + womstf + womadl,
            # The questionnaire's steps: 9 and 7 items of 0 to 4.
            "KOOSKP": np.round(np.round(np.clip(kooskp, 0, 100) * 0.36) / 0.36, 1),
            "KOOSYM": np.round(np.round(np.clip(koosym, 0, 100) * 0.28) / 0.28, 1),
            "SWELL": _grade(felt_inflammation + 0.1 * person + 0.55 * e[:, 5], 0.5, 0.9, 1.5, 2.3),
            "WBPN": np.clip(np.round(2.2 * felt_bone + 1.2 * person + 1.3 * e[:, 6]), 0, 10),
            "BONENL": _grade(hypertrophy + 0.10 * cartilage + 0.48 * e[:, 7], 0.6, 1.2, 2.0),
            "BULGE": _grade(inflammation + 0.48 * e[:, 8], 0.6, 1.2, 2.0),
            "CREPIT": _grade(cartilage + 0.10 * hypertrophy + 0.48 * e[:, 9], 0.6, 1.2, 2.0),
            "BONTND": _grade(bone + 0.15 * person + 0.48 * e[:, 10], 0.6, 1.2, 2.0),
            "FLEXDG": np.round(
                np.clip(
                    139.0
                    - 6.0 * hypertrophy
                    - 4.0 * inflammation
                    - of_knee(2.5 * bmi_z)
                    + 4.0 * e[:, 11],
                    60,
                    155,
                )
            ),
            "ALIGN": np.round(varus + 1.5 * e[:, 12]),
        }
    )
    worse = pain.reshape(n, 2).max(axis=1)
    pace = 1.36 - 0.06 * age_z - 0.05 * bmi_z - 0.06 * worse + 0.13 * p[:, 1]
    activity = 165.0 - 32.0 * age_z - 12.0 * bmi_z - 10.0 * worse
    burden = people["comorbidity_z"].to_numpy()
    subjects = pd.DataFrame(
        {
            "AGE": age,
            "BMI": bmi,
            "CESD": np.clip(np.round(5.2 * np.exp(0.75 * mood + 0.25 * p[:, 2])), 0, 60),
            "PASE": np.clip(np.round(activity + 62.0 * p[:, 3]), 0, 500),
            "COMORB": _grade(burden + 0.03 * years, 0.75, 1.35, 1.9, 2.4),
            "20MPACE": np.round(np.clip(pace, 0.4, 2.2), 3),
            "400MTIM": np.round(400.0 / np.clip(pace + 0.05 * p[:, 4], 0.45, 2.2), 1),
            "KOOSQOL": _steps(96.0 - 17.0 * worse - 5.0 * mood + 11.0 * p[:, 5], 16),
            "KOOSFSR": _steps(95.0 - 17.0 * worse - 7.0 * bmi_z + 12.0 * p[:, 6], 20),
        }
    )
    if visit == "V00":
        _add_history(subjects, joints, seen, config)
    return subjects, joints


def _symptom(value: Floats) -> Floats:
    """Most people have few symptoms and some have many: a rounded ramp, growing faster than linearly."""
    return np.asarray(smooth_positive(value, 4.0) ** SYMPTOM_GROWTH)


def _steps(value: Floats, steps: int) -> Floats:
    """Round a 0 to 100 scale to the steps that its questionnaire can give."""
    return np.asarray(np.round(np.round(np.clip(value, 0, 100) * steps / 100) * 100 / steps, 1))


def _add_history(
    subjects: pd.DataFrame, joints: pd.DataFrame, seen: Seen, config: PhantomConfig
) -> None:
    """Add what is asked at enrolment only, in place."""
    n = len(subjects)
    u = ndtr(normals(config.seed, n, _ENROLMENT, STREAM_CLINIC, 98))
    subjects["EDCV"] = seen.population.subjects["education"].to_numpy(float)
    subjects["FAMKR"] = (u[:, 0] < 0.15).astype(float)
    risk = 0.16 + 0.10 * (seen.phenotype == 2)
    joints["INJ"] = (u[:, 1:3].reshape(-1) < risk).astype(float)
    surgery = 0.05 + 0.25 * joints["INJ"].to_numpy() + 0.10 * (seen.at_enrolment[:, 1] > 1.2)
    joints["KSURG"] = (u[:, 3:5].reshape(-1) < surgery).astype(float)


def radiograph(
    population: Population, latents: Floats, visit: str, config: PhantomConfig
) -> pd.DataFrame:
    """Grade the radiographs of one visit, as one reader sees them.

    Kellgren-Lawrence grades follow osteophytes and cartilage, narrowing follows cartilage on the
    diseased side. After enrolment, worsening within a grade of narrowing adds a decimal (1.2).

    Args:
        population: People and knees at enrolment.
        latents: Severity at this visit, `(joints, 4)`.
        visit: Name of the visit.
        config: Parameters of the cohort.

    Returns:
        A row a knee: `XRKL`, `XRJSM`, `XRJSL`, `XROSFM`, `XROSFL`, `XROSTM`, `XROSTL`.
    """
    n = len(population.subjects)
    width = 8
    lasting = normals(config.seed, n, 2 * width, STREAM_READER, 99).reshape(2 * n, width)
    order = list(VISIT_MONTHS).index(visit)
    passing = normals(config.seed, n, 2 * width, STREAM_READER, order).reshape(2 * n, width)
    # Readers see the films of a knee side by side, so most of their error stays with the knee.
    e = np.sqrt(0.8) * lasting + np.sqrt(0.2) * passing
    seen = seen_by_clinic(population, latents, visit, config)
    latents = seen.examined
    _, cartilage, _, hypertrophy = latents.T
    medial = seen.medial
    out = {"XRKL": _grade(kl_score(latents) + KL_ERROR * e[:, 0], *KL_CUTS)}
    for k, (name, share) in enumerate((("XRJSM", medial), ("XRJSL", 1.0 - medial)), start=1):
        narrowing = cartilage * np.minimum(1.0, 1.3 * share) + 0.20 * e[:, k]
        cuts = (0.65, 1.3, 2.2)
        grade = _grade(narrowing, *cuts)
        if visit != "V00":
            start = seen.at_enrolment[:, 1] * np.minimum(1.0, 1.3 * share)
            gained = narrowing - 0.20 * e[:, k] - start
            within = (grade >= 1) & (grade <= 2) & (gained > 0.1)
            grade = grade + np.where(within, np.where(gained > 0.25, 0.4, 0.2), 0.0)
        out[name] = np.round(grade, 1)
    for k, (name, share) in enumerate(
        (("XROSFM", medial), ("XROSFL", 1 - medial), ("XROSTM", medial), ("XROSTL", 1 - medial)),
        start=3,
    ):
        out[name] = _grade(hypertrophy * (0.6 + 0.6 * share) + 0.25 * e[:, k], 0.6, 1.3, 2.2)
    return pd.DataFrame(out)


def kl_score(latents: Floats) -> Floats:
    """The continuous severity of which the Kellgren-Lawrence grade is a coarse reading."""
    _, cartilage, _, hypertrophy = latents.T
    return np.asarray(0.75 * hypertrophy + 0.75 * cartilage)
