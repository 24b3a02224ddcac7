"""Models fitted once for each fold without it, so that every subject is scored and none was fitted on.

Of a few hundred events a test set holds a quarter. Where nothing that a covariate came from has seen its
subject, as with embeddings of a cross-fitted encoder, the models can go through the folds as well: those of
a fold are fitted on the subjects of all others and predict its own. Scores are of all predictions together.
Standardisation, principal components and the model of death are fitted anew for each fold.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import PrognoseConfig
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.prognosis import HeldOut, Prognosis, predict_held_out
from spinmark_biomarkers.survival.scoring import scored

Designs = dict[str, pd.DataFrame]


def _of_fold(designs: Designs | Mapping[object, Designs], fold: object) -> Designs:
    """The designs of the models that are fitted without a fold."""
    if all(isinstance(frame, pd.DataFrame) for frame in designs.values()):
        return dict(designs)  # type: ignore[arg-type]
    if fold not in designs:
        raise InputError(f"designs: none for fold {fold}; accepted is one set of designs a fold")
    return dict(designs[fold])  # type: ignore[index]


def _folds(folds: pd.Series) -> pd.Series:
    """Check who is in which fold."""
    folds = folds.copy()
    folds.index = folds.index.astype(str)
    if folds.index.has_duplicates:
        twice = str(folds.index[folds.index.duplicated()][0])
        raise InputError(f"folds: subject {twice} twice; accepted is one fold a subject")
    if folds.nunique() < 2:
        raise InputError(f"folds: {folds.nunique()}; accepted are 2 and more")
    return folds


def _test_joints(part: HeldOut) -> list[str]:
    """Return the joints of the held-out fold."""
    cif = part.prognosis.cif
    return [str(j) for j in cif["joint"].to_numpy()[(cif["set"] == "test").to_numpy()]]


def _data(parts: list[SurvivalData]) -> SurvivalData:
    """Put the outcomes of all folds together, sorted by joint."""
    order = np.argsort(np.concatenate([part.ids for part in parts]).astype(str))

    def joined(name: str) -> np.ndarray:
        return np.asarray(np.concatenate([getattr(part, name) for part in parts])[order])

    return SurvivalData(
        ids=joined("ids"),
        subject_ids=joined("subject_ids"),
        covariates=joined("covariates"),
        names=parts[0].names,
        lower=joined("lower"),
        upper=joined("upper"),
        cause=joined("cause"),
        weight=joined("weight"),
        start=joined("start"),
    )


def _incidence(parts: list[HeldOut]) -> tuple[xr.Dataset, xr.DataArray]:
    """Take from each fold the incidence of its own joints."""
    own = [_test_joints(part) for part in parts]
    # A horizon is an extrapolation if one of the fits says so.
    beyond = np.any([part.prognosis.cif["extrapolated"].to_numpy() for part in parts], axis=0)
    pairs = list(zip(parts, own, strict=True))
    cif = xr.concat(
        [part.prognosis.cif.drop_vars("extrapolated").sel(joint=joints) for part, joints in pairs],
        dim="joint",
        join="exact",
        combine_attrs="override",
    ).sortby("joint")
    mean = xr.concat(
        [part.prognosis.mean.sel(joint=joints) for part, joints in pairs], dim="joint", join="exact"
    ).sortby("joint")
    cif = cif.assign_coords(extrapolated=("time", beyond)).assign_attrs(crossfit=len(parts))
    return cif, mean.transpose("model", "joint", "time")


def prognose_folds(
    outcomes: pd.DataFrame,
    designs: Designs | Mapping[object, Designs],
    folds: pd.Series,
    config: PrognoseConfig | None = None,
    known_at: pd.Series | None = None,
    *,
    groups: pd.DataFrame | None = None,
    ladder: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prognosis:
    """Fit every design once for each fold without it, predict that fold, and score on all subjects.

    Args:
        outcomes: The outcomes table (docs/schemas.md).
        designs: As for `prognose`, the same for all folds or a mapping from fold to the designs of the models
            that are fitted without it. No covariate may come from anything that was fitted on its subject,
            such as an encoder that was trained on them.
        folds: The fold of each subject, indexed by subject_id.
        config: Settings.
        known_at: Days at which covariates were known, indexed by joint_id.
        groups: As for `prognose`.
        ladder: As for `prognose`.
        progress: Called with (fits done, fits in all).

    Returns:
        As `prognose`, with every joint predicted by models that did not see its subject: `set(joint)` is
        `test` throughout. Posteriors and diagnostics are named `MODEL_fold_K`.

    Raises:
        InputError: In one line for outcomes, designs or folds that cannot be used.
    """
    config = config or PrognoseConfig()
    folds = _folds(folds)
    parts: list[HeldOut] = []
    names = sorted(folds.unique())
    for number, fold in enumerate(names):
        sets = pd.Series(np.where(folds == fold, "test", "train"), index=folds.index, dtype=object)

        def told(done: int, total: int, before: int = number) -> None:
            if progress is not None:
                progress(before * total + done, len(names) * total)

        parts.append(
            predict_held_out(
                outcomes, _of_fold(designs, fold), sets, config, known_at, progress=told
            )
        )
    cif, mean = _incidence(parts)
    risk = pd.concat([part.prognosis.risk.loc[_test_joints(part)] for part in parts]).sort_index()
    whole = Prognosis(
        cif=cif,
        metrics=pd.DataFrame(),
        posteriors={
            f"{name}_fold_{fold}": draws
            for fold, part in zip(names, parts, strict=True)
            for name, draws in part.prognosis.posteriors.items()
        },
        diagnostics={
            f"{name}_fold_{fold}": facts
            for fold, part in zip(names, parts, strict=True)
            for name, facts in part.prognosis.diagnostics.items()
        },
        risk=risk,
        mean=mean,
    )
    test = _data([part.test for part in parts])
    place = np.argsort(np.concatenate([part.test.ids for part in parts]).astype(str))
    population = np.concatenate([part.population for part in parts])[place]
    held = HeldOut(prognosis=whole, test=test, population=population)
    return scored(held, config, groups=groups, ladder=ladder)
