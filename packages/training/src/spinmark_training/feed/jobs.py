"""What is to be made, as numbers alone: small enough to be sent to a worker."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """Some joints of a batch whose views are wanted.

    Args:
        epoch: The epoch.
        joints: Which of the batch's joints.
        first: Row of the scan behind each first view, `(n,)`.
        second: Row of the scan behind each second view, `(n,)`.
        joint: Number of each joint, `(n,)`.
        ordinal: Which of a joint's rows in the batch, from 0, `(n,)`.
    """

    epoch: int
    joints: slice
    first: Rows
    second: Rows
    joint: Rows
    ordinal: Rows

    def part(self, joints: slice) -> "Job":
        """Return the job of some of the joints, `joints` within the batch."""
        columns = (self.first, self.second, self.joint, self.ordinal)
        return Job(self.epoch, joints, *(column[joints] for column in columns))
