"""The clinical teacher."""

from dataclasses import dataclass, field
from typing import Literal

from spinmark_models.config import ClinicalEncoderConfig


@dataclass(kw_only=True)
class TeacherConfig:
    """The clinical encoder that teaches the image encoder.

    Args:
        roles: Roles of the variables it sees. Structure (radiographic readings) is off: the aim is to
            learn without it.
        encoder: The network.
        scaling: How numbers are scaled: `standard` by their standard deviation, `robust` by their
            interquartile range.
        steps: Optimiser steps.
        rows: Table rows in a step.
        lr: Highest learning rate.
        weight_decay: Decoupled weight decay.
    """

    roles: tuple[str, ...] = ("demographic", "symptom", "function")
    encoder: ClinicalEncoderConfig = field(default_factory=ClinicalEncoderConfig)
    scaling: Literal["standard", "robust"] = "standard"
    steps: int = 600
    rows: int = 256
    lr: float = 3e-3
    weight_decay: float = 1e-4
