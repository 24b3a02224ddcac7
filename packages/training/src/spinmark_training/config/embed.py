"""How scans become vectors."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class WindowConfig:
    """How volumes that are larger than the encoder's grid are looked at.

    Args:
        mode: `whole` takes a volume at once, `sliding` in windows of the encoder's grid; `auto` slides
            where the grids differ.
        overlap: Least share of a window that the next one along an axis repeats, in [0, 1).
        weights: The embedding is a mean over windows: `uniform`, or `gaussian` with weights that fall
            with the distance of a window's centre from the volume's (standard deviation: half a window).
    """

    mode: Literal["auto", "whole", "sliding"] = "auto"
    overlap: float = 0.25
    weights: Literal["uniform", "gaussian"] = "uniform"


@dataclass(kw_only=True)
class ViewsConfig:
    """Random views of each scan, for the uncertainty of its embedding.

    Args:
        count: Views a scan, by the run's own augmentation; 0 for none, else 2 and more.
        seed: With the scan's name it fixes the views.
        average: Whether the embedding is the mean over the plain scan and its views.
    """

    count: int = 0
    seed: int = 0
    average: bool = False


@dataclass(kw_only=True)
class AlignConfig:
    """How the spaces of cross-fitted encoders are aligned.

    Args:
        anchors: Most scans of validation subjects that every encoder embeds.
        check: Most scans of each fold that every encoder embeds, to tell how well the aligned spaces
            agree on the scans that downstream stages see; 0 for none.
        parts: Parts of the anchors' subjects; the residual is that of each part under an alignment
            fitted on the others.
        seed: Draws the anchors, where there are more than needed, and the parts.
    """

    anchors: int = 2000
    check: int = 100
    parts: int = 5
    seed: int = 0


@dataclass(kw_only=True)
class EmbedConfig:
    """How scans become vectors.

    Args:
        sequence: The image sequence; none takes that of the run.
        batch_size: Scans at a time; the result does not depend on it beyond rounding.
        accelerator: The device; `auto` takes a GPU when there is one.
        threads: CPU threads of torch, shared by the workers; none leaves them as they are.
        workers: Processes on this machine.
        piece: Scans in a piece of work, which is stored whole; work that was cut short goes on from
            the pieces that are there.
        windows: Volumes larger than the encoder's grid.
        views: Random views, for the uncertainty.
        align: The alignment of cross-fitted encoders.
        bad_scans: Scans whose voxels are no numbers: `quarantine` lists them and embeds the others,
            `refuse` stops.
    """

    sequence: str | None = None
    batch_size: int = 32
    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    threads: int | None = None
    workers: int = 1
    piece: int = 64
    windows: WindowConfig = field(default_factory=WindowConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    bad_scans: Literal["quarantine", "refuse"] = "quarantine"
