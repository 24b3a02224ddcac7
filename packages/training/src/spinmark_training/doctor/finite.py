"""Is every figure a number?"""

import math
from collections.abc import Sequence

from spinmark_training.doctor.finding import Context, Finding, Row

# The norm of a gradient is not among them: with 16-bit numbers single steps overflow and are skipped.
WATCHED = ("loss", "loss_ssl", "rankme", "lidar", "embedding_sd", "embedding_sd_val")


def check_finite(rows: Sequence[Row], context: Context) -> Finding:
    """Check that losses and measures of the embedding are numbers."""
    for row in rows:
        for name in WATCHED:
            if name in row and not math.isfinite(row[name]):
                what = context.source or (
                    "lower optim.lr, and look for scans with impossible intensities"
                )
                text = f"{name} stopped being a number at step {int(row['step'])}; {what}"
                return Finding("finite", "failure", text)
    return Finding("finite", "ok", "every figure is a number")
