"""Which subjects, joints, visits and views make up each batch: a pure function of seed and place.

An epoch is a permutation of the subjects, cut into batches of nearly equal size (so that the chance
level of a contrastive loss hardly moves) and dealt to the ranks in equal counts, since uneven counts
hang distributed training. Nothing is remembered but `Place`, so a run cut short resumes mid-epoch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_training.errors import InputError

_ORDER, _VISITS = 1, 2  # streams of random numbers that must not coincide


class Place(NamedTuple):
    """Where a run stands: batches `consumed` of `epoch`."""

    epoch: int
    consumed: int


def random_stream(*key: int) -> np.random.Generator:
    """Return the random numbers that belong to a key, whatever was drawn before.

    Args:
        key: Non-negative integers, such as seed, stream, epoch and position.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def epoch_order(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the permutation of `range(n)` in which an epoch takes the subjects."""
    return random_stream(seed, _ORDER, epoch).permutation(n)


def epoch_batches(
    n: int, batch: int, *, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> list[npt.NDArray[np.int64]]:
    """Cut an epoch into batches of subjects.

    Args:
        n: Subjects.
        batch: Subjects in a batch over all ranks, at most.
        seed: The run's seed.
        epoch: The epoch.
        rank: The process that asks.
        world: The number of processes; up to `world - 1` subjects sit a whole epoch out.

    Returns:
        The batches of this rank; on one process they hold every subject once.

    Raises:
        InputError: Fewer subjects than ranks, or a batch smaller than the ranks.
    """
    if n < world or batch < world:
        raise InputError(
            f"data.subjects_per_batch: {batch} over {world} processes with {n} training subjects; "
            "each process needs at least one subject a batch"
        )
    each = n // world
    mine = epoch_order(n, seed, epoch)[: each * world][rank::world]
    count = -(-each // (batch // world))
    return np.array_split(mine, count)


@dataclass(frozen=True)
class Draw:
    """The scans of a batch, one entry a joint.

    Attributes:
        first: Row of the scan behind the first view.
        second: Row of the scan behind the second view, of the same joint.
        subject: Number of the subject, for telling negatives apart.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    subject: npt.NDArray[np.int64]


class SubjectSampler:
    """Draws scans by subject: all joints of a subject, a visit each, two views a joint.

    Args:
        scans: One row a scan, `subject_id`, `joint_id`, `rank`; row numbers are positions in it. Rescans
            (rank above 0) are left out.
        cross_visit: Chance that the second view is from another visit of the joint.
        seed: The run's seed.
    """

    def __init__(self, scans: pd.DataFrame, *, cross_visit: float, seed: int) -> None:
        if not 0 <= cross_visit <= 1:
            raise InputError(f"data.cross_visit: {cross_visit}; accepted are values in [0, 1]")
        frame = scans.reset_index(drop=True)
        frame = frame[frame["rank"] == 0]
        self.subjects: list[str] = sorted(frame["subject_id"].unique())
        rows = {
            joint: group.to_numpy(np.int64)
            for joint, group in frame.index.to_series().groupby(frame["joint_id"])
        }
        owners = frame.groupby("subject_id")["joint_id"].unique()
        self._joints = [[rows[j] for j in sorted(owners[s])] for s in self.subjects]
        self._cross_visit = cross_visit
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of subjects."""
        return len(self.subjects)

    def draw(self, chosen: npt.NDArray[np.int64], epoch: int) -> Draw:
        """Choose the scans of some subjects in an epoch.

        Args:
            chosen: Numbers of subjects.
            epoch: The epoch.
        """
        first, second, subject = [], [], []
        for number in chosen:
            random = random_stream(self._seed, _VISITS, epoch, int(number))
            for rows in self._joints[int(number)]:
                one = int(random.integers(len(rows)))
                other = one
                if len(rows) > 1 and random.random() < self._cross_visit:
                    other = (one + 1 + int(random.integers(len(rows) - 1))) % len(rows)
                first.append(rows[one])
                second.append(rows[other])
                subject.append(number)
        return Draw(
            np.asarray(first, np.int64), np.asarray(second, np.int64), np.asarray(subject, np.int64)
        )
