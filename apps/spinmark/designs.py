"""The covariates of each prognostic model: what a clinician has, grades, and what the image says."""

from collections.abc import Iterable, Sequence
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
BLOCKS = ("clinical", "kl", "embedding", "morphometry")


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
    names = [frozenset(model) for model in models]
    if twice := [model for model in models if names.count(frozenset(model)) > 1]:
        raise InputError(f"models: {list(twice[0])} is named twice; {accepted}")


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
    cohort: "Cohort", embeddings: "xr.Dataset", models: Sequence[Sequence[str]]
) -> "dict[str, pd.DataFrame]":
    """Build the covariates of each model at baseline.

    Args:
        cohort: The cohort.
        embeddings: The embeddings artefact's Dataset.
        models: Blocks of each model, out of `BLOCKS`.

    Returns:
        For each model, named by its blocks joined by `_`, a frame (joint_id x covariate). A model with
        morphometry holds the joints that were measured, since a guess would make a poor baseline.

    Raises:
        InputError: The cohort has no variable that a block needs.
    """
    import pandas as pd

    from spinmark_data.features import clinical_features

    scans = baseline_scans(embeddings)
    rows = scans.reset_index()
    wanted = {block for model in models for block in model}
    blocks: dict[str, pd.DataFrame] = {}
    if "clinical" in wanted:
        table = clinical_features(cohort, rows, roles=CLINICAL_ROLES)
        nominal = table.dictionary.loc[table.dictionary["kind"] == "nominal", "variable"]
        blocks["clinical"] = one_hot(table.values, list(nominal))
    if "kl" in wanted:
        blocks["kl"] = clinical_features(cohort, rows, roles=("structure",)).values[[GRADE]]
    if "embedding" in wanted:
        index = embeddings["scan_id"].to_numpy().astype(object)
        vectors = pd.DataFrame(embeddings["embedding"].to_numpy(), index=index)
        blocks["embedding"] = vectors.add_prefix(PREFIX)
    if "morphometry" in wanted:
        blocks["morphometry"] = _measures(cohort, rows)
    frames = {
        name: block.loc[scans["scan_id"]].set_axis(scans.index, axis=0)
        for name, block in blocks.items()
    }
    if "morphometry" in frames:
        frames["morphometry"] = frames["morphometry"].dropna(how="all")
    return {
        "_".join(model): pd.concat([frames[name] for name in model], axis=1, join="inner")
        for model in models
    }


def _measures(cohort: "Cohort", scans: "pd.DataFrame") -> "pd.DataFrame":
    from spinmark_data.features import morphometric_features

    table = morphometric_features(cohort, scans)
    if table.values.isna().all(axis=None):
        raise InputError(
            f"morphometry: none of {len(scans)} joints was measured at its first scan; add the label "
            "maps of these scans and run `spinmark measure` again"
        )
    check_shapes(cohort, table.values.columns, scans.loc[scans["set"] == "test", "subject_id"])
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
