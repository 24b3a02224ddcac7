"""What a forecast is made from."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class PlanConfig:
    """How a run is forecast.

    Args:
        steps: Steps that are really taken, after two that warm up; more make a steadier forecast.
        gigabytes_per_second: Bandwidth between processes that is assumed where there are several.
    """

    steps: int = 8
    gigabytes_per_second: float = 1.0
