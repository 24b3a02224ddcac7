"""A label map as a right knee in millimetres."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import lps_axes
from spinmark_data.labels.box import Box


@dataclass(frozen=True, kw_only=True)
class Joint:
    """A label map of which medial lies to the left (LPS x grows), as in a right knee.

    Args:
        labels: Codes `(z, y, x)`.
        affine: `(4, 4)`, voxel centres to LPS mm, a left knee reflected to a right one.
        codes: Code of each structure, by name.
    """

    labels: NDArray[Any]
    affine: NDArray[np.float64]
    codes: Mapping[str, int]

    @classmethod
    def of(
        cls,
        labels: NDArray[Any],
        affine: NDArray[np.float64],
        codes: Mapping[int, str],
        *,
        laterality: str = "R",
        mirrored: bool = False,
    ) -> "Joint":
        """Make one.

        Args:
            labels: Codes `(z, y, x)` as acquired, or mirrored as a cohort stores left knees.
            affine: `(4, 4)`, voxel centres of the array before mirroring to LPS mm.
            codes: Name of each code.
            laterality: `R` or `L`.
            mirrored: Whether `labels` were mirrored.

        Raises:
            InputError: The side is neither, or the array has not three axes.
        """
        if laterality not in ("R", "L"):
            raise InputError(
                f"laterality '{laterality}'; R or L is needed to tell medial from lateral."
            )
        if labels.ndim != 3:
            raise InputError(f"Labels of shape {labels.shape}; (z, y, x) is needed.")
        placed = affine.astype(np.float64).copy()
        if mirrored:
            # Index i of the mirrored array is index n - 1 - i of the array that the affine is of.
            axis = lps_axes(affine).index(0)
            placed[:3, 3] += placed[:3, axis] * (labels.shape[axis] - 1)
            placed[:3, axis] *= -1
        if laterality == "L":
            placed[0] *= -1
        return cls(labels=labels, affine=placed, codes={name: code for code, name in codes.items()})

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel spacing along z, y and x."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Where a structure is; nowhere if the codes do not know it."""
        code = self.codes.get(name)
        if code is None:
            return np.zeros(self.labels.shape, bool)
        return np.asarray(self.labels == code)

    def cut(self, box: Box) -> "Joint":
        """The part within a box, each voxel in its place."""
        moved = self.affine.copy()
        moved[:3, 3] += moved[:3, :3] @ [part.start for part in box]
        return Joint(labels=self.labels[box], affine=moved, codes=self.codes)

    def volumes(self) -> dict[str, float]:
        """Volume of each structure in mm3: its voxels times the volume of one."""
        counts = np.bincount(
            self.labels.reshape(-1), minlength=max(self.codes.values(), default=0) + 1
        )
        voxel = abs(float(np.linalg.det(self.affine[:3, :3])))
        return {name: float(counts[code]) * voxel for name, code in self.codes.items()}
