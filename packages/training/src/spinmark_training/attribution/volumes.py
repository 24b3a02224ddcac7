"""Where the path of a volume begins, and attributions on the scan's own grid."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_training.errors import InputError
from spinmark_training.sources import ScanSource
from spinmark_training.views import plain_views

Kind = Literal["mean", "blurred", "zero"]
_READ = 16


class VolumeBaseline:
    """The volume at which the path to a scan begins.

    - `mean`: the mean of training scans, voxel by voxel. The attribution tells why this scan and not an
      average one. Joints lie alike in their crops, so the mean looks like a joint, and dark tissue can
      carry attribution as well as bright tissue.
    - `blurred`: the scan, smoothed. It tells of what is finer than the smoothing alone.
    - `zero`: no signal anywhere. Voxels without signal, such as cortical bone, can carry none.

    Args:
        kind: Which.
        source: Training scans.
        intensity: The encoder's intensity rule.
        most: Most scans that the mean is taken over.
        seed: Draws them.
        blur_mm: Standard deviation of the smoothing.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self,
        kind: Kind,
        source: ScanSource,
        intensity: IntensityRule,
        *,
        most: int = 200,
        seed: int = 0,
        blur_mm: float = 6.0,
    ) -> None:
        if kind == "mean" and most < 1:
            raise InputError(f"baseline_scans: {most}; accepted are 1 and more")
        if kind == "blurred" and not blur_mm > 0:
            raise InputError(f"blur_mm: {blur_mm}; accepted are values above 0")
        self.kind = kind
        self.scans = 0
        self._sigma = [blur_mm / step for step in source.spacing_mm]
        self._fixed: Tensor | None = None
        if kind == "zero":
            # The intensity rule scales from its lower percentile on and clips there.
            self._fixed = torch.full((1, *source.shape), -intensity.mean / intensity.sd)
        elif kind == "mean":
            rows = np.random.default_rng(seed).permutation(source.rows)[:most]
            self.scans = len(rows)
            self._fixed = mean_volume(source, np.sort(rows), intensity)

    def __call__(self, volume: Tensor) -> Tensor:
        """Return the baseline of a volume `(1, D, H, W)`, in the same shape."""
        if self._fixed is not None:
            return self._fixed.to(volume.device)
        smooth = gaussian_filter(volume[0].cpu().numpy(), self._sigma, mode="nearest")
        return torch.from_numpy(smooth)[None].to(volume.device)


def mean_volume(
    source: ScanSource, rows: npt.NDArray[np.int64], intensity: IntensityRule
) -> Tensor:
    """Average scans, voxel by voxel, as the encoder sees them: `(1, D, H, W)`."""
    total = torch.zeros((1, *source.shape), dtype=torch.float64)
    for start in range(0, len(rows), _READ):
        total += plain_views(source, rows[start : start + _READ], intensity).double().sum(0)
    return (total / len(rows)).float()
