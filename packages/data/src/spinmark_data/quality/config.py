"""What a quality check looks at and how strict it is."""

import math
from dataclasses import dataclass
from typing import Literal

from spinmark_data.errors import InputError

# Of a fingerprint; its module imports this.
BITS = 512


@dataclass(kw_only=True)
class QualityConfig:
    """How scans are checked.

    Args:
        sequences: Sequences to check; all by default.
        modality: What the intensities are; by default `ct` where they go below -200, else `mr`.
        limit: Robust z from which a metric is flagged.
        min_group: Scans of one sequence and scanner below which a scan is compared with the whole
            sequence.
        duplicate_bits: Bits of 512 in which the fingerprints of two copies may differ.
        shown: Scans on the page, the worst first.
    """

    sequences: list[str] | None = None
    modality: Literal["auto", "mr", "ct"] = "auto"
    limit: float = 5.0
    min_group: int = 8
    duplicate_bits: int = 16
    shown: int = 24

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise InputError(f"limit: {self.limit}; a robust z above 0 is needed.")
        if self.min_group < 3:
            raise InputError(f"min_group: {self.min_group}; 3 or more are needed for a spread.")
        if not 0 <= self.duplicate_bits <= BITS // 4:
            raise InputError(
                f"duplicate_bits: {self.duplicate_bits}; 0 to {BITS // 4} are accepted."
            )
        if self.shown < 1:
            raise InputError(f"shown: {self.shown}; a page shows 1 or more.")
