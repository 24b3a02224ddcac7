"""Was the site learnt instead of the disease?"""

import math
from collections.abc import Sequence

from spinmark_training.doctor.finding import Context, Finding, Row, last

# Half of what there is to gain: beyond it neighbours share the scanner more often than not.
READ = 0.5
# Variance of a target that a probe explains: random targets of 160 training and 83 validation joints stayed
# below it in more than 95 of 100 draws, so that less is nothing.
NOTHING = 0.05


def check_leakage(rows: Sequence[Row], context: Context) -> Finding:
    """Say how well a nuisance can be read from the embedding, and whether anything else can."""
    name = context.leakage
    accuracy = last(rows, f"knn_{name}")
    chance = last(rows, f"knn_{name}_chance")
    if name is None or math.isnan(accuracy) or math.isnan(chance):
        return Finding("leakage", "note", "no nuisance variable was probed")
    text = (
        f"{name} can be read from the embedding with accuracy {accuracy:.2f} (commonest class "
        f"{chance:.2f}, validation subjects)"
    )
    if not accuracy > chance + READ * (1 - chance):
        return Finding("leakage", "ok", text)
    probes = sorted({key for row in rows for key in row if key.startswith("r2_")})
    scores = {key.removeprefix("r2_"): last(rows, key) for key in probes}
    if scores and max(scores.values()) < NOTHING:
        best = max(scores, key=lambda key: scores[key])
        return Finding(
            "leakage",
            "warning",
            f"{text}, and no target can (best {best}, R2 {scores[best]:.2f}): the run learnt {name} "
            "instead of the disease. Strengthen the intensity part of augment, or raise data.cross_visit "
            "where visits were scanned at different sites",
        )
    return Finding("leakage", "note", f"{text}; compare groups within {name} as well")
