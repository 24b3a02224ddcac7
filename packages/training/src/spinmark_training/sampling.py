"""Which subjects, joints, visits and views make up each batch: a pure function of seed and place.

An epoch is one permutation of the subjects, cut into batches that all processes share: each takes a
W-th of a batch's entries, equally many, since uneven ones hang distributed training. So a batch holds
the same joints however many processes there are, but for fewer than W that sit it out where W does
not divide it. Nothing is remembered but `Place`, so a run cut short resumes mid-epoch, with
another number of processes or workers, or another batch size, if need be.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_training.errors import InputError
from spinmark_training.feed.keys import hashes, uniforms
from spinmark_training.sequences import further_at
from spinmark_training.streams import Stream


class Place(NamedTuple):
    """Where a run stands: subjects `consumed` of `epoch`, over all processes."""

    epoch: int
    consumed: int


class Slot(NamedTuple):
    """Where a batch stands in the order of subjects.

    Attributes:
        place: Where it starts.
        size: Its subjects, over all processes.
        after: Where the next one starts.
    """

    place: Place
    size: int
    after: Place


def random_stream(*key: int) -> np.random.Generator:
    """Return the random numbers that belong to a key, whatever was drawn before.

    Args:
        key: Non-negative integers, such as seed, stream, epoch and position.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def epoch_order(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the permutation of `range(n)` in which an epoch takes the subjects."""
    return random_stream(seed, Stream.ORDER, epoch).permutation(n)


def next_size(left: int, batch: int) -> int:
    """Return the size of the next batch of an epoch.

    Batches are full but for the last, and the last two share what is left where the last would be less
    than half full: few negatives, or statistics of few rows, make a step that does harm.

    Args:
        left: Subjects of the epoch that are left.
        batch: Subjects in a full batch.
    """
    if left <= batch:
        return left
    return batch if 2 * left >= 3 * batch else -(-left // 2)


def slots(n: int, batch: int, start: Place, world: int = 1) -> Iterator[Slot]:
    """Go through the batches from a place on, without end.

    Args:
        n: Subjects.
        batch: Subjects in a full batch, over all processes.
        start: The place.
        world: The number of processes. A rest of fewer subjects than these, or of a single one, who has
            no negatives, sits the epoch out.
    """
    least = max(2, world)
    epoch, consumed = start
    while True:
        left = n - consumed
        size = next_size(left, batch)
        last = left - size < least
        after = Place(epoch + 1, 0) if last else Place(epoch, consumed + size)
        if size >= least:
            yield Slot(Place(epoch, consumed), size, after)
        epoch, consumed = after


def check_batch(n: int, batch: int, world: int = 1) -> None:
    """Check that batches can be made.

    Args:
        n: Training subjects.
        batch: Subjects in a full batch, over all processes.
        world: The number of processes.

    Raises:
        InputError: There are not enough subjects, or a batch holds nobody to be told apart.
    """
    if batch < 2 or batch > n:
        raise InputError(
            f"data.subjects_per_batch: {batch}; accepted are 2, below which nothing can be contrasted, to "
            f"{n}, the number of training subjects"
        )
    if batch < world:
        raise InputError(
            f"data.subjects_per_batch: {batch} over {world} processes; each process needs at least one "
            f"subject a batch: accepted are {world} to {n}, or fewer processes"
        )


def slot_subjects(slot: Slot, n: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Return the subjects of a batch, over all processes.

    Args:
        slot: Where the batch stands.
        n: Subjects.
        seed: The run's seed.
    """
    epoch, consumed = slot.place
    return epoch_order(n, seed, epoch)[consumed : consumed + slot.size]


@dataclass(frozen=True)
class Draw:
    """The scans of a batch, one entry a joint, or one a visit where several of a joint are asked for.

    Attributes:
        first: Row of the scan behind the first view.
        second: Row of the scan behind the second view, of the same joint; of a further sequence where
            the visit has such.
        subject: Number of the subject, for telling negatives apart.
        joint: Number of the joint.
        ordinal: Which of the joint's entries this is, from 0.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    subject: npt.NDArray[np.int64]
    joint: npt.NDArray[np.int64]
    ordinal: npt.NDArray[np.int64]

    def share(self, rank: int, world: int) -> "Draw":
        """Return the entries of one process: equally many for each, in the order of the batch.

        Subjects have one joint or two, so that equal numbers of subjects would be unequal numbers of
        rows, and processes that exchange rows would wait for one another for ever.

        Args:
            rank: The process.
            world: The number of processes; up to `world - 1` entries sit the batch out.
        """
        each = len(self.first) // world
        mine = slice(rank * each, (rank + 1) * each)
        return Draw(*(getattr(self, field.name)[mine] for field in fields(self)))


class SubjectSampler:
    """Draws scans by subject: all joints of a subject, a visit each, two views a joint.

    Args:
        scans: One row a scan, `subject_id`, `joint_id`, `rank`; row numbers are positions in it. Rescans
            (rank above 0) are left out.
        cross_visit: Chance that the second view is from another visit of the joint.
        seed: The run's seed.
        visits_per_joint: Visits of a joint that a batch holds, as many as there are at most; each is an
            entry of its own with the joint's number: positives for losses that take labels.
        further: Scans of further sequences, with the same columns and `visit`; their row numbers go on behind
            those of `scans`. Where the visit of a second view has such, the view is of one of them.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self,
        scans: pd.DataFrame,
        *,
        cross_visit: float,
        seed: int,
        visits_per_joint: int = 1,
        further: pd.DataFrame | None = None,
    ) -> None:
        if not 0 <= cross_visit <= 1:
            raise InputError(f"data.cross_visit: {cross_visit}; accepted are values in [0, 1]")
        if visits_per_joint < 1:
            raise InputError(
                f"data.visits_per_joint: {visits_per_joint}; accepted are 1, one visit of a joint in a "
                "batch, and more"
            )
        frame = scans.reset_index(drop=True)
        frame = frame[frame["rank"] == 0]
        self.subjects: list[str] = sorted(frame["subject_id"].unique())
        rows = {
            joint: group.to_numpy(np.int64)
            for joint, group in frame.index.to_series().groupby(frame["joint_id"])
        }
        owners = frame.groupby("subject_id")["joint_id"].unique()
        self.joints: list[str] = [j for s in self.subjects for j in sorted(owners[s])]
        number = {joint: i for i, joint in enumerate(self.joints)}
        self._joints = [
            [(number[j], rows[j]) for j in sorted(owners[subject])] for subject in self.subjects
        ]
        self._cross_visit = cross_visit
        self._visits = visits_per_joint
        self._seed = seed
        self._further: dict[int, npt.NDArray[np.int64]] = {}
        if further is not None and len(further):
            found = further_at(scans, further)
            self._further = {row: len(scans) + others for row, others in found.items()}

    def __len__(self) -> int:
        """Return the number of subjects."""
        return len(self.subjects)

    def draw(self, chosen: npt.NDArray[np.int64], epoch: int) -> Draw:
        """Choose the scans of some subjects in an epoch.

        Args:
            chosen: Numbers of subjects.
            epoch: The epoch.
        """
        entries = [
            (rows[one], rows[other], number, joint, ordinal)
            for number in chosen.tolist()
            for joint, rows, pairs in self._visits_of(number, epoch)
            for ordinal, (one, other) in enumerate(pairs)
        ]
        table = np.array(entries, np.int64).reshape(-1, 5)
        if self._further:
            table[:, 1] = self._across(table[:, 1], table[:, 3], table[:, 4], epoch)
        return Draw(*(np.ascontiguousarray(column) for column in table.T))

    def _across(
        self,
        second: npt.NDArray[np.int64],
        joint: npt.NDArray[np.int64],
        ordinal: npt.NDArray[np.int64],
        epoch: int,
    ) -> list[int]:
        """The rows of second views, of a further sequence where there is one: all alike as likely."""
        numbers = uniforms(hashes((self._seed, Stream.SEQUENCES, epoch), joint, ordinal), 1)[:, 0]
        found = []
        for row, number in zip(second.tolist(), numbers.tolist(), strict=True):
            others = self._further.get(row)
            if others is not None:
                row = int(others[min(int(number * len(others)), len(others) - 1)])
            found.append(row)
        return found

    def _visits_of(
        self, subject: int, epoch: int
    ) -> Iterator[tuple[int, npt.NDArray[np.int64], list[tuple[int, int]]]]:
        """Each joint of a subject, its scans, and which of them the views of each entry are of."""
        random = random_stream(self._seed, Stream.VISITS, epoch, subject)
        for joint, rows in self._joints[subject]:
            one = int(random.integers(len(rows)))
            pairs = [(one, self._other(one, len(rows), random))]
            if self._visits > 1:
                rest = [i for i in random.permutation(len(rows)).tolist() if i != one]
                pairs += [(i, self._other(i, len(rows), random)) for i in rest[: self._visits - 1]]
            yield joint, rows, pairs

    def _other(self, one: int, count: int, random: np.random.Generator) -> int:
        """The visit of the second view."""
        if count > 1 and random.random() < self._cross_visit:
            return (one + 1 + int(random.integers(count - 1))) % count
        return one
