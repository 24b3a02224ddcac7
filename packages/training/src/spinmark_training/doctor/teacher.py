"""Does the momentum teacher follow the student, and slowly?"""

from collections.abc import Sequence
from statistics import median

from spinmark_training.doctor.finding import Context, Finding, Row, column

# Change of the teacher's weights in a step, relative to their size. Single precision rounds at 6e-8; a
# teacher of momentum 0.99 behind a student that learns moves by 1e-4 to 1e-2.
STILL = 1e-6
# A step moves the teacher by (1 - m) of the way and leaves m of it, so this ratio is (1 - m) / m: at 1
# half of the teacher is forgotten in a step, and it is no slow average any more.
FAST = 1.0


def check_teacher(rows: Sequence[Row], context: Context) -> Finding | None:
    """Check a momentum teacher's weights, where there is one."""
    pairs = [
        (row["teacher_moved"], row["teacher_distance"])
        for row in rows
        if "teacher_moved" in row and "teacher_distance" in row
    ]
    if not pairs or len(pairs) < 2:
        return None
    moved, apart = max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    if moved < STILL:
        also = column(rows, "update_ratio")
        if apart < STILL and (not also or max(also) < STILL):
            return Finding(
                "teacher",
                "warning",
                "neither teacher nor student moves: check optim.lr and that weights are not frozen",
            )
        return Finding(
            "teacher",
            "failure",
            f"the teacher does not move (at most {moved:.1e} of its size in a step) while the student "
            f"is {apart:.1e} away: it teaches what it was initialised to. Check that its update is "
            "called after each step and that its momentum is below 1",
        )
    # Momentum grows to 1 over a run: how slow it is shows at the start.
    start = [m / max(d, 1e-12) for m, d in pairs if m >= STILL]
    ratios = start[: max(1, len(start) // 3)]
    if median(ratios) > FAST:
        return Finding(
            "teacher",
            "warning",
            f"the teacher follows the student at once (it moves {median(ratios):.1f} times the distance "
            "that is left): it is no slow average, and without negatives the run may collapse. Raise "
            "its momentum to 0.99 or more",
        )
    return Finding("teacher", "ok", f"the teacher follows, {pairs[-1][1]:.3f} of its size away")
