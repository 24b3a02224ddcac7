"""What a Jaccard similarity is called (bands after Hennig 2007)."""

BANDS: tuple[tuple[float, str], ...] = (
    (0.60, "unstable"),
    (0.75, "doubtful"),
    (0.85, "stable"),
    (float("inf"), "highly stable"),
)
# At or below it more than half of the united members are lost; no second cluster can exceed it.
DISSOLVED = 0.5
RECOVERED = 0.75


def category(jaccard: float) -> str:
    """Name the band of a mean Jaccard similarity.

    Examples:
        >>> category(0.59), category(0.60), category(0.80), category(0.9)
        ('unstable', 'doubtful', 'stable', 'highly stable')
    """
    return next(name for limit, name in BANDS if jaccard < limit)
