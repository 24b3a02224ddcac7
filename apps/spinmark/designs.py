"""The covariates of each prognostic model, by blocks: a ladder from the clinic to what the image says.

- `clinical`: demographics, symptoms, function, injury, surgery, and whether the other knee was replaced.
- `kl`: the Kellgren-Lawrence grade alone. `structure`: the grade and the joint space width.
- `morphometry`: measures of label maps. `phenotype`: of frozen phenotypes. `embedding`: of the encoder.

What a cohort lacks is told in a line and left out of its block.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from spinmark.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from spinmark_data.cohort.reader import Cohort

CLINICAL_ROLES = ("demographic", "symptom", "function")
GRADE = "XRKL"
# The survival package finds these blocks among a model's covariates by their prefixes.
PREFIX = "embedding_"
MEASURES = "morphometry_"
GRADES = "structure_"
PHENOTYPE = "phenotype_"
BLOCKS = ("clinical", "kl", "structure", "morphometry", "phenotype", "embedding")
# Injury has the role of a symptom; surgery is a treatment, a role that is not taken as a whole.
HISTORY = ("INJ", "KSURG")
WIDTH = "MCMJSW"
NARROWING = ("XRJSM", "XRJSL")

logger = logging.getLogger(__name__)


def check_models(models: Sequence[Sequence[str]]) -> None:
    """Check the blocks that models are asked to be made of.

    Raises:
        InputError: No model, one without blocks, an unknown block, or the same one twice.
    """
    accepted = f"accepted are lists of {', '.join(BLOCKS)}, such as [[clinical], [clinical, kl]]"
    if not models:
        raise InputError(f"models: none is named; {accepted}")
    for model in models:
        if not model or len(set(model)) < len(model):
            raise InputError(f"models: {list(model)} is empty or names a block twice; {accepted}")
        if unknown := [block for block in model if block not in BLOCKS]:
            raise InputError(f"models: '{unknown[0]}' is no block; {accepted}")
        if {"kl", "structure"} <= set(model):
            raise InputError(
                f"models: {list(model)} has the grade twice, for structure holds it too; {accepted}"
            )
    names = [frozenset(model) for model in models]
    if twice := [model for model in models if names.count(frozenset(model)) > 1]:
        raise InputError(f"models: {list(twice[0])} is named twice; {accepted}")


def nested(models: Sequence[Sequence[str]]) -> list[list[str]]:
    """The longest chain of models of which each holds all blocks of the one before: the ladder.

    The grade alone counts as a part of `structure`. Of chains of one length, the one whose models come first.
    """
    held = [
        frozenset(model) | (frozenset(["kl"]) if "structure" in model else frozenset())
        for model in models
    ]
    chains: dict[int, tuple[int, ...]] = {}
    for k in sorted(range(len(models)), key=lambda k: (len(held[k]), k)):
        below = [chains[j] for j in chains if held[j] < held[k]]
        best = min(below, key=lambda chain: (-len(chain), chain), default=())
        chains[k] = (*best, k)
    longest = min(chains.values(), key=lambda chain: (-len(chain), chain))
    return [list(models[k]) for k in longest]


def baseline_scans(embeddings: "xr.Dataset") -> "pd.DataFrame":
    """Return the earliest primary scan of each joint, indexed by joint_id.

    Args:
        embeddings: The embeddings artefact's Dataset.
    """
    import pandas as pd

    names = ["scan_id", "subject_id", "laterality", "joint_id", "visit", "rank", "days", "set"]
    scans = pd.DataFrame({name: embeddings[name].to_numpy() for name in names})
    primary = scans[scans["rank"] == 0].sort_values(["joint_id", "days", "visit"])
    return primary.drop_duplicates("joint_id").set_index("joint_id")


def one_hot(values: "pd.DataFrame", nominal: Sequence[str]) -> "pd.DataFrame":
    """Replace nominal codes by a column a code (the commonest left out), NaN where missing."""
    import pandas as pd

    parts = [values.drop(columns=list(nominal))]
    for name in nominal:
        counts = values[name].value_counts()
        parts += [
            (values[name] == code)
            .astype(float)
            .where(values[name].notna())
            .rename(f"{name}={code:g}")
            for code in sorted(counts.index[1:])
        ]
    return pd.concat(parts, axis=1)


def designs(
    cohort: "Cohort",
    embeddings: "xr.Dataset",
    models: Sequence[Sequence[str]],
    *,
    phenotypes: "xr.Dataset | None" = None,
    origin: "pd.Series | None" = None,
    held_out: Iterable[str] | None = None,
    tell: Callable[[str], None] = logger.warning,
) -> "dict[str, pd.DataFrame]":
    """Build the covariates of each model at baseline.

    Args:
        cohort: The cohort.
        embeddings: The embeddings artefact's Dataset.
        models: Blocks of each model, out of `BLOCKS`.
        phenotypes: The Dataset of frozen phenotypes, which the block `phenotype` needs.
        origin: Days at which each joint's time begins, indexed by joint_id; enrolment by default. What
            became of the other knee after it is not looked at.
        held_out: Subjects that are scored; those of the embeddings' test set by default.
        tell: Called with a line for whatever the cohort lacks.

    Returns:
        For each model, named by its blocks joined by `_`, a frame (joint_id x covariate). A model with
        morphometry holds the joints that were measured, since a guess would make a poor baseline; one with
        phenotypes those whose first scan has one.

    Raises:
        InputError: The cohort has no variable that a block needs, or phenotypes were found on held-out
            subjects.
    """
    import pandas as pd

    from spinmark.ladder import clinical_block, phenotype_block, structure_block
    from spinmark_data.features import clinical_features

    scans = baseline_scans(embeddings)
    rows = scans.reset_index()
    wanted = {block for model in models for block in model}
    scored = rows.loc[rows["set"] == "test", "subject_id"] if held_out is None else held_out
    blocks: dict[str, pd.DataFrame] = {}
    if "clinical" in wanted:
        blocks["clinical"] = clinical_block(cohort, rows, origin, tell)
    if "kl" in wanted:
        blocks["kl"] = clinical_features(cohort, rows, roles=("structure",)).values[[GRADE]]
    if "structure" in wanted:
        blocks["structure"] = structure_block(cohort, rows, tell)
    if "embedding" in wanted:
        index = embeddings["scan_id"].to_numpy().astype(object)
        vectors = pd.DataFrame(embeddings["embedding"].to_numpy(), index=index)
        blocks["embedding"] = vectors.add_prefix(PREFIX)
    if "morphometry" in wanted:
        blocks["morphometry"] = _measures(cohort, rows, scored)
    if "phenotype" in wanted:
        if phenotypes is None:
            raise InputError(
                "phenotype: no phenotypes are given; make them with `spinmark discover`"
            )
        blocks["phenotype"] = phenotype_block(phenotypes, rows, scored, tell)
    frames = {
        name: block.loc[scans["scan_id"]].set_axis(scans.index, axis=0)
        for name, block in blocks.items()
    }
    for name in {"morphometry", "phenotype"} & set(frames):
        frames[name] = frames[name].dropna(how="all")
    return {
        "_".join(model): pd.concat([frames[name] for name in model], axis=1, join="inner")
        for model in models
    }


def _measures(cohort: "Cohort", scans: "pd.DataFrame", held_out: Iterable[str]) -> "pd.DataFrame":
    from spinmark_data.features import morphometric_features

    table = morphometric_features(cohort, scans)
    if table.values.isna().all(axis=None):
        raise InputError(
            f"morphometry: none of {len(scans)} joints was measured at its first scan; add the label "
            "maps of these scans and run `spinmark measure` again"
        )
    check_shapes(cohort, table.values.columns, held_out)
    return table.values.add_prefix(MEASURES)


def check_shapes(cohort: "Cohort", measures: Iterable[str], held_out: Iterable[str]) -> None:
    """See to it that no held-out subject had a part in the modes that shape scores come from.

    Args:
        cohort: The cohort.
        measures: Variables of its table `morphometry` that are used.
        held_out: Subjects that are scored.

    Raises:
        InputError: One had.
    """
    from spinmark_data.morphometry.shape_store import kept_record, read_modes

    record = kept_record(cohort)
    if record is None or not any(name.startswith("SHAPE_") for name in measures):
        return
    seen = {
        subject
        for model in read_modes(cohort, record).models.values()
        for subject in model.subjects
    }
    if leaked := sorted(seen & set(map(str, held_out))):
        raise InputError(
            f"morphometry: modes of bone shape were fitted on {len(leaked)} held-out subjects, such as "
            f"{leaked[0]}; run `spinmark measure` with the --split of these embeddings"
        )
