"""Which joints are labelled when only a few are: drawn by subject, nested, the same for every arm.

A draw puts the training subjects in an order of its own. Both knees of a subject stand together in
it, so that 50 joints are about 25 people, as they would be if people were invited to be read. A
budget of labels takes the joints from the front: the 50 are among the 200, and whatever is compared
learns from the same ones. A joint is labelled once, at its first primary scan for which the target
is known, which for most is the baseline.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
COLUMNS = ("scan_id", "subject_id", "joint_id", "days", "rank", "set")


class LabelDraws:
    """Orders of the training joints, a draw each.

    Args:
        scans: A row a scan: `scan_id`, `subject_id`, `joint_id`, `days`, `rank`, `set`.
        draws: Number of draws.
        seed: Seed of all; a draw depends on it, its own number and the training joints, not on the order
            of the rows, the number of draws, or what is known of whom.

    Raises:
        InputError: A column is missing or no scan is in the training set.
    """

    def __init__(self, scans: pd.DataFrame, *, draws: int, seed: int) -> None:
        if absent := [name for name in COLUMNS if name not in scans.columns]:
            raise InputError(f"scans: no column {absent[0]!r}; accepted are {', '.join(COLUMNS)}")
        train = np.flatnonzero((scans["set"].astype(str) == "train").to_numpy())
        if not train.size:
            raise InputError(
                "scans: none is of set 'train'; labelled joints are drawn from that set"
            )
        self.scans, self.draws = scans, draws
        frame = scans.iloc[train][["subject_id", "joint_id", "days", "scan_id", "rank"]]
        frame = frame.assign(row=train, joint=frame["joint_id"].astype(str))
        names, first, codes = np.unique(
            frame["joint"].to_numpy().astype(str), return_index=True, return_inverse=True
        )
        subject = np.unique(frame["subject_id"].to_numpy().astype(str)[first], return_inverse=True)[
            1
        ]
        self.joint_ids = names
        self._places = np.stack([_places(subject, [seed, draw]) for draw in range(draws)])
        primary = frame.assign(code=codes)[frame["rank"].to_numpy() == 0]
        primary = primary.sort_values(["days", "scan_id"], kind="stable")
        self._rows = primary["row"].to_numpy(dtype=np.int64)
        self._joint = primary["code"].to_numpy(dtype=np.int64)

    def rows(
        self,
        known: npt.ArrayLike,
        budget: int | None,
        *,
        draw: int,
        event: npt.ArrayLike | None = None,
    ) -> Ints:
        """Return the rows that are labelled for one target.

        Args:
            known: Where the target is known, shape (scan,).
            budget: Number of labelled joints; of an event, of joints that have it; None for all.
            draw: Number of the draw, from 0.
            event: Where the event was seen, shape (scan,): joints are then taken until as many events
                are met.

        Returns:
            Positions in the scans, one a joint, in the order of the draw; fewer than the budget where
            there are no more.

        Raises:
            InputError: A shape that differs, a budget below 1, or no such draw.
        """
        usable = np.asarray(known, dtype=bool)
        if usable.shape != (len(self.scans),):
            raise InputError(
                f"known: shape {usable.shape}; accepted is a value for {len(self.scans)} scans"
            )
        if budget is not None and budget < 1:
            raise InputError(f"labels: {budget}; accepted is at least 1, or none for all")
        if not 0 <= draw < self.draws:
            raise InputError(f"draw: {draw}; accepted are 0 to {self.draws - 1}")
        there = usable[self._rows]
        joint, first = np.unique(self._joint[there], return_index=True)
        order = np.argsort(self._places[draw][joint])
        rows: Ints = self._rows[there][first][order]
        if budget is None or event is None:
            return rows[:budget]
        met = np.cumsum(np.asarray(event, dtype=bool)[rows])
        return rows[: int(np.searchsorted(met, budget)) + 1]


def _places(subject: Ints, seed: list[int]) -> Ints:
    """The place of each joint: subjects in an order by chance, both knees together."""
    rng = np.random.default_rng(seed)
    turn = rng.permutation(int(subject.max()) + 1)[subject]
    # Which knee comes first is by chance too, or the cut would fall on one side.
    place = np.empty(len(subject), dtype=np.int64)
    place[np.lexsort((rng.random(len(subject)), turn))] = np.arange(len(subject))
    return place
