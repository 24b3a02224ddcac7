"""What is measured along the way."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class MonitorConfig:
    """What is measured during the run on validation subjects, and never trained on.

    Args:
        every: Steps between two measurements; 0 measures only at the end.
        variables: Numeric table variables that a ridge probe predicts.
        leakage: A nominal variable that should be hard to predict, scored by nearest neighbours.
        max_scans: Most scans embedded for a measurement, training and validation each.
    """

    every: int = 50
    variables: tuple[str, ...] = ("XRKL", "WOMKP")
    leakage: str | None = "SITE"
    max_scans: int = 160
