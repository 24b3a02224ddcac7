"""Subjects dealt to folds; a person's joints and visits stay together.

Only this splitter exists here: splitting by visit gave a C of .90 where there was nothing to transfer.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData


def deal_subjects(
    subject_ids: npt.ArrayLike, event: npt.ArrayLike, *, folds: int, seed: int
) -> pd.Series:
    """Deal subjects to folds, those with and those without an event evenly.

    Args:
        subject_ids: Subject of each row, shape (n,).
        event: Whether the row has an event, shape (n,).
        folds: Number of folds.
        seed: Seed; the folds depend on it and on who the subjects are, not on the order of rows.

    Returns:
        The fold (from 0) of each subject, indexed by subject, sorted.

    Raises:
        InputError: Fewer than two folds, or fewer subjects with an event than folds.
    """
    frame = pd.DataFrame(
        {"subject": np.asarray(subject_ids).astype(str), "event": np.asarray(event, dtype=bool)}
    )
    has = frame.groupby("subject")["event"].any().sort_index()
    most = int(min(has.sum(), len(has)))
    if not 2 <= folds <= most:
        raise InputError(
            f"folds: {folds} for {len(has)} subjects of whom {int(has.sum())} have an event; accepted are 2 "
            f"to {most}"
        )
    # Few subjects without an event would be warned of, though events alone decide.
    rare = (~has).sum() < folds
    strata = np.zeros(len(has), dtype=int) if rare else has.to_numpy(dtype=int)
    splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.empty(len(has), dtype=np.int64)
    for number, (_, held) in enumerate(splitter.split(np.zeros((len(has), 1)), strata)):
        fold[held] = number
    return pd.Series(fold, index=has.index.to_numpy(dtype=object), name="fold")


def fold_of_rows(
    data: SurvivalData, folds: "pd.Series | int", seed: int
) -> npt.NDArray[np.object_]:
    """The fold of each row, from folds that are given or a number of folds to make.

    Args:
        data: The rows.
        folds: The fold of each subject, indexed by subject, or how many to deal.
        seed: Seed where they are dealt.

    Returns:
        A name a row, shape (n,).

    Raises:
        InputError: A subject without a fold or in two, or fewer than two folds.
    """
    if isinstance(folds, int | np.integer):
        folds = deal_subjects(data.subject_ids, data.event, folds=int(folds), seed=seed)
    given = folds.copy()
    given.index = given.index.astype(str)
    if given.index.has_duplicates:
        twice = given.index[given.index.duplicated()][0]
        raise InputError(f"folds: subject {twice} twice; accepted is one fold a subject")
    subjects = data.subject_ids.astype(str)
    without = sorted(set(subjects) - set(given.index[given.notna()]))
    if without:
        named = ", ".join(without[:3]) + (
            f" and {len(without) - 3} more" if len(without) > 3 else ""
        )
        raise InputError(f"folds: none for {named}; accepted is one fold a subject")
    found = given.loc[subjects].to_numpy(dtype=object)
    if len(set(found.tolist())) < 2:
        raise InputError(f"folds: {sorted(set(found.tolist()))}; accepted are 2 and more")
    return np.asarray(found)
