"""What of a scan and of its table row makes the two alike."""

from dataclasses import dataclass, field
from typing import Literal

from spinmark_training.config.embed import WindowConfig


@dataclass(kw_only=True)
class AttributionConfig:
    """How the similarity of a scan and its table row is attributed to voxels and cells.

    Args:
        scans: Identifiers of scans; none draws some.
        set: The set that scans are drawn from.
        count: How many joints are drawn, each with its first scan.
        seed: Draws the joints, the scans behind the mean volume, and the random weights.
        table_baseline: Where the path of a row begins: `missing`, every cell missing; or `median`, every
            cell the median or the commonest category of the rows the teacher was fitted on.
        voxel_baseline: Where the path of a volume begins: `mean` of training scans, `blurred`, the scan
            itself smoothed, or `zero`, no signal anywhere.
        baseline_scans: Most training scans that the mean is taken over.
        blur_mm: Standard deviation of the smoothing.
        tolerance: Largest completeness error, as a share of the change of similarity (of 0.1 where it
            changes by less). The errors of all parts of a path are added without their signs, so that
            the error of the whole is smaller.
        most_steps: Most points on a path at which gradients are taken.
        box: Voxels (z, y, x) of the boxes that are hidden one by one.
        randomised: How many times the weights are drawn anew for the sanity check; 0 leaves it out.
        cascade: Draw weights anew from the last block of the encoder on, block by block, too.
        warn_above: Rank correlation with what random weights give above which a map is said to say
            little of what was learnt.
        windows: How volumes larger than the encoder's grid were looked at when they were embedded.
        labels: The set of label maps that voxel attribution is summed over, where the cohort has it.
        batch_size: Points of a path, or hidden boxes, at a time.
        accelerator: The device; `auto` takes a GPU when there is one.
        threads: CPU threads of torch; none leaves them as they are.
    """

    scans: tuple[str, ...] = ()
    set: Literal["test", "val"] = "test"
    count: int = 6
    seed: int = 0
    table_baseline: Literal["missing", "median"] = "missing"
    voxel_baseline: Literal["mean", "blurred", "zero"] = "mean"
    baseline_scans: int = 200
    blur_mm: float = 6.0
    tolerance: float = 0.05
    most_steps: int = 1024
    box: tuple[int, int, int] = (4, 8, 8)
    randomised: int = 2
    cascade: bool = False
    warn_above: float = 0.5
    windows: WindowConfig = field(default_factory=WindowConfig)
    labels: str = "labels"
    batch_size: int = 16
    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    threads: int | None = None
