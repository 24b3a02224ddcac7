"""The voxels of a sequence as an array that dask cuts, read box by box when computed."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import dask.array as da

    from spinmark_data.cohort.reader import Cohort


class LazyVolumes:
    """An array `(scan, z, y, x)` or `(scan, echo, z, y, x)` of which slices are read on demand.

    Args:
        cohort: The cohort; opened anew wherever a task runs.
        sequence: The sequence.
        shape: Shape of the array.
        dtype: Type of the voxels.
    """

    def __init__(
        self, cohort: "Cohort", sequence: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._cohort = cohort
        self._sequence = sequence
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read slices; whole numbers drop their axis, as in numpy."""
        keys = (key if isinstance(key, tuple) else (key,)) + (slice(None),) * self.ndim
        wanted = [np.arange(n)[k] for n, k in zip(self.shape, keys[: self.ndim], strict=True)]
        flat = [np.atleast_1d(places) for places in wanted]
        out: NDArray[Any]
        if any(places.size == 0 for places in flat):
            out = np.empty([places.size for places in flat], self.dtype)
        else:
            start = [int(places.min()) for places in flat[1:]]
            size = [int(p.max()) + 1 - low for p, low in zip(flat[1:], start, strict=True)]
            boxes = [self._cohort.crop(self._sequence, int(i), start, size) for i in flat[0]]
            out = np.stack(boxes)
            for axis, (places, low) in enumerate(zip(flat[1:], start, strict=True), 1):
                if places.size != out.shape[axis] or (np.diff(places) < 0).any():
                    out = out.take(places - low, axis)
        dropped = tuple(axis for axis, places in enumerate(wanted) if places.ndim == 0)
        return out.squeeze(dropped) if dropped else out


def lazy_array(
    cohort: "Cohort", sequence: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> "da.Array":
    """The same as a dask array, one scan a chunk."""
    from dask.array.core import from_array

    volumes = LazyVolumes(cohort, sequence, shape, dtype)
    array: da.Array = from_array(  # type: ignore[no-untyped-call]
        volumes,
        chunks=(1, *shape[1:]),
        name=f"volume-{sequence}-{cohort.hash}-{cohort.folder.url}",
        fancy=False,
        meta=np.empty((0,) * len(shape), dtype),
    )
    return array
