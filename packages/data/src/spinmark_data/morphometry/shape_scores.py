"""Shape scores beside the measures: by modes that stand in a cohort, or that are fitted now."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.morphometry.shape import ShapeModel
from spinmark_data.morphometry.shape_plan import ShapePlan, Training, check_enough, first_visits
from spinmark_data.morphometry.shape_store import ShapeModes, describe_modes
from spinmark_data.morphometry.table import Morphometry


def score_shapes(found: Morphometry, plan: ShapePlan) -> tuple[Morphometry, ShapeModes | None]:
    """Add shape scores to measures, by modes that stand or are fitted now.

    Args:
        found: The measures, with the fields of the plan's bones.
        plan: Of `plan_shapes`.

    Returns:
        The measures with the scores and without the fields, and the modes.

    Raises:
        InputError: No bone is held by enough knees of training subjects.
    """
    modes, notes = plan.modes, list(found.notes)
    if modes is not None:
        notes.append(f"shape scores by the modes that stand, of split {_short(plan.origin)}")
    elif plan.training is not None:
        modes = _fit(found, plan, plan.training, notes)
    if modes is None:
        return replace(found, fields={}), None
    scored = {
        name: column
        for bone, model in modes.models.items()
        for name, column in zip(
            model.variables, _transform(model, found.fields[bone]).T, strict=True
        )
    }
    table = pd.concat([found.table, pd.DataFrame(scored, index=found.table.index)], axis=1)
    dictionary = pd.concat([found.dictionary, shape_variables(modes.models)], ignore_index=True)
    made = replace(found, table=table, dictionary=dictionary, fields={}, notes=tuple(notes))
    return made, modes


def shape_variables(models: Mapping[str, ShapeModel]) -> pd.DataFrame:
    """The dictionary's rows of shape scores."""
    rows = [
        {
            "variable": name,
            "label": f"{bone.capitalize()}: score on mode {place} of shape",
            "unit": "SD of training subjects",
            "kind": "continuous",
            "role": "morphometric",
            "group": "bone shape",
            "codes": "{}",
            "table": "morphometry",
            "source": "label maps; modes of the training subjects of a split",
        }
        for bone, model in models.items()
        for place, name in enumerate(model.variables, start=1)
    ]
    return pd.DataFrame(rows, dtype=object)


def _fit(found: Morphometry, plan: ShapePlan, training: Training, notes: list[str]) -> ShapeModes:
    rows = pd.concat([found.table[["subject_id", "laterality", "visit"]], found.scans], axis=1)
    chosen = {bone: first_visits(rows, training, _known(found.fields[bone])) for bone in plan.bones}
    counts = {bone: len(places) for bone, places in chosen.items()}
    least = check_enough(counts, plan.modes_asked)
    models = {}
    for bone, places in chosen.items():
        if counts[bone] < least:
            notes.append(
                f"no shape scores of the {bone}: {counts[bone]} knees of training subjects hold it, "
                f"{least} are needed"
            )
            continue
        subjects = rows["subject_id"].iloc[places].astype(str).tolist()
        learnt = found.fields[bone][places]
        models[bone] = ShapeModel.fit(bone, learnt, subjects, subjects, plan.modes_asked)
        share = 100 * float(models[bone].explained.sum())
        notes.append(
            f"shape of the {bone}: {len(models[bone].spread)} modes fitted on {counts[bone]} knees of "
            f"training subjects, {share:.0f} % of the variance"
        )
    return describe_modes(models, {**plan.origin, "knees": counts})


def _known(fields: NDArray[np.float32]) -> NDArray[np.bool_]:
    if fields.shape[1] == 0:
        return np.zeros(len(fields), bool)
    return np.asarray(np.isfinite(fields[:, 0]))


def _transform(model: ShapeModel, fields: NDArray[np.float32]) -> NDArray[np.float64]:
    if fields.shape[1] == 0:
        return np.full((len(fields), len(model.spread)), np.nan)
    return model.transform(fields)


def _short(record: Mapping[str, Any]) -> str:
    return str(record["split"])[:12]
