"""What training can be told, in dataclasses that load without torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spinmark_models.config import (
    ClinicalEncoderConfig,
    EncoderConfig,
    IntensityRule,
    ProjectionConfig,
)
from spinmark_training.augment.config import AugmentConfig


@dataclass(kw_only=True)
class DataConfig:
    """Which scans are learnt from, and how they are drawn.

    Args:
        sequence: The image sequence, a name of the cohort.
        subjects_per_batch: Subjects in a batch, at most; all their joints come along, two views each.
        cross_visit: Chance that a joint's second view comes from another of its visits, in [0, 1].
        cache_gb: Integer volumes of the training subjects stay in memory when they take less than this.
    """

    sequence: str = "SAG_3D_DESS"
    subjects_per_batch: int = 32
    cross_visit: float = 0.5
    cache_gb: float = 2.0


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW and its learning rate over the run.

    Args:
        steps: Optimiser steps in all; 0 exports the encoder as it was initialised.
        lr: Highest learning rate; above about 2e-3 the encoder of the demo collapsed.
        weight_decay: Decoupled weight decay of the weight matrices and kernels.
        warmup: Share of the steps over which the rate rises linearly, in [0, 1].
        schedule: What follows the rise: a cosine down to zero, or a constant rate.
    """

    steps: int = 110
    lr: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"


@dataclass(kw_only=True)
class TrainerConfig:
    """Where and how the steps run.

    Args:
        accelerator: The device; `auto` takes a GPU when there is one.
        devices: Devices on each node.
        num_nodes: Nodes.
        precision: Lightning's name of the number format.
        threads: CPU threads of torch and of the augmentation; none leaves them as they are. Results are
            bit for bit the same for the same number of threads.
        checkpoint_every_steps: Steps between two checkpoints; the last two are kept.
        log_every: Steps between two rows of the metrics.
    """

    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    devices: int = 1
    num_nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    threads: int | None = None
    checkpoint_every_steps: int = 50
    log_every: int = 5


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


@dataclass(kw_only=True)
class RunConfig:
    """What pretraining and distillation have in common.

    Args:
        seed: Fixes the weights, the order of subjects and every augmentation.
        data: The scans.
        encoder: The image encoder; a run that is continued keeps its own.
        projection: The head between the embedding and the objective.
        intensity: The rule that makes intensities comparable; stored with the encoder.
        augment: The random views.
        objective: The self-supervised objective.
        optim: The optimiser.
        trainer: The device and the bookkeeping.
        monitor: The measurements along the way.
    """

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    intensity: IntensityRule = field(default_factory=IntensityRule)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)


@dataclass(kw_only=True)
class PretrainConfig(RunConfig):
    """Self-supervised pretraining.

    Args:
        seed: Fixes the weights, the order of subjects and every augmentation.
        data: The scans.
        encoder: The image encoder; a run that is continued keeps its own.
        projection: The head between the embedding and the objective.
        intensity: The rule that makes intensities comparable; stored with the encoder.
        augment: The random views.
        objective: The self-supervised objective.
        optim: The optimiser.
        trainer: The device and the bookkeeping.
        monitor: The measurements along the way.
        init_from: A run whose encoder and projection are continued.
    """

    init_from: Path | None = None


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


@dataclass(kw_only=True)
class DistilConfig(RunConfig):
    """Distillation of a clinical teacher into the image encoder.

    Args:
        seed: Fixes the weights, the order of subjects and every augmentation.
        data: The scans.
        encoder: Unused: the encoder of the run that is continued stays.
        projection: The head between the embedding and the objectives.
        intensity: Unused: the rule of the run that is continued stays.
        augment: The random views.
        objective: The self-supervised objective.
        optim: The optimiser.
        trainer: The device and the bookkeeping.
        monitor: The measurements along the way.
        teacher: The clinical encoder.
        ssl_weight: Weight of the self-supervised objective.
        clip_weight: Weight of the contrast between a scan and its table row.
        clip_temperature: Divides the cosine similarities of that contrast.
        distill_term: What else holds the embedding to the teacher: distances between rows, or a cosine.
        distill_weight: Weight of that term.
        shuffle_tables: Give every training subject another's table: a control that must not help.
    """

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    ssl_weight: float = 1.0
    clip_weight: float = 2.0
    clip_temperature: float = 0.15
    distill_term: Literal["relational_distance", "cosine"] = "relational_distance"
    distill_weight: float = 1.0
    shuffle_tables: bool = False


@dataclass(kw_only=True)
class EmbedConfig:
    """How scans become vectors.

    Args:
        sequence: The image sequence; none takes that of the run.
        batch_size: Scans at a time; the result does not depend on it beyond rounding.
        accelerator: The device; `auto` takes a GPU when there is one.
        threads: CPU threads of torch; none leaves them as they are.
    """

    sequence: str | None = None
    batch_size: int = 32
    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    threads: int | None = None
