"""Has the loss left the level of guessing?"""

import math
from collections.abc import Sequence

from spinmark_training.doctor.finding import Context, Finding, Row, column, early, last, settled

# A loss still above this share of the way from its floor, mostly 0, to its chance level has told almost no
# pair apart. A run that learns leaves it within a few steps: the demo's ends below half of it.
PINNED = 0.95
# Share of the chance level by which a running run's loss has to fall in half of its rows to be left alone:
# small runs begin above the level and need a while to come down to it.
FALLING = 0.02


def _level(chance: float, rows: Sequence[Row]) -> str:
    """Name the chance level, and where it comes from if candidates were counted."""
    others = last(rows, "negatives")
    if others > 0 and abs(math.log1p(others) - chance) < 0.02:
        return f"{chance:.2f}, the logarithm of {round(others) + 1} candidates"
    return f"{chance:.2f}"


def _falls(pairs: Sequence[tuple[float, float]]) -> bool:
    """Say whether the loss is still on its way down."""
    level = settled([loss - chance for loss, chance in pairs])
    return level[len(level) // 2] - level[-1] > FALLING * pairs[-1][1]


def check_loss(rows: Sequence[Row], context: Context) -> Finding | None:
    """Check that the self-supervised loss has left its chance level: ln(2N - 1) for N pairs."""
    pairs = [(r["loss_ssl"], r["chance"]) for r in rows if "loss_ssl" in r and "chance" in r]
    if not pairs:
        if any("loss" in row for row in rows):
            text = (
                "the objective has no chance level; rank, spread and probes tell whether it learnt"
            )
            return Finding("loss", "note", text)
        return Finding("loss", "note", "no step was taken: the encoder is untrained")
    if early(rows, context) or (not context.final and _falls(pairs)):
        return None
    tail = pairs[-max(1, len(pairs) // 5) :]
    loss = sum(pair[0] for pair in tail) / len(tail)
    chance = sum(pair[1] for pair in tail) / len(tail)
    # Where a view has several positives the loss cannot come to 0.
    floor = column(rows, "floor")[-len(tail) :]
    least = sum(floor) / len(floor) if floor else 0.0
    if not loss < least + PINNED * (chance - least):
        if not context.final:
            # Encoders have been seen to leave the level after half of their steps only.
            return Finding(
                "loss",
                "warning",
                f"the loss stands at chance so far: {loss:.2f} where guessing gives "
                f"{_level(chance, rows)}. If it stays there, weaken augment or change optim.lr",
            )
        return Finding(
            "loss",
            "failure",
            f"the loss is pinned at chance: {loss:.2f} where guessing gives {_level(chance, rows)}; "
            "nothing was learnt. Take more steps, weaken augment, or change optim.lr: down if the rank "
            "fell, up if nothing moved",
        )
    return Finding(
        "loss",
        "ok",
        f"the loss fell to {loss:.2f}; guessing would give {_level(chance, rows)} (chance level)",
    )
