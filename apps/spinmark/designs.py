"""The covariates of each prognostic model: what a clinician has, grades, and what the image says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from spinmark_data.cohort.reader import Cohort

CLINICAL_ROLES = ("demographic", "symptom", "function")
GRADE = "XRKL"
# The survival package finds the embedding among a model's covariates by this prefix.
PREFIX = "embedding_"
BLOCKS = ("clinical", "kl", "embedding")


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
        For each model, named by its blocks joined by `_`, a frame (joint_id x covariate).

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
    frames = {
        name: block.loc[scans["scan_id"]].set_axis(scans.index, axis=0)
        for name, block in blocks.items()
    }
    return {
        "_".join(model): pd.concat([frames[name] for name in model], axis=1) for model in models
    }
