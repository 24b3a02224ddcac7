"""Is the learning rate too high or too low?"""

from bisect import insort
from collections.abc import Sequence
from statistics import median

from spinmark_training.doctor.finding import Context, Finding, Row, column, early, settled

# Change of the encoder's weights in a step, relative to their size. Healthy runs peak at 0.013; those whose
# embedding narrowed or that forgot what they had learnt were at 0.3 and more. At a tenth, ten steps
# replace the encoder. Networks with normalisation survive that with a falling loss: their weights grow
# until the rate is small beside them, so that the loss alone does not show it.
HUGE_STEP = 0.1
# A gradient a hundred times the usual is no noise of a batch: healthy runs stay within a factor of 20.
EXPLODED = 100.0
# The loss lost half of what it had gained, and by more than its scatter from batch to batch explains: running
# medians of 5 batches differ by up to 4 such scatters in curves that only fall.
SCATTERS, RISE = 4.0, 0.5
# If all steps pointed one way, the weights would still have moved by less than a hundredth of their size.
TRAVELLED = 0.01


def _excess(rows: Sequence[Row]) -> list[float]:
    """The loss above its chance level, which itself moves with the number of negatives.

    Losses without a chance level are left out: those of slow teachers may rise in a healthy run.
    """
    return [r["loss_ssl"] - r["chance"] for r in rows if "loss_ssl" in r and "chance" in r]


def _rose(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return the lowest settled loss and the newest, if the latter is higher beyond its scatter."""
    values = _excess(rows)
    if len(values) < 10:
        return None
    level = settled(values)[4:]
    scatter = 1.4826 * median(abs(v - s) for v, s in zip(values[4:], level, strict=True))
    best, now = min(level), level[-1]
    fall = max(level[0] - best, 0.0)
    return (best, now) if now - best > max(SCATTERS * scatter, RISE * fall) else None


def _exploded(rows: Sequence[Row]) -> float:
    """Return the largest gradient in units of what was usual before it."""
    most, before = 0.0, list[float]()
    for norm in column(rows, "grad_norm"):
        if len(before) >= 5:
            # Kept in order: to sort them anew at each row would take hours in a long run.
            middle = (before[(len(before) - 1) // 2] + before[len(before) // 2]) / 2
            most = max(most, norm / max(middle, 1e-30))
        insort(before, norm)
    return most


def check_learning_rate(rows: Sequence[Row], context: Context) -> Finding | None:
    """Check the size of the steps, and the loss and the gradient for the marks of too large ones."""
    steps = column(rows, "update_ratio")
    if not steps and not _excess(rows) and not column(rows, "grad_norm"):
        return None
    if steps and max(steps) > HUGE_STEP:
        return _high(
            f"a step changed the encoder's weights by {max(steps):.2g} of their size (0.001 to 0.01 is "
            "usual)"
        )
    times = _exploded(rows)
    if times > EXPLODED:
        return _high(f"the gradient grew to {times:.0f} times of what it was before")
    risen = None if early(rows, context) else _rose(rows)
    if risen is not None:
        return _high(
            f"the loss rose again, from {risen[0]:+.2f} to {risen[1]:+.2f} around its chance level"
        )
    if context.final and steps and context.steps:
        most = context.steps * sum(steps) / len(steps)
        if most < TRAVELLED:
            return Finding(
                "learning rate",
                "note",
                f"the learning rate is too low: all {context.steps} steps together changed the encoder's "
                f"weights by less than {most:.1e} of their size. Raise optim.lr, or take more steps",
            )
    return Finding("learning rate", "ok", "neither loss nor steps show a wrong learning rate")


def _high(seen: str) -> Finding:
    return Finding(
        "learning rate",
        "warning",
        f"the learning rate is too high: {seen}. Lower optim.lr by 3 to 10 times, or lengthen "
        "optim.warmup",
    )
