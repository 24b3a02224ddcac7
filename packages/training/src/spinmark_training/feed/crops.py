"""Which box of a scan is read for its views, and where in that box they may lie.

One box a scan is read, larger than the views by a margin: half of it lets views lie apart, the other
half gives rotated and shifted views something to look at. Boxes start on chunks of the store where
they can, since each chunk that a box meets is decoded whole.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_training.errors import InputError

Shape = tuple[int, int, int]


def _three(values: list[int]) -> Shape:
    return (values[0], values[1], values[2])


def check_shape(field: str, shape: Shape, volume: Shape) -> Shape:
    """Return a grid that fits into a volume.

    Args:
        field: The name of the setting, for the message.
        shape: Its value.
        volume: The grid of the volumes.

    Raises:
        InputError: It has a size below 1, or above that of the volume.
    """
    if not all(1 <= a <= b for a, b in zip(shape, volume, strict=True)):
        raise InputError(
            f"{field}: {tuple(shape)}; accepted are three sizes (z, y, x) from 1 to those of the volumes, "
            f"{volume}"
        )
    return _three([int(n) for n in shape])


@dataclass(frozen=True)
class CropPlan:
    """Boxes of a sequence.

    Args:
        volume: Grid of the volumes.
        box: Grid of what is read of a scan.
        margin: Voxels of the box on each side of a view in its middle.
        starts: Along each axis, the first voxels that a box may have.
    """

    volume: Shape
    box: Shape
    margin: Shape
    starts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, volume: Shape, view: Shape | None, margin: Shape, chunk: Shape) -> "CropPlan":
        """Lay boxes of views and their margin on the chunks of a store.

        Args:
            volume: Grid of the volumes.
            view: Grid of the whole views; none takes the volume, whose box is all of it.
            margin: Voxels around it on each side, fewer where the volume has not so many.
            chunk: Grid of the store's chunks.

        Raises:
            InputError: The views do not fit into the volumes, or a margin is negative.
        """
        shape = volume if view is None else check_shape("data.crop", view, volume)
        if min(margin) < 0:
            raise InputError(
                f"data.margin: {tuple(margin)}; accepted are three numbers of 0 and more"
            )
        sizes, left, starts = [], [], []
        for whole, size, around, step in zip(volume, shape, margin, chunk, strict=True):
            box = min(whole, size + 2 * around)
            last = whole - box
            sizes.append(box)
            # A box that is as wide as the volume has no neighbours to spare voxels for.
            left.append(around if last else 0)
            # The far end is reached even if it is no multiple of a chunk.
            starts.append(tuple(dict.fromkeys([*range(0, last + 1, step), last])))
        return cls(volume, _three(sizes), _three(left), tuple(starts))

    @property
    def is_whole(self) -> bool:
        """Whether a box is the volume."""
        return self.box == self.volume

    def draw(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Choose where boxes start.

        Args:
            numbers: Uniform in [0, 1), `(n, 3)`.

        Returns:
            First voxels `(n, 3)`.
        """
        found = np.zeros((len(numbers), 3), np.int64)
        for axis, choices in enumerate(self.starts):
            chosen = np.minimum((numbers[:, axis] * len(choices)).astype(int), len(choices) - 1)
            found[:, axis] = np.asarray(choices)[chosen]
        return found

    def reach(self, view: Shape) -> tuple[float, float, float]:
        """Return how far the centre of a view may lie from that of its box, in voxels.

        Args:
            view: Grid of the view.
        """
        found = [
            max(0.0, (box - around - size) / 2)
            for box, around, size in zip(self.box, self.margin, view, strict=True)
        ]
        return (found[0], found[1], found[2])
