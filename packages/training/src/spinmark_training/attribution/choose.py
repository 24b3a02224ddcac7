"""Which scans are explained: those that are named, or a few joints of held-out people."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_training.errors import InputError


def choose_scans(
    scans: pd.DataFrame,
    sets: pd.Series,
    usable: npt.NDArray[np.bool_],
    names: Sequence[str],
    *,
    on: str,
    count: int,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Choose scans by row.

    Args:
        scans: One row a scan: `scan_id`, `subject_id`, `joint_id`, `days`, `rank`.
        sets: The set of each.
        usable: Which have a table row with anything in it.
        names: Identifiers; none draws joints.
        on: The set that is drawn from.
        count: How many joints are drawn, of as many people as there are.
        seed: Draws them.

    Returns:
        Rows: in the order of the names, or as drawn, each joint by its first scan.

    Raises:
        InputError: A name is unknown, given twice or of a scan without a row, the count is below 1,
            or the set is empty.
    """
    known = scans.reset_index(drop=True)
    if names:
        if len(set(names)) < len(names):
            raise InputError(
                f"scans: {max(names, key=list(names).count)} is given twice; once is accepted"
            )
        place = pd.Index(known["scan_id"].astype(str)).get_indexer(pd.Index(list(names)))
        if (place < 0).any():
            raise InputError(
                f"scans: no scan {names[int(np.argmax(place < 0))]!r} in this sequence; accepted are "
                f"identifiers such as {known['scan_id'].iloc[0]!r}"
            )
        if not usable[place].all():
            empty = names[int(np.argmin(usable[place]))]
            raise InputError(
                f"scans: {empty} has no cell in its table row that the teacher takes; accepted are scans "
                "with one"
            )
        return place.astype(np.int64)
    if count < 1:
        raise InputError(f"count: {count}; accepted are 1 and more")
    held = known[(sets.to_numpy() == on) & usable]
    if held.empty:
        raise InputError(
            f"set: no scan of the set {on!r} has a table row; accepted are test and val, or scans by name"
        )
    by_time = held.sort_values(["days", "visit", "rank"], kind="stable")
    first = by_time.drop_duplicates("joint_id").sort_index()
    drawn = first.iloc[np.random.default_rng(seed).permutation(len(first))]
    # A second joint of a person only once everybody has been taken.
    turn = drawn.groupby("subject_id").cumcount()
    order = np.argsort(turn.to_numpy(), kind="stable")[:count]
    rows: npt.NDArray[np.int64] = drawn.index.to_numpy(np.int64)[order]
    return rows
