"""What is published of the OAI's people, and how the default cohort compares.

Each target names its source, which was read (an abstract, a table or a text, by its DOI, its PMC number
or its address). What could not be found in a source that was read has no target and stands in
`UNSOURCED`. `nox` tests hold the default cohort to every target within its tolerance.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinmark_data.phantom.clinic import clinic_visit, radiograph
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.outcomes import DAYS_PER_YEAR, simulate_outcomes
from spinmark_data.phantom.population import sample_population

SOURCES = {
    "release": "counts of the OAI's public release (Enrollees and Outcomes99), as third parties state them",
    "replacements": "github.com/ParkerCase/KiHealth, OUTCOME_DEFINITION_DOCUMENTATION.md: confirmed "
    "replacements counted in Outcomes99 of the OAI's public release, 4,796 people",
    "tka": "OARSI abstract on 5-year arthroplasty, 4,674 people of the OAI: discovery.researcher.life/"
    "article/74bf41b90d9d352c9ba3bdfe03c47b72 (read there; its DOI was not found)",
    "ages": "doi:10.1038/s41598-023-33934-1",
    "worst_knee": "PMC6284324, table 1: 4,311 people of the OAI with a grade (medians and numbers by cohort, "
    "added up; taken to be the worse knee's, which the table does not say)",
    "end_stage": "PMC9840689: 7,691 knees of 4,165 people of the OAI",
    "arthroplasty": "doi:10.1007/s11999-012-2328-1: 116 people of the OAI within 3 years",
    "mortality": "PMC8606227: 282 of 4,796 people of the OAI died within 96 months",
    "attendance": "doi:10.3109/03009742.2015.1021376: people of the OAI aged 60 and above with data at 6 years",
}
"""Where each number was read."""

UNSOURCED = (
    "attendance at 12, 24, 36, 48 and 96 months",
    "share of cells missing by visit",
    "correlation of Kellgren-Lawrence grade with pain",
    "correlation between a person's knees",
    "change of the Kellgren-Lawrence grade over time",
)
"""What was looked for and not found as a number in a source that could be read: not calibrated."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A published number and how near the default cohort has to come.

    Args:
        name: Key in what `realised` returns.
        label: What it is.
        value: The published number.
        tolerance: Largest distance accepted at 2,000 people: about three standard errors of such a
            cohort, or more where the phantom's form cannot come nearer.
        source: Key of `SOURCES`.
    """

    name: str
    label: str
    value: float
    tolerance: float
    source: str


def _target(name: str, label: str, value: float, tolerance: float, source: str) -> Target:
    return Target(name=name, label=label, value=value, tolerance=tolerance, source=source)


TARGETS: tuple[Target, ...] = (
    _target("women", "women, share", 2804 / 4796, 0.035, "release"),
    _target("age_mean", "age, mean (years)", 61.32, 0.65, "tka"),
    _target("age_sd", "age, standard deviation", 9.17, 0.4, "tka"),
    _target("age_min", "age, lowest", 45.0, 0.99, "ages"),
    _target("age_max", "age, highest", 79.0, 0.99, "ages"),
    _target("bmi_mean", "body mass index, mean (kg/m2)", 28.74, 0.35, "tka"),
    _target("bmi_sd", "body mass index, standard deviation", 4.82, 0.3, "tka"),
    _target("white", "white, share", 0.7875, 0.03, "tka"),
    _target("kl01", "knees of grade 0 or 1, share", 0.60, 0.04, "end_stage"),
    _target(
        "worse_kl0", "people whose worse knee has grade 0, share", 1145 / 4311, 0.035, "worst_knee"
    ),
    _target("worse_kl1", "grade 1", 669 / 4311, 0.035, "worst_knee"),
    _target("worse_kl2", "grade 2", 1331 / 4311, 0.04, "worst_knee"),
    _target("worse_kl3", "grade 3", 874 / 4311, 0.03, "worst_knee"),
    _target("worse_kl4", "grade 4", 292 / 4311, 0.02, "worst_knee"),
    _target("pain_mean", "WOMAC pain, mean of both knees (0 to 20)", 2.475, 0.25, "tka"),
    _target("pain_sd", "WOMAC pain, standard deviation", 3.345, 0.25, "tka"),
    _target("disability_mean", "WOMAC disability, mean of both knees (0 to 68)", 8.325, 0.8, "tka"),
    _target("disability_sd", "WOMAC disability, standard deviation", 11.035, 0.9, "tka"),
    _target("koos_pain_mean", "KOOS pain, mean (right knee)", 83.56, 1.3, "tka"),
    _target("koos_pain_sd", "KOOS pain, standard deviation", 17.37, 1.2, "tka"),
    _target("koos_symptoms_mean", "KOOS symptoms, mean (right knee)", 85.95, 1.2, "tka"),
    _target("koos_symptoms_sd", "KOOS symptoms, standard deviation", 14.60, 1.0, "tka"),
    _target(
        "replaced_2y",
        "people with a replacement in 730 days, share",
        68 / 4796,
        0.009,
        "replacements",
    ),
    _target("replaced_3y", "within 3 years", 116 / 4796, 0.011, "arthroplasty"),
    _target("replaced_4y", "within 1,460 days", 171 / 4796, 0.013, "replacements"),
    _target(
        "known_knees", "knees with a confirmed replacement, share", 532 / 9592, 0.013, "release"
    ),
    _target("dead_8y", "dead within 96 months, share", 282 / 4796, 0.016, "mortality"),
    _target("seen_6y", "aged 60 and above, seen at 72 months, share", 0.719, 0.05, "attendance"),
)
"""The numbers, in the order of the page that shows them."""


def realised(config: PhantomConfig) -> dict[str, float]:
    """Measure a cohort as the sources measured the OAI: tables only, no image is made.

    Args:
        config: Parameters of the cohort.

    Returns:
        A number for the name of every target, and a few without one: `kl_pain` (Spearman),
        `knees_kl` and `knees_pain` (Pearson between a person's knees), `seen_V01` and so on,
        `replaced_kl01` (knees of grade 0 or 1 replaced in nine years, share).
    """
    population = sample_population(config)
    latents = population.latents
    _, knees = clinic_visit(population, latents, "V00", config)
    grade = radiograph(population, latents, "V00", config)["XRKL"].to_numpy()
    pain = knees["WOMKP"].to_numpy()
    outcomes = simulate_outcomes(population, pain, config)
    people = population.subjects
    replaced = outcomes.joints["replacement_days"].to_numpy()
    first = replaced.reshape(-1, 2).min(axis=1)
    exact = outcomes.joints["observed_lower"] == outcomes.joints["observed_upper"]
    known = exact & (outcomes.joints["observed_cause"] == "event")
    found = {
        "women": float((people["sex"] == 2).mean()),
        "white": float((people["race"] == 1).mean()),
        "age_min": float(np.floor(people["age"].min())),
        "age_max": float(np.ceil(people["age"].max())),
        "kl01": float((grade < 2).mean()),
        "replaced_2y": float((first <= 730).mean()),
        "replaced_3y": float((first <= 3 * DAYS_PER_YEAR).mean()),
        "replaced_4y": float((first <= 1460).mean()),
        "replaced_kl01": float((replaced[grade < 2] <= 9 * DAYS_PER_YEAR).mean()),
        "known_knees": float(known.mean()),
        "dead_8y": float((outcomes.subjects["death_days"] <= 8 * DAYS_PER_YEAR).mean()),
        "kl_pain": float(pd.Series(grade).corr(pd.Series(pain), method="spearman")),
        "knees_kl": float(np.corrcoef(grade[::2], grade[1::2])[0, 1]),
        "knees_pain": float(np.corrcoef(pain[::2], pain[1::2])[0, 1]),
    }
    for name, values in (
        ("age", people["age"]),
        ("bmi", people["bmi"]),
        ("pain", knees["WOMKP"]),
        ("disability", knees["WOMADL"]),
        ("koos_pain", knees["KOOSKP"]),
        ("koos_symptoms", knees["KOOSYM"]),
    ):
        found[f"{name}_mean"], found[f"{name}_sd"] = float(values.mean()), float(values.std())
    worse = grade.reshape(-1, 2).max(axis=1)
    found |= {f"worse_kl{k}": float((worse == k).mean()) for k in range(5)}
    came = np.isfinite(outcomes.days)
    found |= {f"seen_{visit}": float(came[visit].mean()) for visit in came}
    if "V08" in came:
        found["seen_6y"] = float(came["V08"][people["age"] >= 60].mean())
    return found


def comparison(config: PhantomConfig) -> pd.DataFrame:
    """Set a cohort beside the published numbers.

    Args:
        config: Parameters of the cohort.

    Returns:
        A row a target: `label`, `target`, `realised`, `tolerance`, `source`.
    """
    found = realised(config)
    return pd.DataFrame(
        {
            "label": target.label,
            "target": target.value,
            "realised": found[target.name],
            "tolerance": target.tolerance,
            "source": SOURCES[target.source],
        }
        for target in TARGETS
    )
