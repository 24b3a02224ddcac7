"""Is a run healthy? Verdicts in plain words, from its metrics alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Row = Mapping[str, float]

# A loss still above this share of the chance level at the end has told almost no pair apart. A run that
# learns leaves it within a few steps: the demo's ends below half of it.
PINNED = 0.95
# The effective rank counts directions in use. Prototypes that used 2 directions had collapsed, and those
# with 4 to 8 of 128 recovered little; a sixteenth of the width is the boundary of both.
LOW_RANK = 1 / 16
COLLAPSED = 2.0
# Squared distance of partners on the unit sphere. Real augmentations start near 1; below this the two
# views are the same picture up to rounding, and the task is empty.
SAME_VIEWS = 1e-3


@dataclass(frozen=True)
class Finding:
    """One check of a run.

    Attributes:
        check: The name of the check.
        verdict: `ok`, `note`, `warning` or `failure`.
        text: What was seen, what it means and what to do.
    """

    check: str
    verdict: Literal["ok", "note", "warning", "failure"]
    text: str


def _last(rows: Sequence[Row], name: str) -> float:
    values = [row[name] for row in rows if name in row]
    return values[-1] if values else math.nan


def check_finite(rows: Sequence[Row]) -> Finding:
    """Check that every figure is a number."""
    for row in rows:
        for name in ("loss", "rankme"):
            if name in row and not math.isfinite(row[name]):
                return Finding(
                    "finite",
                    "failure",
                    f"{name} stopped being a number at step {int(row['step'])}; lower optim.lr, and "
                    "look for scans with impossible intensities",
                )
    return Finding("finite", "ok", "every figure is a number")


def check_loss(rows: Sequence[Row]) -> Finding:
    """Check that the self-supervised loss has left its chance level."""
    pairs = [(r["loss_ssl"], r["chance"]) for r in rows if "loss_ssl" in r and "chance" in r]
    if not pairs:
        return Finding("loss", "note", "no step was taken: the encoder is untrained")
    tail = pairs[-max(1, len(pairs) // 5) :]
    loss = sum(pair[0] for pair in tail) / len(tail)
    chance = sum(pair[1] for pair in tail) / len(tail)
    if not loss < PINNED * chance:
        return Finding(
            "loss",
            "failure",
            f"the loss is pinned at chance: {loss:.2f} where guessing gives {chance:.2f}; nothing was "
            "learnt. Lower optim.lr, weaken the augmentation, or take more steps",
        )
    return Finding(
        "loss",
        "ok",
        f"the loss fell to {loss:.2f}; guessing would give {chance:.2f} (chance level)",
    )


def check_rank(rows: Sequence[Row], width: int) -> Finding:
    """Check that the embedding uses many directions."""
    rank = _last(rows, "rankme")
    if math.isnan(rank):
        return Finding("rank", "note", "the effective rank was not measured")
    said = f"effective rank {rank:.1f} of {width} (RankMe)"
    if rank < COLLAPSED:
        return Finding(
            "rank",
            "failure",
            f"{said}: the embedding has collapsed to a line; lower optim.lr or the intensity part of "
            "the augmentation",
        )
    if rank < LOW_RANK * width:
        return Finding(
            "rank", "warning", f"{said}: few directions are used; more subjects or steps may help"
        )
    return Finding("rank", "ok", said)


def check_views(rows: Sequence[Row]) -> Finding:
    """Check that the two views of a joint differ."""
    values = [row["alignment"] for row in rows if "alignment" in row]
    if not values:
        return Finding("views", "note", "no views were drawn")
    if max(values) < SAME_VIEWS:
        return Finding(
            "views",
            "failure",
            f"the two views of a joint are the same (distance {max(values):.1e} throughout): the "
            "augmentation does nothing and data.cross_visit is 0 or there is one visit",
        )
    return Finding("views", "ok", f"the two views differ (distance {values[0]:.2f} at the start)")


def check_leakage(rows: Sequence[Row], name: str | None) -> Finding:
    """Say how well a nuisance can be read from the embedding."""
    accuracy = _last(rows, f"knn_{name}")
    chance = _last(rows, f"knn_{name}_chance")
    if name is None or math.isnan(accuracy) or math.isnan(chance):
        return Finding("leakage", "note", "no nuisance variable was probed")
    text = (
        f"{name} can be read from the embedding with accuracy {accuracy:.2f} (commonest class "
        f"{chance:.2f}, validation subjects)"
    )
    # Half of what there is to gain: beyond it neighbours share the scanner more often than not.
    if accuracy > chance + 0.5 * (1 - chance):
        return Finding("leakage", "note", f"{text}; compare groups within {name} as well")
    return Finding("leakage", "ok", text)


def examine(rows: Sequence[Row], *, width: int, leakage: str | None) -> dict[str, Any]:
    """Run all checks.

    Args:
        rows: The rows of the metrics; a row may lack columns.
        width: Length of the embedding.
        leakage: The nuisance variable that was probed.

    Returns:
        `healthy` (no failure) and `findings`, each `check`, `verdict`, `text`; plain JSON.
    """
    findings = [
        check_finite(rows),
        check_loss(rows),
        check_rank(rows, width),
        check_views(rows),
        check_leakage(rows, leakage),
    ]
    healthy = all(finding.verdict != "failure" for finding in findings)
    return {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
