"""Does the embedding still tell scans apart?"""

import math
from collections.abc import Sequence

from spinmark_training.doctor.finding import Context, Finding, Row, column, last

# The effective rank counts directions in use. Prototypes that used 2 directions had collapsed, and those
# with 4 to 8 of 128 recovered little; a sixteenth of the width is the boundary of both.
LOW_RANK = 1 / 16
COLLAPSED = 2.0
# Spread of the unit-length rows, 1 when they point everywhere. Untrained encoders that end in an
# average over a volume have 0.05 to 0.14, since all knees look alike to them; at 0.01 the mean cosine of
# two rows is 0.9999 and single precision is soon all that differs.
NO_SPREAD = 0.01
# Training widens the spread or keeps it; what lost four fifths of it is on its way to a point.
NARROWED = 0.2


def check_rank(rows: Sequence[Row], context: Context) -> Finding:
    """Check that the embedding uses many directions."""
    rank = last(rows, "rankme")
    if math.isnan(rank):
        return Finding("rank", "note", "the effective rank was not measured")
    said = f"effective rank {rank:.1f} of {context.width} (RankMe)"
    if rank < COLLAPSED:
        return Finding(
            "rank",
            "failure",
            f"{said}: the embedding has collapsed to a line; lower optim.lr or the intensity part of "
            "the augmentation",
        )
    if rank < LOW_RANK * context.width:
        return Finding(
            "rank", "warning", f"{said}: few directions are used; more subjects or steps may help"
        )
    return Finding("rank", "ok", said)


def check_spread(rows: Sequence[Row], context: Context) -> Finding | None:
    """Check that the embeddings of different scans point in different directions."""
    name = "embedding_sd" if column(rows, "embedding_sd") else "embedding_sd_val"
    values = column(rows, name)
    if not values:
        return None
    first, now = values[0], values[-1]
    said = f"spread of the embeddings {now:.3f} (1 when they point everywhere)"
    if now < NO_SPREAD:
        return Finding(
            "spread",
            "failure",
            f"{said}: the embedding has collapsed to a point, every scan gets the same vector. Lower "
            "optim.lr; without negatives, check that the teacher moves and that the predictor is there",
        )
    if now < NARROWED * first:
        return Finding(
            "spread",
            "warning",
            f"{said}, from {first:.3f} at the start: the embedding is collapsing. Lower optim.lr, or "
            "give the term that keeps embeddings apart more weight",
        )
    return Finding("spread", "ok", said)
