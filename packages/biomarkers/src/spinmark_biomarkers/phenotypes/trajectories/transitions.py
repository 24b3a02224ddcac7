"""The stretches of paths between corners."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.phenotypes.trajectories.motion import Motion, Smoothed, smooth
from spinmark_biomarkers.phenotypes.trajectories.partition import location_bits, partition
from spinmark_biomarkers.phenotypes.trajectories.paths import Bools, Floats, Ints, Paths


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """Transitions in the order of joints and time.

    Args:
        joint: Row of the joint in `Paths.joints`, shape (n,).
        subject: Subject codes, shape (n,).
        first: Visit at which it starts, shape (n,).
        last: Visit at which it ends, shape (n,).
        start: Denoised place at its start, shape (n, component).
        stop: Denoised place at its end, shape (n, component).
        years: Its duration, shape (n,).
        variance: Posterior variance of both ends, summed over ends and components, shape (n,).
    """

    joint: Ints
    subject: Ints
    first: Ints
    last: Ints
    start: Floats
    stop: Floats
    years: Floats
    variance: Floats

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.joint)

    @property
    def velocity(self) -> Floats:
        """Movement a year, shape (n, component)."""
        return np.asarray((self.stop - self.start) / self.years[:, None])

    @property
    def middle(self) -> Floats:
        """Place half-way, shape (n, component)."""
        return np.asarray((self.start + self.stop) / 2)

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> "Transitions":
        """Choose rows."""
        return Transitions(**{name: value[rows] for name, value in vars(self).items()})

    def moving(self, velocity: Floats) -> "Transitions":
        """The same places and durations with another movement, shape (n, component)."""
        half = velocity * self.years[:, None] / 2
        return replace(self, start=self.middle - half, stop=self.middle + half)


def smooth_paths(paths: Paths, motions: list[Motion]) -> list[Smoothed]:
    """Denoise every component of all paths."""
    return [
        smooth(paths.points[:, :, c], paths.years, paths.scans, motion)
        for c, motion in enumerate(motions)
    ]


def find_corners(paths: Paths, motions: list[Motion]) -> Bools:
    """Partition all paths.

    Corners are looked for in the points as measured, whose noise is known and independent: smoothing
    rounds corners off. The price of a corner comes from training and validation joints.

    Returns:
        Which visits are corners, shape (joint, visit).
    """
    noise = np.array([motion.noise for motion in motions])
    variance = noise / np.maximum(paths.scans, 1)[:, :, None]
    chosen = paths.fitted if paths.fitted.any() else np.ones(len(paths.joints), bool)
    bits = location_bits(paths.points[chosen][paths.present[chosen]], noise)
    return partition(paths.points, paths.years, variance, paths.joints["visits"], bits=bits)


def make_transitions(paths: Paths, smoothed: list[Smoothed], corners: Bools) -> Transitions:
    """Cut paths at their corners.

    Args:
        paths: The paths.
        smoothed: Their denoised components.
        corners: From `find_corners`.
    """
    joint, visit = np.nonzero(corners)
    follows = np.r_[joint[1:] == joint[:-1], False]
    owner, first, last = joint[follows], visit[follows], visit[np.flatnonzero(follows) + 1]
    level = np.stack([one.level for one in smoothed], axis=2)
    variance = np.sum([one.variance for one in smoothed], axis=0)
    return Transitions(
        joint=owner.astype(np.int64),
        subject=paths.subjects[owner],
        first=first.astype(np.int64),
        last=last.astype(np.int64),
        start=level[owner, first],
        stop=level[owner, last],
        years=paths.years[owner, last] - paths.years[owner, first],
        variance=np.asarray(variance[owner, first] + variance[owner, last]),
    )
