"""The self-supervised objective."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class ObjectiveConfig:
    """The self-supervised objective.

    Args:
        name: Which objective.
        temperature: Divides the cosine similarities.
        ignore_same_subject: Whether other scans of a subject are left out of the negatives.
    """

    name: Literal["simclr"] = "simclr"
    temperature: float = 0.1
    ignore_same_subject: bool = True
