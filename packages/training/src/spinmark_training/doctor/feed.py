"""Does the training wait for data?"""

from collections.abc import Sequence
from statistics import median

from spinmark_training.doctor.finding import Context, Finding, Row, column

# A twentieth of the time is what the feed is built to stay under; above a fifth a cheaper machine would do.
SOME, MUCH = 0.05, 0.2


def check_feed(rows: Sequence[Row], context: Context) -> Finding | None:
    """Check the share of the time that steps waited for their batch."""
    # The first row holds the filling of the caches and the compilation of kernels.
    values = column(rows, "idle_fraction")[1:]
    if not values:
        return None
    idle = median(values)
    text = f"{idle:.0%} of the time went by waiting for data"
    if idle > MUCH:
        return Finding(
            "feed",
            "warning",
            f"{text}: the run is starved. Raise data.workers or data.cache_gb, put the cohort on a "
            "local disk, or augment on the device",
        )
    if idle > SOME:
        return Finding("feed", "note", f"{text}; more data.workers may make it faster")
    return Finding("feed", "ok", text)
