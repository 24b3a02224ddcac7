"""The clinical teacher."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spinmark_models.config import ClinicalEncoderConfig


@dataclass(kw_only=True)
class TeacherConfig:
    """The clinical encoder that teaches the image encoder.

    Args:
        roles: Roles of the variables it sees. Structure (radiographic readings) is off: the aim is to
            learn without it.
        leave_out: Variables, or groups of the dictionary, that it does not see after all.
        add: Variables that it sees beyond these roles, by name, such as one grade as a label among the
            features (arXiv:2303.14080). No outcome and nothing administrative is accepted.
        arrays: Files of numbers keyed by `scan_id` that it sees too, such as embeddings of reports:
            Parquet or CSV tables, embeddings artefacts, Zarr, NetCDF, or NPZ.
        reasons: Whether the reason for which a cell is missing is told, as far as the cohort knows it.
        missing: Share of the cells that are taken away for good before anything is fitted, of everybody;
            for studies of robustness.
        visits: What it sees of earlier visits: `row` nothing, `delta` each number's change since the
            first earlier visit, `sequence` the rows of all earlier visits. Nothing of later ones.
        encoder: The network.
        scaling: How numbers are scaled: `standard` by their standard deviation, `robust` by their
            interquartile range.
        steps: Optimiser steps.
        rows: Table rows in a step.
        lr: Highest learning rate.
        weight_decay: Decoupled weight decay.
    """

    roles: tuple[str, ...] = ("demographic", "symptom", "function")
    leave_out: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    arrays: tuple[Path, ...] = ()
    reasons: bool = False
    missing: float = 0.0
    visits: Literal["row", "delta", "sequence"] = "row"
    encoder: ClinicalEncoderConfig = field(default_factory=ClinicalEncoderConfig)
    scaling: Literal["standard", "robust"] = "standard"
    steps: int = 600
    rows: int = 256
    lr: float = 3e-3
    weight_decay: float = 1e-4
