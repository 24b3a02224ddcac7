"""What `spinmark describe` says of phenotypes: all parts of the description, put together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import pandas as pd

from spinmark.describing_material import Material
from spinmark.errors import InputError
from spinmark_biomarkers.errors import InputError as Unusable
from spinmark_biomarkers.phenotypes.description.config import DescribeConfig
from spinmark_biomarkers.phenotypes.description.enrichment import describe_groups
from spinmark_biomarkers.phenotypes.description.members import members
from spinmark_biomarkers.phenotypes.description.overall import across_phenotypes
from spinmark_biomarkers.phenotypes.description.panel import batch_panel
from spinmark_biomarkers.phenotypes.description.profiles import regional_profiles, size_of
from spinmark_biomarkers.phenotypes.description.rules import Rule, fit_rules
from spinmark_biomarkers.phenotypes.description.surrogate import Surrogate, fit_surrogate

Progress = Callable[[int, int], None]
STEPS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Described:
    """Phenotypes with all that is said of them.

    Args:
        material: What was described.
        enrichment: As `describe_groups` returns it.
        overall: As `across_phenotypes` returns it.
        panel: As `batch_panel` returns it.
        surrogate: The surrogate, or why there is none.
        rules: Rules of thumb.
        profiles: As `regional_profiles` returns it; None without label maps.
        members: As `members` returns it.
        notes: What a reader must know.
    """

    material: Material
    enrichment: pd.DataFrame
    overall: pd.DataFrame
    panel: pd.DataFrame
    surrogate: Surrogate | str
    rules: list[Rule]
    profiles: pd.DataFrame | None
    members: pd.DataFrame
    notes: tuple[str, ...]


def describe(material: Material, config: DescribeConfig, progress: Progress) -> Described:
    """Describe phenotypes.

    Args:
        material: What `gather` read.
        config: Settings.
        progress: Called with (done, total).

    Raises:
        InputError: There is too little to compare.
    """
    m, notes = material, list(material.notes)
    scans, labels = m.scans, m.scans["label"].to_numpy()
    people = scans["subject_id"].to_numpy()
    on = m.shown
    tested = m.dictionary["used"].eq(False).to_numpy() | config.include_used
    names = m.dictionary.loc[tested, "variable"].tolist()
    hidden = int((~tested).sum())
    if not names:
        raise InputError(
            f"all {hidden} variables were learnt from, and testing them would be invalid; accepted "
            "are others, or "
            "--include_used true to show them without p values"
        )
    if hidden:
        notes.append(
            f"{hidden} variables that the encoder learnt from are not tested: phenotypes would differ "
            "in them by "
            "construction. Variables that say nearly the same as one of them deserve the same doubt."
        )
    progress(0, STEPS)
    enrichment = describe_groups(
        labels[on],
        m.values.loc[on, names],
        m.dictionary,
        people[on],
        adjust=m.adjust[on] if m.adjust.shape[1] else None,
        draws=config.permutations,
        seed=config.seed,
    )
    progress(1, STEPS)
    overall = across_phenotypes(labels[on], m.values.loc[on, names], m.dictionary, people[on])
    progress(2, STEPS)
    panel = batch_panel(
        labels[on], scans[on], m.measures[on], permutations=config.permutations, seed=config.seed
    )
    progress(3, STEPS)
    surrogate, rules = _guess(m, config, labels, people)
    progress(4, STEPS)
    profiles = _profiles(m, config, labels, people, notes)
    progress(5, STEPS)
    # Looking at members of test subjects and then changing the phenotypes would use these up.
    chosen = members(
        m.embeddings,
        m.phenotypes,
        prototypes=config.prototypes,
        random=config.random,
        boundary=config.boundary,
        seed=config.seed,
        on="fitted",
    )
    progress(STEPS, STEPS)
    return Described(
        material=material,
        enrichment=enrichment,
        overall=overall,
        panel=panel,
        surrogate=surrogate,
        rules=rules,
        profiles=profiles,
        members=chosen,
        notes=tuple(notes),
    )


def _guess(
    m: Material, config: DescribeConfig, labels: npt.NDArray[Any], people: npt.NDArray[Any]
) -> tuple[Surrogate | str, list[Rule]]:
    """Fit surrogate and rules on training subjects; what was learnt from may help to guess."""
    fitted = m.scans["set"].isin(["train", "val"]).to_numpy()
    scored = m.shown & ~fitted
    try:
        surrogate = fit_surrogate(
            labels,
            m.values,
            m.dictionary,
            people,
            fitted=fitted,
            scored=scored,
            repeats=config.repeats,
            draws=config.bootstrap,
            seed=config.seed,
        )
        rules = fit_rules(
            labels,
            m.values,
            m.dictionary,
            people,
            fitted=fitted,
            scored=scored,
            depth=config.depth,
            seed=config.seed,
        )
    except Unusable as error:
        return str(error), []
    return surrogate, rules


def _profiles(
    m: Material,
    config: DescribeConfig,
    labels: npt.NDArray[Any],
    people: npt.NDArray[Any],
    notes: list[str],
) -> pd.DataFrame | None:
    if m.morphometry is None:
        notes.append(
            "No label maps were measured (spinmark measure): there are no regional profiles."
        )
        return None
    on = m.shown
    measures = m.morphometry[on]
    size = size_of(measures)
    parts = [] if size is None else [size]
    if "SEX" in m.adjust.columns:
        parts.append(m.adjust.loc[on, "SEX"])
    adjust = pd.concat(parts, axis=1) if parts else None
    dictionary = m.cohort.dictionary
    dictionary = dictionary[dictionary["variable"].isin(measures.columns)]
    if adjust is not None:
        notes.append(
            f"Regional profiles are adjusted for {' and '.join(map(str, adjust.columns))}."
        )
    try:
        return regional_profiles(
            labels[on], measures, dictionary, people[on], adjust=adjust, reference=config.reference
        )
    except Unusable as error:
        raise InputError(str(error)) from None


def told(described: Described) -> str:
    """Return in one line what was found."""
    rows = described.enrichment
    tests, found = int(rows["p"].notna().sum()), int((rows["q"] <= 0.05).sum())
    suspects = described.panel.loc[described.panel["flag"] == "artefact suspected", "variable"]
    doubt = f"; artefact suspected: {', '.join(suspects)}" if len(suspects) else ""
    return (
        f"{rows['phenotype'].nunique()} phenotypes, {found} of {tests} differences found at a false "
        "discovery rate "
        f"of 5 %{doubt}"
    )
