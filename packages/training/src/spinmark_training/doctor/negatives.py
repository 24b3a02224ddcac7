"""Was every row contrasted with the whole batch?"""

from collections.abc import Sequence
from statistics import median

from spinmark_training.doctor.finding import Context, Finding, Row

# A process that sees only its own rows has 1 / processes of the candidates, a half at most; all of them
# are 1. Between the two lies nothing but this line.
MISSED = 0.75


def check_negatives(rows: Sequence[Row], context: Context) -> Finding | None:
    """Check that the effective number of negatives is that of the batch over all processes."""
    pairs = [
        (row["negatives"], row["negatives_expected"])
        for row in rows
        if row.get("negatives_expected", 0.0) > 0 and "negatives" in row
    ]
    if not pairs:
        return None
    share = median(found / wanted for found, wanted in pairs)
    found, wanted = pairs[-1]
    if share < MISSED:
        return Finding(
            "negatives",
            "failure",
            f"a row is contrasted with {found:.0f} others where the batch over all processes has "
            f"{wanted:.0f}: the processes do not share their rows, and the loss looks better than it "
            "is. Check that every process joined the group (trainer.devices, trainer.num_nodes) and that "
            "the objective gathers the rows of all",
        )
    return Finding("negatives", "ok", f"a row is contrasted with {found:.0f} others, as expected")
